package policy

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// policies/check.sh runs the same with the opa binary.

const longestLine = 120

// withTests reads the bundle's directory as it is, tests and all.
func withTests(t testing.TB) *bundle.Bundle {
	t.Helper()
	b, err := bundle.NewCustomReader(bundle.NewDirectoryLoader(shippedDir)).
		WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).WithLazyLoadingMode(false).Read()
	if err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestRegoStyle(t *testing.T) {
	for _, m := range withTests(t).Modules {
		formatted, err := format.SourceWithOpts(m.Path, m.Raw, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(formatted, m.Raw) {
			t.Errorf("%s is not formatted; run opa fmt -w policies", m.Path)
		}
		for i, line := range strings.Split(string(m.Raw), "\n") {
			if len(line) > longestLine {
				t.Errorf("%s:%d has %d characters", m.Path, i+1, len(line))
			}
		}
		dir := "data" + strings.ReplaceAll(m.Path[:strings.LastIndex(m.Path, "/")], "/", ".")
		if pkg := strings.TrimSuffix(m.Parsed.Package.Path.String(), "_test"); pkg != dir {
			t.Errorf("%s: package %s is not where its name says", m.Path, pkg)
		}
	}
}

func TestRegoChecks(t *testing.T) {
	g := newGate()
	modules := map[string]*ast.Module{}
	for _, m := range withTests(t).Modules {
		modules[m.Path] = m.Parsed
	}
	c := ast.NewCompiler().WithStrict(true).WithCapabilities(g.capabilities).WithSchemas(g.schemas).WithUseTypeCheckAnnotations(true)
	if c.Compile(modules); c.Failed() {
		t.Fatal(c.Errors)
	}
}

// Every shipped rule is run by a Rego test, so a team that changes one sees
// what it breaks with plain opa.
func TestRegoTests(t *testing.T) {
	b := withTests(t)
	modules := map[string]*ast.Module{}
	for _, m := range b.Modules {
		modules[m.Path] = m.Parsed
	}
	store := inmem.NewFromObject(b.Data)
	coverage := cover.New()
	results, err := tester.NewRunner().SetTimeout(time.Minute).SetStore(store).SetModules(modules).SetCoverageQueryTracer(coverage).
		RunTests(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for r := range results {
		n++
		if !r.Pass() {
			t.Errorf("%s", r)
		}
	}
	if n < 50 {
		t.Errorf("only %d tests were found", n)
	}
	for file, f := range coverage.Report(modules).Files {
		if strings.HasSuffix(file, "_test.rego") {
			continue
		}
		for _, r := range f.NotCovered {
			t.Errorf("%s:%d is not covered by a test", file, r.Start.Row)
		}
	}
}

// Nothing that only tests need is part of the bundle that decides.
func TestNoTestsAreLoaded(t *testing.T) {
	b, err := loadMain("")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range b.Modules {
		if strings.HasSuffix(m.Path, "_test.rego") {
			t.Errorf("%s is part of the bundle", m.Path)
		}
	}
	if _, err := fs.Stat(os.DirFS(shippedDir), "check.sh"); err != nil {
		t.Error(err)
	}
}
