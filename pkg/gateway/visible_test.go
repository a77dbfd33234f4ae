package gateway

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
	"github.com/sallyport/sallyport/pkg/tools"
)

// inventory is a site of several kinds of hosts: the web servers are everybody's,
// the databases the group dba's, on the old ones what is granted is denied, and
// the rest cannot be used: one behind a database, and one that takes no commands.
const inventory = `hosts:
  - {alias: web1, host: web1.internal, credentials: ops, tags: [web, docker], description: First.}
  - {alias: web2, host: web2.internal, credentials: ops, tags: [web]}
  - {alias: db1, host: db1.internal, credentials: ops, tags: [db]}
  - {alias: old1, host: old1.internal, credentials: ops, tags: [web, old]}
  - {alias: web3, host: web3.internal, credentials: ops, tags: [web], via: db1}
  - {alias: router, host: router.internal, credentials: ops, tags: [web], kind: network}
`

const rules = `rules:
  - {action: allow, tags: [web], profile: readonly}
  - {action: allow, tags: [db], groups: [dba], profile: ops}
  - {action: deny, tags: [old], profile: readonly}
limits: {max_seconds: 30, max_output_bytes: 4096, task_result_ttl: 77}
network: {block_ips: [169.254.169.254]}
reload: {local: true}
`

// customRules object to what they see: one to a host, one to whatever ssh_run
// does.
const customRules = `package custom.team

deny contains "web2 is not for agents" if {
	input.host.alias == "web2"
	not "sre" in input.subject.groups
}

deny contains "no commands" if {
	input.call.tool == "ssh_run"
	input.subject.id == "reader"
}
`

// judged is a gateway whose policy is the real one.
func judged(t testing.TB, servers, policyYML, custom string) (*Gateway, *world) {
	t.Helper()
	conf := loadFiles(t, map[string]string{
		"servers.yml":     servers,
		"credentials.yml": "entries:\n  - {name: ops, username: ops, agent: true}\n",
		"policy.yml":      policyYML,
	})
	o := policy.Options{Site: conf.Site(), Timeout: 10 * time.Second}
	if custom != "" {
		o.Custom = []string{writeFiles(t, map[string]string{
			".manifest":             `{"revision": "t1", "roots": ["custom/team"], "rego_version": 1}`,
			"custom/team/team.rego": custom,
		})}
	}
	engine, err := policy.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close(t.Context()) })
	w := newTrail()
	g := New(Options{Tools: tools.All(), Resources: tools.Resources(), Config: conf, Decider: engine, Runner: w, Audit: w, Lookup: w})
	return g, w
}

func writeFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func loadFiles(t testing.TB, files map[string]string) *config.Config {
	t.Helper()
	conf, err := config.Load(config.Options{Dir: writeFiles(t, files), Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func toolNames(tools []*tool.Tool) []string {
	var names []string
	for _, t := range tools {
		names = append(names, t.Name)
	}
	return names
}

func resourceURIs(resources []*tool.Resource) []string {
	var uris []string
	for _, r := range resources {
		uris = append(uris, r.URI)
	}
	return uris
}

func caller(subject string, groups ...string) tool.Caller {
	return tool.Caller{Subject: subject, Groups: groups, Auth: "token", Transport: "http"}
}

// The lists of a caller are what policy would let it do.
func TestVisible(t *testing.T) {
	for name, tc := range map[string]struct {
		rules, custom string
		caller        tool.Caller
		hosts         []string
		without       []string // tools
		few           bool     // tools: only those that no host has a part in
	}{
		"everybody":       {rules, "", caller("dev"), []string{"web1", "web2"}, []string{"ssh_reload_config"}, false},
		"by group":        {rules, "", caller("dev", "dba"), []string{"web1", "web2", "db1", "web3"}, []string{"ssh_reload_config"}, false},
		"may reload":      {rules, "", tool.Caller{Subject: "dev", Auth: "local"}, []string{"web1", "web2"}, nil, false},
		"nothing granted": {"rules: []\n", "", caller("dev"), nil, nil, true},
		"custom, a host":  {rules, customRules, caller("dev"), []string{"web1"}, []string{"ssh_reload_config"}, false},
		"custom, not for a group": {
			rules, customRules, caller("dev", "sre"), []string{"web1", "web2"}, []string{"ssh_reload_config"}, false,
		},
		"custom, a tool": {rules, customRules, caller("reader"), []string{"web1"}, []string{"ssh_reload_config", "ssh_run"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := judged(t, inventory, tc.rules, tc.custom)
			if got := aliasesOf(g.view(tc.caller).hosts()); !slices.Equal(got, tc.hosts) {
				t.Errorf("hosts %v, want %v", got, tc.hosts)
			}
			got := toolNames(g.Tools(t.Context(), tc.caller))
			uris := resourceURIs(g.Resources(t.Context(), tc.caller))
			if tc.few {
				if slices.Contains(got, "ssh_run") || !slices.Contains(got, "ssh_ping") || !slices.Contains(got, "ssh_list_hosts") {
					t.Errorf("tools without any host: %v", got)
				}
				if d := cmp.Diff([]string{"ssh://hosts"}, uris); d != "" {
					t.Error(d)
				}
				return
			}
			want := slices.DeleteFunc(slices.Clone(g.names), func(n string) bool { return slices.Contains(tc.without, n) })
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if len(uris) != len(tools.Resources()) {
				t.Errorf("resources %v", uris)
			}
		})
	}
}

// What a list leaves out cannot be asked about, and what it shows can.
func TestListsHoldWhatCallsAllow(t *testing.T) {
	g, _ := judged(t, inventory, rules, customRules)
	dev := caller("dev")
	var list struct{ Hosts []string }
	into(t, g.Call(t.Context(), dev, "ssh_list_hosts", json.RawMessage(`{}`), nil), &list)
	for _, h := range g.config.Load().Hosts {
		listed := slices.Contains(list.Hosts, h.Alias)
		args := json.RawMessage(fmt.Sprintf(`{"alias":%q}`, h.Alias))
		if r := g.Call(t.Context(), dev, "ssh_describe_host", args, nil); r.IsError == listed {
			t.Errorf("%s is listed: %v; asked about it: %s", h.Alias, listed, r.Text)
		}
		for _, part := range []string{"", "/tags", "/capabilities"} {
			r := g.Read(t.Context(), dev, "ssh://host/"+h.Alias+part)
			if r.Missing == listed || (r.Contents != nil) != listed {
				t.Errorf("%s is listed: %v; %q read: %+v", h.Alias, listed, part, r)
			}
		}
	}
}

// A run on a tag is on the caller's hosts of that tag; the others are not named,
// not even as refused.
func TestRunsOnATagNameNoHiddenHost(t *testing.T) {
	g, w := judged(t, inventory, rules, "")
	for _, name := range []string{"web1.internal", "web2.internal", "web3.internal", "old1.internal", "router.internal"} {
		w.names[name] = []string{"10.0.0.1"}
	}
	r := g.Call(t.Context(), caller("dev"), "ssh_run_on_tag", json.RawMessage(`{"tag":"web","command":"uptime; id"}`), nil)
	var result struct {
		Results []struct {
			Alias  string
			Denied bool
		}
	}
	into(t, r, &result)
	var named []string
	for _, e := range result.Results {
		named = append(named, e.Alias)
		if !e.Denied {
			t.Errorf("%s: not refused", e.Alias)
		}
	}
	if !slices.Equal(named, []string{"web1", "web2"}) {
		t.Errorf("named are %v", named)
	}
}

// A view lasts a moment, and not over a change of what it was made from.
func TestViewsAreNotStale(t *testing.T) {
	w, g := newWorld(t)
	now := time.Unix(1000, 0)
	g.now = func() time.Time { return now }
	look := func() int {
		w.asked = 0
		g.view(agent).hosts()
		return w.asked
	}
	if n := look(); n != 3 {
		t.Errorf("%d questions for hosts of two classes, one of them with a jump host", n)
	}
	if n := look(); n != 0 {
		t.Errorf("%d questions a moment later", n)
	}
	if g.config.Store(loadConfig(t)); look() == 0 {
		t.Error("no questions after a reload")
	}
	if now = now.Add(viewTime); look() == 0 {
		t.Error("no questions after the time of a view")
	}
	now = now.Add(viewTime)
	if w.facts = []string{"tags"}; look() != 3 {
		t.Errorf("%d questions when policy looks at tags", w.asked)
	}
	now = now.Add(viewTime)
	if w.facts = []string{"hostname", "tags"}; look() != 4 {
		t.Errorf("%d questions when policy looks at names", w.asked)
	}
	other := agent
	other.Groups = []string{"sre"}
	w.asked = 0
	if g.view(other).hosts(); w.asked == 0 {
		t.Error("another caller is shown the same without a question")
	}
	for i := range 3 * manyViews {
		other.Client.Name = fmt.Sprint(i)
		g.view(other)
	}
	if n := len(g.views.all); n > 2*manyViews {
		t.Errorf("%d views are kept", n)
	}
}

func TestListsOfManyHostsAreQuick(t *testing.T) {
	for name, custom := range map[string]string{
		"shipped":           "",
		"rules about tags":  "package custom.team\n\ndeny contains \"not yours\" if {\n\t\"t7\" in input.host.tags\n\tinput.subject.id != \"root\"\n}\n",
		"rules about tools": "package custom.team\n\ndeny contains \"no\" if input.call.tool == \"ssh_ping\"\n",
	} {
		g, _ := judged(t, manyHosts(10_000), "rules:\n  - {action: allow, tags: [\"t*\"], profile: readonly}\n", custom)
		begun := time.Now()
		hosts := g.view(agent).hosts()
		took := time.Since(begun)
		want := 10_000
		if name == "rules about tags" {
			want -= 500
		}
		if len(hosts) != want {
			t.Errorf("%s: %d hosts, want %d", name, len(hosts), want)
		}
		t.Logf("%s: %s", name, took)
		if took > time.Second { // 100 ms and less on a machine that does nothing else
			t.Errorf("%s: %s for a list", name, took)
		}
	}
}

func manyHosts(n int) string {
	var b strings.Builder
	b.WriteString("hosts:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {alias: h%d, host: 10.%d.%d.1, credentials: ops, tags: [t%d]}\n", i, i/250, i%250, i%20)
	}
	return b.String()
}

func into(t *testing.T, r Result, to any) {
	t.Helper()
	b, err := json.Marshal(r.Structured)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}
