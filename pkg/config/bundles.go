package config

import (
	"crypto/x509"
	"encoding/pem"
	"net/url"
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
	Name    string
	Path    string   // of a directory or a .tar.gz
	Signing *Signing `json:",omitempty"` // nil: as policy.require_signed says
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
		"bundles": l.named("policy.bundles", func(name string, v value) {
			p.Bundles = append(p.Bundles, l.bundleSource(name, v))
		}),
	}
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
	if !ok || k.Key == "" || k.Secret() {
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

func (l *loader) bundleSource(name string, v value) BundleSource {
	b := BundleSource{Name: name}
	var resource string
	var at place
	v.object(fields{
		"resource": located(&at, text(&resource, filled)),
		"signing":  signing(&b.Signing),
	}, "resource")
	if slices.Contains(reservedBundles, name) {
		v.fail(faultf("give the bundle another name", "%q is the name of the data from policy.yml", name))
	}
	path, isFile := strings.CutPrefix(resource, "file://")
	switch {
	case resource == "":
	case !isFile:
		at.fail(faultf("write file:// and a path, relative to the configuration directory or from /", "%q names no file", resource))
	default:
		if unescaped, err := url.PathUnescape(path); err == nil {
			path = unescaped
		}
		b.Path = l.mustExist(path, at)
	}
	return b
}

func signing(p **Signing) field {
	return func(v value) {
		s := &Signing{}
		v.object(fields{"keyid": text(&s.KeyID, filled), "scope": text(&s.Scope)})
		*p = s
	}
}

// checkBundles is what no single value of policy: shows.
func (l *loader) checkBundles(p *PolicySettings, v vault) {
	for _, id := range sortedKeys(p.Keys) {
		if key := p.Keys[id]; key.Secret() && key.Key != "" {
			if f := v.haveSecret(key.Key); f != nil {
				l.origins.at("policy.keys." + id).fail(f)
			}
		}
	}
	if p.RequireSigned && len(p.Keys) == 0 {
		l.origins.at("policy.require_signed").fail(faultf("add the public key of whoever signs to policy.keys", "there is no key to verify signatures with"))
	}
	if p.RequireSigned && p.Bundle == "" && len(p.Custom) == 0 && len(p.Bundles) == 0 {
		l.origins.at("policy.require_signed").warn(faultf("name bundles, or remove it", "there is no bundle but the embedded one, which has no signature"))
	}
	for _, b := range p.Bundles {
		at := l.origins.at("policy.bundles." + b.Name)
		if b.Name == MainBundle && p.Bundle != "" {
			at.fail(faultf("keep one of the two", "policy.bundle names that bundle, too"))
		}
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
}

// MainBundle is the name of the bundle with the entry point, the embedded one's
// and that of what takes its place.
const MainBundle = "sallyport"
