package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// BundleKey is what signatures of bundles are verified with, by the names of
// OPA's own configuration. Key is the public key itself, in PEM, or with one of
// the HS algorithms the reference of a secret.
type BundleKey struct {
	Algorithm string
	Key       string
	Scope     string
}

// Secret says that the key is the reference of a secret.
func (k BundleKey) Secret() bool { return strings.HasPrefix(k.Algorithm, "HS") }

// Signing says what the signature of one bundle has to be like. Without a KeyID
// it may be by any of the keys.
type Signing struct {
	KeyID string
	Scope string
}

// BundleSource is a bundle that is listed by name: the shipped one's, to take
// its place, or that of one beside it.
type BundleSource struct {
	Name     string
	Path     string   // of a directory or a .tar.gz; empty for one that a service has
	Service  string   // the name of one
	Resource string   // the path there, or the reference in a registry
	Polling  Polling  // how often to ask
	Persist  bool     // keep what decides below state_dir
	Limit    int      // bytes, unpacked
	Signing  *Signing `json:",omitempty"` // nil: as policy.require_signed says
}

// Polling is how long to wait between two questions for a newer bundle, and how
// long a service may hold its answer back until there is one; 0 for not at all.
type Polling struct {
	MinDelay, MaxDelay, LongPoll int // seconds
}

// BundleService is a server of bundles, by the names of OPA's own configuration.
type BundleService struct {
	URL      string
	OCI      bool
	Headers  int    // seconds until its answer begins
	Download int    // seconds until it is there
	CACert   string // path
	SystemCA bool
	Token    string // reference of a secret
	Scheme   string
	Cert     string // path
	Key      string // below keys/
}

// signatureAlgorithms are those that OPA verifies bundles with.
var signatureAlgorithms = []string{
	"ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
}

// reservedBundles are names under which decisions give the revision of
// something else.
var reservedBundles = []string{"site"}

// bundleFields are the sections of policy: that name things, beside those in
// the table of settings. viper folds the case of keys, so they go past it.
func (l *loader) bundleFields(p *PolicySettings) fields {
	return fields{
		"keys": l.named("policy.keys", func(name string, v value) {
			key := BundleKey{Algorithm: "RS256"}
			l.bundleKey(&key, v)
			p.Keys[name] = key
		}),
		"services": l.named("policy.services", func(name string, v value) {
			p.Services[name] = l.bundleService(v)
		}),
		"bundles": l.bundleSources("policy", &p.Bundles),
	}
}

func (l *loader) bundleSources(section string, p *[]BundleSource) field {
	return l.named(section+".bundles", func(name string, v value) {
		*p = append(*p, l.bundleSource(name, v))
	})
}

// named reads a mapping from names that the operator chooses.
func (l *loader) named(section string, each func(name string, v value)) field {
	return func(v value) {
		l.origins.made[section] = v.place
		v.entries(func(key, val value) {
			l.origins.made[section+"."+key.node.Value] = val.place
			if f := name(maxAlias)(key.node.Value); f != nil {
				key.fail(f)
			} else if val.given() {
				each(key.node.Value, val)
			}
		})
	}
}

func (l *loader) bundleKey(k *BundleKey, v value) {
	var at place
	ok := v.object(fields{
		"algorithm": text(&k.Algorithm, oneOf(signatureAlgorithms...)),
		"key":       located(&at, prose(&k.Key)),
		"scope":     text(&k.Scope),
	}, "key")
	if !ok || k.Key == "" {
		return
	}
	if k.Secret() {
		ref := k.Key
		l.later = append(l.later, func(v vault) {
			if f := v.haveSecret(ref); f != nil {
				at.fail(f)
			}
		})
		return
	}
	if !strings.Contains(k.Key, "-----BEGIN") {
		data, err := readFile(l.relative(k.Key), maxKeyFile)
		if err != nil {
			at.fail(asFault(err, "name the file with the public key, relative to the configuration directory, or write the key itself"))
			return
		}
		k.Key = string(data)
	}
	if f := publicKey(k.Key); f != nil {
		at.fail(f)
	}
}

// publicKey is a public key, or a certificate with one, in PEM. With a private
// one here, whoever reads the configuration could sign.
func publicKey(text string) *fault {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return faultf("write what openssl pkey -pubout prints", "is not a public key in PEM")
	}
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		_, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		_, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		_, err = x509.ParseCertificate(block.Bytes)
	default:
		return faultf("keep that with whoever signs, and write what openssl pkey -pubout prints of it", "holds a %s, not a public key", strings.ToLower(block.Type))
	}
	if err != nil {
		return faultf("write what openssl pkey -pubout prints", "is not a public key in PEM: %v", err)
	}
	return nil
}

func (l *loader) bundleService(v value) BundleService {
	s := BundleService{Headers: 10, Download: 60, Scheme: "Bearer"}
	var kind string
	var ca, cert place
	v.object(fields{
		"url":                             text(&s.URL, serviceURL),
		"type":                            text(&kind, oneOf("oci")),
		"response_header_timeout_seconds": integer(&s.Headers, 1, 300),
		"download_timeout_seconds":        integer(&s.Download, 1, 3600),
		"tls": func(v value) {
			v.object(fields{
				"ca_cert":            located(&ca, text(&s.CACert, filled)),
				"system_ca_required": boolean(&s.SystemCA),
			}, "ca_cert")
		},
		"credentials": func(v value) {
			v.object(fields{
				"bearer": func(v value) {
					v.object(fields{"token": l.secretReference(&s.Token), "scheme": text(&s.Scheme, name(maxTag))}, "token")
				},
				"client_tls": func(v value) {
					v.object(fields{
						"cert":        located(&cert, text(&s.Cert, filled)),
						"private_key": l.keyReference(&s.Key),
					}, "cert", "private_key")
				},
			})
		},
	}, "url")
	s.OCI = kind == "oci"
	s.CACert, s.Cert = l.mustExist(s.CACert, ca), l.mustExist(s.Cert, cert)
	if s.CACert != "" && !hasCertificates(s.CACert) {
		ca.fail(faultf("name the file with the certificates of the authorities", "%s holds no certificate in PEM", s.CACert))
	}
	l.later = append(l.later, func(v vault) { s.checkPair(v, cert) })
	if strings.HasPrefix(s.URL, "http:") && (s.Token != "" || s.Cert != "") && !isLoopback(hostOf(s.URL)) {
		v.fail(faultf("write https://", "url: without TLS the credentials would be there for everyone to read"))
	}
	return s
}

func hasCertificates(file string) bool {
	text, err := readFile(file, maxFile)
	return err == nil && x509.NewCertPool().AppendCertsFromPEM(text)
}

// checkPair sees that a client's certificate is of its key, where both are there.
func (s BundleService) checkPair(v vault, at place) {
	if s.Cert == "" || s.Key == "" || v.namesOnly || v.haveKey(s.Key) != nil {
		return
	}
	_, err := (Secrets{v}).Certificate(s.Cert, s.Key)
	var f *fault
	switch {
	case errors.As(err, &f):
		at.fail(f)
	case err != nil:
		at.fail(faultf("name the certificate of that key, both in PEM and without a passphrase", "%v", err))
	}
}

// secretReference stores the reference of a secret that can be had.
func (l *loader) secretReference(p *string) field {
	return func(v value) {
		text(p, filled)(v)
		l.later = append(l.later, func(vault vault) {
			if f := vault.haveSecret(*p); *p != "" && f != nil {
				v.fail(f)
			}
		})
	}
}

// keyReference stores the path of a private key below keys/.
func (l *loader) keyReference(p *string) field {
	return func(v value) {
		text(p, filled)(v)
		l.later = append(l.later, func(vault vault) {
			if f := vault.haveKey(*p); *p != "" && f != nil {
				v.fail(f)
			}
		})
	}
}

// serviceURL is the address of a server, without anything that is secret.
func serviceURL(s string) *fault {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return faultf("write https:// and the name of the server", "%q is not the address of a server", s)
	case u.User != nil:
		return faultf("write it as credentials.bearer", "has a user in it")
	case u.RawQuery != "" || u.Fragment != "":
		return faultf("write the path alone", "has a query or a fragment in it")
	}
	return nil
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), u.Port())
}

func (l *loader) bundleSource(name string, v value) BundleSource {
	b := BundleSource{Name: name, Persist: true, Limit: 256 << 20, Polling: Polling{MinDelay: 60, MaxDelay: 120}}
	var at place
	if !v.object(fields{
		"resource":         located(&at, text(&b.Resource, filled)),
		"service":          text(&b.Service),
		"signing":          signing(&b.Signing),
		"persist":          boolean(&b.Persist),
		"size_limit_bytes": integer(&b.Limit, 1<<10, 4<<30),
		"polling":          polling(&b.Polling),
	}) {
		return b
	}
	if slices.Contains(reservedBundles, name) {
		v.fail(faultf("give the bundle another name", "%q is the name of the data from policy.yml", name))
	}
	path, isFile := strings.CutPrefix(b.Resource, "file://")
	switch {
	case isFile && b.Service != "":
		at.fail(faultf("remove service, or name a path of the server", "is a file, which no service has"))
	case isFile:
		if unescaped, err := url.PathUnescape(path); err == nil {
			path = unescaped
		}
		b.Path, b.Resource = l.mustExist(path, at), ""
	case b.Service == "":
		v.fail(faultf("name one of policy.services as service, or write resource: file://PATH", "comes from nowhere"))
	case strings.ContainsAny(b.Resource, "?#"):
		at.fail(faultf("write the path alone", "has a query or a fragment in it"))
	case b.Resource == "":
		b.Resource = "bundles/" + name
	}
	return b
}

func polling(p *Polling) field {
	return func(v value) {
		v.object(fields{
			"min_delay_seconds":            integer(&p.MinDelay, 1, 86_400),
			"max_delay_seconds":            integer(&p.MaxDelay, 1, 86_400),
			"long_polling_timeout_seconds": integer(&p.LongPoll, 1, 3600),
		})
		checkDelays(v.place, p.MinDelay, p.MaxDelay)
	}
}

// checkDelays sees that two delays, in seconds, leave something between them.
func checkDelays(at place, least, most int) {
	if least > most {
		at.fail(faultf("write both", "min_delay_seconds is %d, and max_delay_seconds %d", least, most))
	}
}

func signing(p **Signing) field {
	return func(v value) {
		s := &Signing{}
		v.object(fields{"keyid": text(&s.KeyID, filled), "scope": text(&s.Scope)})
		*p = s
	}
}

// checkBundles is what no single value of policy: and shadow: shows.
func (l *loader) checkBundles(s *Settings, v vault) {
	p := &s.Policy
	for _, check := range l.later {
		check(v)
	}
	if p.RequireSigned && len(p.Keys) == 0 {
		l.origins.at("policy.require_signed").fail(faultf("add the public key of whoever signs to policy.keys", "there is no key to verify signatures with"))
	}
	if p.RequireSigned && p.Bundle == "" && len(p.Custom) == 0 && len(p.Bundles) == 0 {
		l.origins.at("policy.require_signed").warn(faultf("name bundles, or remove it", "there is no bundle but the embedded one, which has no signature"))
	}
	p.Bundles = l.checkSources("policy", p.Bundle, p.Bundles, p)
	s.Shadow.Bundles = l.checkSources("shadow", s.Shadow.Bundle, s.Shadow.Bundles, p)
}

// checkSources is what no single bundle of a section shows, beside which the
// section names a directory or a file as the main one. A bundle that leads nowhere
// is left out.
func (l *loader) checkSources(section, main string, bundles []BundleSource, p *PolicySettings) []BundleSource {
	for _, b := range bundles {
		at := l.origins.at(section + ".bundles." + b.Name)
		if b.Name == MainBundle && main != "" {
			at.fail(faultf("keep one of the two", "%s.bundle names that bundle, too", section))
		}
		l.checkService(p, b, at)
		if b.Signing == nil {
			continue
		}
		_, known := p.Keys[b.Signing.KeyID]
		switch id := b.Signing.KeyID; {
		case len(p.Keys) == 0:
			at.fail(faultf("add the public key of whoever signs to policy.keys", "signing: there is no key to verify signatures with"))
		case id != "" && !known:
			at.fail(unknownFault(id, "keyid", "policy.keys", sortedKeys(p.Keys)))
		}
	}
	return slices.DeleteFunc(bundles, func(b BundleSource) bool {
		_, served := p.Services[b.Service]
		return b.Path == "" && !served
	})
}

// ociReference is a registry, a repository, and a tag or a digest.
var ociReference = regexp.MustCompile(`^[^/@]+(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$`)

// checkService sees that a bundle's service is there and can have it.
func (l *loader) checkService(p *PolicySettings, b BundleSource, at place) {
	if b.Service == "" {
		return
	}
	service, known := p.Services[b.Service]
	switch {
	case !known:
		at.fail(unknownFault(b.Service, "service", "policy.services", sortedKeys(p.Services)))
	case service.OCI && !ociReference.MatchString(b.Resource):
		at.fail(faultf("write it with the registry and a tag, as in registry.example.com/team/policy:1", "resource %q is not a reference", b.Resource))
	case strings.HasPrefix(service.URL, "http:") && !isLoopback(hostOf(service.URL)) && b.Signing == nil && !p.RequireSigned:
		at.warn(faultf("write https://, or have it signed", "comes without TLS and without a signature, so anyone on the way can write the policy"))
	}
}

// MainBundle is the name of the bundle with the entry point, the embedded one's
// and that of what takes its place.
const MainBundle = "sallyport"
