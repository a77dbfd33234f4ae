// Package kit is what a security team writes policies with: check them, run
// their tests, build, sign and measure them, and begin a repository of them.
//
// It wraps the packages of OPA that the opa binary is made of, so that nobody
// needs a second binary, and gives the answers that stock opa gives to the same
// files; a test runs both and compares. What it adds is what a team would
// otherwise have to pass by hand: the built-ins that policies may use, the
// schemas of what they read, and the shipped policies beside the team's own, so
// that the decision is there to be asked. [Check] also says what the gateway
// would refuse to load.
//
// It lives beside pkg/policy rather than in it because the gateway has no use for
// it. Whoever wants a decision asks an engine of pkg/policy, here too.
package kit

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/policies"
)

// loaded is a team's bundles with the shipped one beside them.
type loaded struct {
	capabilities *ast.Capabilities
	schemas      *ast.SchemaSet
	team         []*bundle.Bundle
	all          *bundle.Bundle // merged
}

// load reads bundles, directories or tarballs, tests and all. The shipped bundle
// joins them unless one of them takes its place.
func load(paths []string) (*loaded, error) {
	l := &loaded{}
	var err error
	if l.capabilities, l.schemas, err = policy.Checks(); err != nil {
		return nil, err
	}
	for _, path := range paths {
		b, err := l.read(path)
		if err != nil {
			return nil, err
		}
		l.team = append(l.team, b)
	}
	bundles := slices.Clone(l.team)
	if !slices.ContainsFunc(l.team, replaces) {
		shipped, err := readShipped()
		if err != nil {
			return nil, err
		}
		bundles = append(bundles, shipped)
	}
	l.all, err = bundle.Merge(bundles)
	return l, err
}

func (l *loaded) read(path string) (*bundle.Bundle, error) {
	b, err := loader.NewFileLoader().WithRegoVersion(ast.RegoV1).WithProcessAnnotation(true).
		WithCapabilities(l.capabilities).WithSkipBundleVerification(true).WithBundleLazyLoadingMode(false).
		WithFilter(hidden).AsBundle(path)
	if err != nil {
		return nil, err
	}
	if b.Manifest.Roots == nil || slices.Contains(*b.Manifest.Roots, "") {
		return nil, fmt.Errorf("bundle %s: %w", path, errNoRoots)
	}
	return b, nil
}

var errNoRoots = errors.New(`.manifest names no roots: list the packages that the bundle owns, as in {"roots": ["custom/night"], "revision": "1", "rego_version": 1}`)

// hidden leaves out what version control keeps beside the files.
func hidden(path string, info fs.FileInfo, _ int) bool {
	return info.IsDir() && info.Name() == ".git"
}

// replaces says that a bundle takes the place of the shipped one.
func replaces(b *bundle.Bundle) bool {
	return slices.ContainsFunc(*b.Manifest.Roots, func(root string) bool {
		return root == "sallyport" || strings.HasPrefix(root, "sallyport/")
	})
}

func readShipped() (*bundle.Bundle, error) {
	b, err := bundle.NewCustomReader(bundle.NewFSLoaderWithRoot(policies.Files, ".").WithFilter(isTest)).
		WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).WithLazyLoadingMode(false).Read()
	return &b, err
}

// isTest leaves out what only tests need.
func isTest(path string, _ fs.FileInfo, _ int) bool { return strings.HasSuffix(path, "_test.rego") }

// modules are all modules, by the file that their locations name: coverage is
// counted by both.
func (l *loaded) modules() map[string]*ast.Module {
	all := make(map[string]*ast.Module, len(l.all.Modules))
	for _, m := range l.all.Modules {
		all[m.Parsed.Package.Loc().File] = m.Parsed
	}
	return all
}

// compiler holds bundles to what the gateway holds them to.
func (l *loaded) compiler() *ast.Compiler {
	return ast.NewCompiler().WithCapabilities(l.capabilities).WithSchemas(l.schemas).
		WithUseTypeCheckAnnotations(true).WithEnablePrintStatements(true)
}

// ofTeam are the modules that the team wrote.
func (l *loaded) ofTeam() []bundle.ModuleFile {
	var all []bundle.ModuleFile
	for _, b := range l.team {
		all = append(all, b.Modules...)
	}
	return all
}

// Options are those of an engine that decides with bundles: beside the shipped
// one, or one of them in its place.
func Options(paths []string) (policy.Options, error) {
	if err := exist(paths); err != nil {
		return policy.Options{}, err
	}
	l, err := load(paths)
	if err != nil {
		return policy.Options{}, err
	}
	return l.options(paths), nil
}

func (l *loaded) options(paths []string) policy.Options {
	o := policy.Options{Custom: slices.Clone(paths)}
	if i := slices.IndexFunc(l.team, replaces); i >= 0 {
		o.Bundle, o.Custom = paths[i], slices.Delete(o.Custom, i, i+1)
	}
	return o
}
