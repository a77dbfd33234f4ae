package policy_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

const connectPolicy = `
rules:
  - {action: allow, profile: readonly}
  - {action: allow, tags: [lab], profile: diagnose}
files:
  - {action: allow, tags: [lab], subjects: [writer], read: [/srv/**], write: [/srv/**]}
network: {block_cidrs: [10.1.77.0/24]}
connect:
  adhoc:
    - {name: lab, action: allow, hosts: ["*.lab.example", "10.1.*"], cidrs: [10.1.0.0/16], users: [deploy], tags: [lab]}
    - {action: allow, cidrs: [10.2.0.0/16], ports: [2222], groups: [sre], tags: [lab], via: [bastion]}
    - {action: deny, cidrs: [10.1.66.0/24]}
`

// siteOf is what is made of rules, for two hosts.
func siteOf(t *testing.T, rules string) config.Site {
	t.Helper()
	return siteWith(t, "hosts:\n- {alias: bastion, host: bastion.example, credentials: ops}\n"+
		"- {alias: db, host: db.lab.example, credentials: ops}\n", rules)
}

// siteWith is what is made of files of a configuration.
func siteWith(t *testing.T, servers, rules string) config.Site {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"credentials.yml": "entries: [{name: ops, username: ops, agent: true}]",
		"servers.yml":     servers,
		"policy.yml":      rules,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(config.Options{Dir: dir, WithoutSecrets: true, Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	return c.Site()
}

var (
	openIt  = tool.Step{Op: tool.Op{Action: tool.ConnOpen, Effect: tool.Link}}
	closeIt = tool.Step{Op: tool.Op{Action: tool.ConnClose, Effect: tool.Link}}
)

// outside is a host that is not in the inventory.
func outside(hostname, address string, port int, user string) tool.Target {
	a := netip.MustParseAddr(address)
	return tool.Target{
		Alias: "mine", Hostname: hostname, Port: port, User: user, Kind: "posix", Source: "adhoc", Auth: "key",
		Addresses: []netip.Addr{a}, Address: a,
	}
}

func through(t tool.Target, hop tool.Target) tool.Target {
	t.Via = []tool.Target{hop}
	return t
}

func TestConnect(t *testing.T) {
	e := recordedEngine(t, policy.Options{Site: siteOf(t, connectPolicy)})
	box := outside("box.lab.example", "10.1.2.3", 22, "deploy")
	bastion := tool.Target{
		Alias: "bastion", Hostname: "bastion.example", Port: 22, User: "ops", Source: "inventory",
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}
	inner := outside("10.2.0.9", "10.2.0.9", 2222, "root")
	for _, tt := range []struct {
		name   string
		target tool.Target
		step   tool.Step
		codes  string
	}{
		{"open", box, openIt, ""},
		{"by address", outside("10.1.2.3", "10.1.2.3", 22, "deploy"), openIt, ""},
		{"a name like an address", outside("10.1.evil.example", "10.1.2.3", 22, "deploy"), openIt, "host_adhoc_not_granted"},
		{"another user", outside("box.lab.example", "10.1.2.3", 22, "root"), openIt, "host_adhoc_not_granted"},
		{"another port", outside("box.lab.example", "10.1.2.3", 2222, "deploy"), openIt, "host_adhoc_not_granted"},
		{"another network", outside("box.lab.example", "10.3.2.3", 22, "deploy"), openIt, "host_adhoc_not_granted"},
		{"a denied network", outside("box.lab.example", "10.1.66.3", 22, "deploy"), openIt, "host_adhoc_denied"},
		{"a blocked network", outside("box.lab.example", "10.1.77.3", 22, "deploy"), openIt, "network_blocked"},
		{"in the inventory", outside("DB.lab.example.", "10.1.2.3", 22, "deploy"), openIt, "host_adhoc_listed"},
		{"command of the tag's profile", box, tool.RunLine("sort /var/log/syslog"), ""},
		{"command of a profile for all hosts", box, tool.RunLine("id"), "command_program"},
		{"file", box, tool.LocateFile(tool.FileRead, "/var/log/syslog"), ""},
		{"file of no profile", box, tool.LocateFile(tool.FileRead, "/srv/a"), "command_path"},
		{"through the bastion", through(inner, bastion), openIt, ""},
		{"not through it", inner, openIt, "host_adhoc_not_granted"},
		{"through a host outside", through(box, box), openIt, ""},
		{"through one that is denied", through(box, outside("x.lab.example", "10.1.66.1", 22, "deploy")), openIt, "host_adhoc_denied"},
		{"through one of the way's name", through(inner, func() tool.Target { b := box; b.Alias = "bastion"; return b }()), openIt, "host_adhoc_not_granted"},
		{"close what may not be opened", inner, closeIt, ""},
	} {
		d := e.Decide(t.Context(), policy.NewInput(connectFacts("agent-7", tt.target, tt.step)), policy.Mark{})
		var codes []string
		for _, r := range d.Reasons {
			codes = append(codes, r.Code)
		}
		if got := strings.Join(codes, " "); got != tt.codes || d.Allow != (tt.codes == "") {
			t.Errorf("%s: allowed %t, %q, want %q: %v", tt.name, d.Allow, got, tt.codes, d.Reasons)
		}
	}
	written := e.Decide(t.Context(), policy.NewInput(connectFacts("writer", box, tool.LocateFile(tool.FileWrite, "/srv/a"))), policy.Mark{})
	if !written.Allow {
		t.Errorf("a rule on files for the tag: %v", written.Reasons)
	}
}

func connectFacts(subject string, target tool.Target, step tool.Step) policy.Facts {
	return policy.Facts{
		Tool:   &tool.Tool{Name: "connect", Set: "connection", Effect: tool.Link},
		Caller: tool.Caller{Subject: subject, Groups: []string{"sre"}, Auth: "token", Transport: "http"},
		Plan:   tool.Plan{Steps: []tool.Step{step}},
		Target: target,
		Now:    time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
	}
}
