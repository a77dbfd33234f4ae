package policy_test

import (
	"bufio"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// corpusCase is a line of a command corpus; testdata/corpus/README.md describes
// it.
type corpusCase struct {
	ID      string `json:"id"`
	Class   string `json:"class"`
	Command string `json:"command"`
	Context string `json:"policy_context"`
	Expect  string `json:"expect"`
	Why     string `json:"why"`
}

func readCorpus(t testing.TB, path string) []corpusCase {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []corpusCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c corpusCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}

// profileSite has one host for each profile, called like it.
func profileSite(profiles ...string) policy.Site {
	s := policy.Site{
		Version: policy.SiteVersion,
		Hosts:   map[string]policy.SiteHost{},
		Classes: map[string]policy.SiteClass{},
		Limits:  policy.SiteLimits{Seconds: 60, OutputBytes: 1 << 20, Concurrent: 4},
	}
	for i, p := range profiles {
		s.Hosts[p] = policy.SiteHost{Class: p, Limits: s.Limits}
		s.Classes[p] = policy.SiteClass{Allow: policy.SiteGrants{
			Any: map[string]policy.SiteGrant{p: {Rule: "rules[" + string(rune('0'+i)) + "]", Line: i + 1}},
		}}
	}
	return s
}

func runTool() *tool.Tool { return &tool.Tool{Name: "ssh_run", Set: "fleet", Effect: tool.Execute} }

// runFacts is a command line on a host.
func runFacts(alias, line string) policy.Facts {
	address := netip.MustParseAddr("10.0.0.11")
	return policy.Facts{
		CallID: "01JD0000000000000000000000",
		Tool:   runTool(),
		Caller: tool.Caller{
			Subject: "agent-7", Groups: []string{"aiops"}, Auth: "local", Transport: "stdio",
			Client: tool.Client{Name: "claude-code", Version: "2.1.329"},
		},
		Plan: tool.Plan{Scope: tool.Scope{Alias: alias}, Steps: []tool.Step{tool.RunLine(line)}},
		Target: tool.Target{
			Alias: alias, Hostname: alias + ".internal", Port: 22, User: "ops", Kind: "posix", Source: "inventory",
			Auth: "key", Tags: []string{"production"}, Addresses: []netip.Addr{address}, Address: address,
		},
		Digest: "digest",
		Now:    time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
	}
}

func newEngine(t testing.TB, o policy.Options) *policy.Engine {
	t.Helper()
	e, err := policy.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(t.Context()) })
	return e
}

func TestCorpus(t *testing.T) {
	e := newEngine(t, policy.Options{Site: profileSite("readonly", "diagnose", "ops")})
	for _, file := range []string{filepath.Join("..", "..", "testdata", "corpus", "commands-dev.jsonl")} {
		var overblocked, wronglyAllowed int
		for _, c := range readCorpus(t, file) {
			d := e.Decide(t.Context(), policy.NewInput(runFacts(c.Context, c.Command)), policy.Mark{Mode: "run"})
			switch {
			case d.Allow && c.Expect == "deny":
				wronglyAllowed++
				t.Errorf("%s: allowed in %s: %q (%s)", c.ID, c.Context, c.Command, c.Why)
			case !d.Allow && c.Expect == "allow":
				overblocked++
				t.Errorf("%s: denied in %s: %q (%s): %v", c.ID, c.Context, c.Command, c.Why, d.Reasons)
			}
		}
		t.Logf("%s: %d wrongly allowed, %d wrongly denied", file, wronglyAllowed, overblocked)
	}
}
