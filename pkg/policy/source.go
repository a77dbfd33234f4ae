package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// Key is what signatures of bundles are verified with.
type Key struct {
	Algorithm string // as JWTs call it, such as ES256
	Scope     string // that the signature must have
	// Text is the public key in PEM, or the secret of an HS algorithm. It is
	// asked each time a bundle is read.
	Text func() (string, error)
}

// Signing says what the signature of a bundle has to be like, which it must
// have then.
type Signing struct {
	KeyID string // of the key that must have made it; empty for any
	Scope string // in place of the key's
}

// Source is where a bundle comes from: a place on disk, or a server.
type Source struct {
	// Name is that under which decisions give the bundle's revision. The one
	// called sallyport takes the place of the shipped one.
	Name    string
	Path    string // of a directory or a .tar.gz
	Signing *Signing

	Service  *Service // nil: it is on disk
	Resource string   // its path there, or with OCI its whole reference
	// MinDelay and MaxDelay are how long it may be between two questions for a
	// newer one. With LongPoll, a server that can holds the answer back for so
	// long until there is one.
	MinDelay, MaxDelay, LongPoll time.Duration
	Limit                        int64 // bytes that it may have, unpacked; default maxImage
	Persist                      bool  // keep what decides, to start from where the server is away
}

// shipped says that a source is what comes with the program.
func (s Source) shipped() bool {
	return s.Name == mainBundleName && s.Path == "" && s.Service == nil
}

// where tells a reader of faults where a bundle is.
func (s Source) where() string {
	switch {
	case s.Service == nil:
		return s.Path
	case s.Service.OCI:
		return s.Resource
	}
	return strings.TrimSuffix(s.Service.URL, "/") + "/" + strings.TrimPrefix(s.Resource, "/")
}

func (s Source) limit() int64 { return cmp.Or(s.Limit, maxImage) }

// sourcesOf are all bundles but the site's, the one that decides first. Its path
// is empty for the shipped one.
func sourcesOf(o Options) []Source {
	all := slices.Clone(o.Bundles)
	for _, path := range o.Custom {
		all = append(all, Source{Name: bundleName(path), Path: path})
	}
	main := Source{Name: mainBundleName, Path: o.Bundle}
	if i := slices.IndexFunc(all, func(s Source) bool { return s.Name == mainBundleName }); i >= 0 && o.Bundle == "" && i < len(o.Bundles) {
		main = all[i]
		all = slices.Delete(all, i, i+1)
	}
	return append([]Source{main}, all...)
}

// seal is how signatures are verified.
type seal struct {
	keys     map[string]Key
	required bool
}

// verification is OPA's own way to say what a bundle's signature has to be like;
// nil where no keys are known and no signature is looked at.
func (s seal) verification(of Source) (*bundle.VerificationConfig, error) {
	if len(s.keys) == 0 && !s.required && of.Signing == nil {
		return nil, nil
	}
	known := make(map[string]*bundle.KeyConfig, len(s.keys))
	for id, key := range s.keys {
		text, err := key.Text()
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", id, err)
		}
		known[id] = &bundle.KeyConfig{Key: text, Algorithm: key.Algorithm, Scope: key.Scope}
	}
	var want Signing
	if of.Signing != nil {
		want = *of.Signing
	}
	v := bundle.NewVerificationConfig(known, want.KeyID, want.Scope, nil)
	if !s.required && of.Signing == nil {
		v = v.WithOptionalSignature()
	}
	return v, nil
}
