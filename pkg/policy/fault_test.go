package policy

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Everything that is wrong with several bundles is told at once: of each where it
// is on disk, in which file and line, and what to do.
func TestFaultsAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{
		"parses/a.rego":     "package custom.parses\n\ndeny contains 1 if {\n",
		"refs/.manifest":    `{"revision": "1", "roots": ["custom/refs"]}`,
		"refs/sub/a.rego":   "package custom.refs\n\ndeny contains 1 if input.hots\n\ndeny contains 2 if input.now.year\n",
		"unnamed/.manifest": `{"roots": ["custom/unnamed"]}`,
		"unnamed/a.rego":    "package custom.unnamed\n",
		"outside/.manifest": `{"revision": "1", "roots": ["host"]}`,
		"outside/a.rego":    "package host\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := New(t.Context(), Options{Custom: []string{path("refs"), path("parses"), path("unnamed"), path("outside"), path("gone")}})
	var got Faults
	if !errors.As(err, &got) {
		t.Fatal(err)
	}
	want := Faults{
		{Name: "gone", Bundle: path("gone"), Message: "no such file or directory", Remedy: "name a directory, or a .tar.gz that sallyport policy build or opa build wrote"},
		{Name: "outside", Bundle: path("outside"), Message: `root "host" is not its to own`, Remedy: "in its .manifest, roots may be custom, custom/... and system/log"},
		{Name: "parses", Bundle: path("parses"), File: path("parses/a.rego"), Line: 4, Message: "rego_parse_error: unexpected eof token", Remedy: "correct the rule"},
		{Name: "refs", Bundle: path("refs"), File: path("refs/sub/a.rego"), Line: 3, Message: "rego_type_error: undefined ref: input.hots", Remedy: "there it can be call, host, limits, network, now, ops, subject, usage, version"},
		{Name: "refs", Bundle: path("refs"), File: path("refs/sub/a.rego"), Line: 5, Message: "rego_type_error: undefined ref: input.now.year", Remedy: "correct the rule"},
		{Name: "unnamed", Bundle: path("unnamed"), Message: ".manifest names no revision, so a decision could not say by what it was made", Remedy: `add "revision": "1", or have sallyport policy build write it`},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Fault{}, "Column")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text := got[3].Error(); text != path("refs/sub/a.rego")+":3: rego_type_error: undefined ref: input.hots (there it can be call, host, limits, network, now, ops, subject, usage, version)" {
		t.Errorf("as an error: %s", text)
	}
}
