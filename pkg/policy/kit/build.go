package kit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/compile"
	"github.com/open-policy-agent/opa/v1/keys"

	"github.com/sallyport/sallyport/pkg/policy"
)

// Built says what a bundle is that was written.
type Built struct {
	File     string   `json:"file"`
	Revision string   `json:"revision"`
	Roots    []string `json:"roots"`
	Files    []string `json:"files"`
	Signed   bool     `json:"signed"`
}

// Build makes the bundle in a directory one file, as `opa build` does in there,
// without the tests: where the directory is cannot be told from the bundle. Without
// a revision it is that of the manifest.
func Build(ctx context.Context, dir, revision, out string) (Built, error) {
	c, err := compiling()
	if err != nil {
		return Built{}, err
	}
	c = c.WithFS(os.DirFS(dir)).WithPaths(".").WithFilter(func(path string, info fs.FileInfo, depth int) bool {
		return isTest(path, info, depth) || hidden(path, info, depth)
	})
	return build(ctx, c, revision, out)
}

// BuildShipped makes the shipped bundle one file, for the CI of those who test
// against it with stock opa.
func BuildShipped(ctx context.Context, out string) (Built, error) {
	c, err := compiling()
	if err != nil {
		return Built{}, err
	}
	shipped, err := readShipped()
	if err != nil {
		return Built{}, err
	}
	return build(ctx, c.WithBundle(shipped), "", out)
}

func compiling() (*compile.Compiler, error) {
	capabilities, _, err := policy.Checks()
	return compile.New().WithCapabilities(capabilities).WithAsBundle(true).WithRegoVersion(ast.RegoV1).
		WithRegoAnnotationEntrypoints(true).WithBundleLazyLoadingMode(false), err
}

var errNoRevision = errors.New("the bundle has no revision, so the gateway would refuse it: give one, or write one into .manifest")

// build writes the file when everything else went well.
func build(ctx context.Context, c *compile.Compiler, revision, out string) (Built, error) {
	var file bytes.Buffer
	if revision != "" {
		c = c.WithRevision(revision)
	}
	if err := c.WithOutput(&file).Build(ctx); err != nil {
		return Built{}, err
	}
	if c.Bundle().Manifest.Revision == "" {
		return Built{}, errNoRevision
	}
	return builtOf(c.Bundle(), out), os.WriteFile(out, file.Bytes(), 0o644)
}

func builtOf(b *bundle.Bundle, out string) Built {
	built := Built{File: out, Revision: b.Manifest.Revision, Roots: *b.Manifest.Roots, Signed: len(b.Signatures.Signatures) > 0}
	for _, m := range b.Modules {
		built.Files = append(built.Files, strings.TrimPrefix(m.URL, "/"))
	}
	slices.Sort(built.Files)
	return built
}

// Key is a key to sign with or to verify by. It is always in a file: what is in
// the arguments of a program can be read by others.
type Key struct {
	File      string
	Algorithm string // RS256, ES256, HS256 and so on
	ID        string // the name of the key where the bundle is loaded
}

// text reads the key, and trims what an editor leaves behind a secret.
func (k Key) text() (string, error) {
	if !keys.IsSupportedAlgorithm(k.Algorithm) {
		return "", fmt.Errorf("algorithm %q is none of RS256, ES256, HS256 and their kin", k.Algorithm)
	}
	text, err := os.ReadFile(k.File)
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return "", fmt.Errorf("key %s is empty", k.File)
	}
	return strings.TrimSpace(string(text)), nil
}

// Sign signs a built bundle as `opa build` does, and writes it with its
// signature.
func Sign(file, out string, key Key) (Built, error) {
	text, err := key.text()
	if err != nil {
		return Built{}, err
	}
	b, err := readFile(file, nil)
	if err != nil {
		return Built{}, err
	}
	if err := b.GenerateSignature(bundle.NewSigningConfig(text, key.Algorithm, ""), key.ID, false); err != nil {
		return Built{}, fmt.Errorf("sign %s: %w", file, err)
	}
	var signed bytes.Buffer
	if err := bundle.NewWriter(&signed).Write(*b); err != nil {
		return Built{}, err
	}
	return builtOf(b, out), os.WriteFile(out, signed.Bytes(), 0o644)
}

// Verify says whether a bundle carries a signature by a key, and what it is.
func Verify(file string, key Key) (Built, error) {
	text, err := key.text()
	if err != nil {
		return Built{}, err
	}
	config := bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{key.ID: {Key: text, Algorithm: key.Algorithm}}, key.ID, "", nil)
	b, err := readFile(file, config)
	if err != nil {
		return Built{}, err
	}
	return builtOf(b, file), nil
}

var errDirectory = errors.New("is a directory; what is deployed is signed, so build it first")

// readFile reads a built bundle, and verifies it if there is something to verify
// it by.
func readFile(file string, verify *bundle.VerificationConfig) (*bundle.Bundle, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return nil, errors.Join(err, fmt.Errorf("%s %w", file, errDirectory))
	}
	b, err := bundle.NewCustomReader(bundle.NewTarballLoaderWithBaseURL(f, "")).
		WithRegoVersion(ast.RegoV1).WithProcessAnnotations(true).WithLazyLoadingMode(false).
		WithSkipBundleVerification(verify == nil).WithBundleVerificationConfig(verify).Read()
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", file, err)
	}
	return &b, nil
}
