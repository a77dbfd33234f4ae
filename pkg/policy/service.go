package policy

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins/rest"
)

// Service is a server of bundles, or one that takes decision logs.
type Service struct {
	URL string // with https:// or http://
	OCI bool   // it is a registry
	// Headers is how long it may take to begin an answer, and Timeout to end it.
	Headers, Timeout time.Duration
	CACert           string // path of the authorities it may be certified by; empty for the system's
	SystemCAs        bool   // those of the system, too
	// Token, where there is one, is asked for each time and sent under Scheme,
	// such as Bearer.
	Token  func() (string, error)
	Scheme string
	// Certificate, where there is one, shows who asks.
	Certificate func() (*tls.Certificate, error)
}

// client is OPA's client of a service, with a plugin to make its connections.
func (s *Service) client(name string, connects rest.HTTPAuthPlugin, logger *slog.Logger) (rest.Client, error) {
	kind := ""
	if s.OCI {
		kind = "oci"
	}
	config, err := json.Marshal(map[string]any{
		"name": name, "url": s.URL, "type": kind,
		"response_header_timeout_seconds": int64(s.Headers / time.Second),
		"tls":                             map[string]any{"ca_cert": s.CACert, "system_ca_required": s.SystemCAs},
		"credentials":                     map[string]any{"plugin": "sallyport"},
	})
	if err != nil {
		return rest.Client{}, err
	}
	return rest.New(config, nil,
		rest.AuthPluginLookup(func(string) rest.HTTPAuthPlugin { return connects }),
		rest.Logger(discreetLogger{opaLogger{logger}}))
}

// connect is how to reach a service, with its transport beside it.
func (s *Service) connect(c rest.Config) (*http.Client, *http.Transport, error) {
	t, err := rest.DefaultTLSConfig(c)
	if err != nil {
		return nil, nil, err
	}
	if show := s.Certificate; show != nil {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return show() }
	}
	client := rest.DefaultRoundTripperClient(t, *c.ResponseHeaderTimeoutSeconds)
	return client, client.Transport.(*http.Transport), nil
}

// sign says who asks. Whom a server sends us on to is not told.
func (s *Service) sign(req *http.Request) error {
	if s.Token == nil || req.Response != nil {
		return nil
	}
	token, err := s.Token()
	if err != nil {
		return err
	}
	if s.OCI { // registries take it so
		token = base64.StdEncoding.EncodeToString([]byte(token))
	}
	req.Header.Set("Authorization", s.Scheme+" "+token)
	return nil
}
