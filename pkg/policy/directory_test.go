package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/policy"
)

// A directory with nothing but packages below custom is a bundle: it owns what
// they are, and its revision is its content's.
func TestDirectoryWithoutManifest(t *testing.T) {
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	team := filepath.Join(t.TempDir(), "team")
	if err := os.Mkdir(team, 0o700); err != nil {
		t.Fatal(err)
	}
	write(team, "hours.rego", "package custom.hours\n\ndeny contains \"not now\" if input.host.alias == \"web3\"\n")
	write(team, "hours_test.rego", "package custom.hours_test\n\ntest_x if true\n")
	other := filepath.Join(filepath.Dir(team), "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	write(other, "b.rego", "package custom.other\n\npermit contains op if {\n\tsome op in input.ops\n\top.action == \"log.read\"\n}\n")
	e := newEngine(t, policy.Options{Site: sizedSite(10, 10), Custom: []string{team, other}})
	d := e.Decide(t.Context(), policy.NewInput(runFacts("web3", "uptime")), policy.Mark{Mode: "run"})
	if d.Allow || !strings.HasPrefix(d.Bundles["team"], "sha256:") || len(d.Reasons) != 1 || !strings.HasSuffix(d.Reasons[0].Detail, "not now") {
		t.Errorf("%+v", d)
	}
	write(team, "hours.rego", "package custom.hours\n\ndeny contains \"never\" if input.host.alias == \"web3\"\n")
	if err := e.Reload(t.Context(), sizedSite(10, 10)); err != nil {
		t.Fatal(err)
	}
	if again := e.Revisions()["team"]; again == d.Bundles["team"] {
		t.Errorf("the revision is still %s", again)
	}

	for text, says := range map[string]string{
		"package mine\n\nx := 1\n": "package mine: only what is below custom counts",
		"package custom.hours\n\ndeny contains \"x\" if input.nonsense\n":     filepath.Join(team, "hours.rego") + ":3",
		"package sallyport.command\n\npermits(op) if op\n":                    "package sallyport.command: only what is below custom",
		"package custom.hours\n\ndeny contains \"x\" if {\n":                  "hours.rego",
		"package system.log\n\nmask contains \"/input/subject/id\" if true\n": "",
	} {
		write(team, "hours.rego", text)
		e, err := policy.New(t.Context(), policy.Options{Site: sizedSite(10, 10), Custom: []string{team}})
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
		if err == nil {
			e.Close(t.Context())
		}
	}
}
