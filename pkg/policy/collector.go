package policy

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins/rest"
)

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

// Collector is a service that takes decision logs in OPA's form.
type Collector struct {
	service  *Service
	resource string
	client   rest.Client

	connecting sync.Mutex
	connected  *http.Client // nil until it is needed
}

// NewCollector is the collector at a path of a service, which has a name for
// messages. Nothing is asked of it yet.
func NewCollector(name string, s *Service, resource string, logger *slog.Logger) (*Collector, error) {
	c := &Collector{service: s, resource: resource}
	var err error
	c.client, err = s.client(name, c, logger)
	return c, err
}

// NotTaken is the answer of a collector that did not take what it was sent.
type NotTaken struct{ Status int } // of HTTP

func (n *NotTaken) Error() string {
	return fmt.Sprintf("it answers %d %s", n.Status, http.StatusText(n.Status))
}

// Post hands over a batch, a gzip'ed JSON array of events. It returns nil once the
// collector has taken it, and a [NotTaken] where it said that it does not.
func (c *Collector) Post(ctx context.Context, batch []byte) error {
	limited, cancel := context.WithTimeoutCause(ctx, c.service.Timeout, errSlow)
	defer cancel()
	resp, err := c.client.WithHeader("Content-Type", "application/json").WithHeader("Content-Encoding", "gzip").
		WithBytes(batch).Do(limited, http.MethodPost, c.resource)
	if err != nil {
		return causeOf(limited, ctx, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return &NotTaken{resp.StatusCode}
	}
	return nil
}

// NewClient is OPA's hook for how to connect, once for all batches. A collector
// that sends on to elsewhere has not taken anything.
func (c *Collector) NewClient(config rest.Config) (*http.Client, error) {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	if c.connected != nil {
		return c.connected, nil
	}
	client, _, err := c.service.connect(config)
	if err != nil {
		return nil, err
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.connected = client
	return client, nil
}

// Prepare is OPA's hook for who asks.
func (c *Collector) Prepare(req *http.Request) error { return c.service.sign(req) }

// Close lets go of connections that are kept for the next batch.
func (c *Collector) Close() {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	if c.connected != nil {
		c.connected.CloseIdleConnections()
	}
}
