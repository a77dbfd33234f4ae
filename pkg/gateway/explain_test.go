package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/tool"
)

const explainServers = `hosts:
  - {alias: web1, host: 10.0.0.1, credentials: ops, tags: [web]}
  - {alias: web2, host: 10.0.0.2, credentials: ops, tags: [web]}
  - {alias: db1, host: 10.0.0.3, credentials: ops}
  - {alias: hidden, host: 10.0.0.4, credentials: ops}
`

const explainPolicy = `rules:
  - {action: allow, aliases: [web1], profile: readonly}
  - {action: allow, aliases: [web2, db1], profile: diagnose}
  - {action: allow, aliases: [hidden], profile: diagnose, groups: [dba]}
`

const explainRules = `package custom.team

deny contains {"code": "not_db1", "title": "Not there"} if {
	input.host.alias == "db1"
	some op in input.ops
	op.action == "shell.run"
}

permit contains op if {
	some op in input.ops
	op.action == "gateway.explain"
	"auditors" in input.subject.groups
}
`

// explainedPlan is what ssh_plan says.
type explainedPlan struct {
	Status      string
	Alias       string
	Allowed     bool
	Note        string
	Explanation *tool.Explanation
	Reasons     []tool.Reason
}

func explained(t *testing.T, g *Gateway, caller tool.Caller, alias, command string) (explainedPlan, string) {
	t.Helper()
	return explainedCall(t, g, caller, map[string]any{"alias": alias, "command": command, "explain": true})
}

func explainedCall(t *testing.T, g *Gateway, caller tool.Caller, args map[string]any) (plan explainedPlan, text string) {
	t.Helper()
	r := g.Call(context.Background(), caller, "ssh_plan", json.RawMessage(marshalled(args)), nil)
	if err := json.Unmarshal([]byte(marshalled(r.Structured)), &plan); err != nil {
		t.Fatal(err)
	}
	return plan, r.Text
}

// A call of any tool on one host can be planned, and is judged as that call would
// be.
func TestExplainedCallsOfOtherTools(t *testing.T) {
	g, w := judged(t, explainServers, `version: 3
rules:
  - {action: allow, aliases: [web1], profile: readonly}
files:
  - {action: allow, aliases: [web1], read: [/srv/app/**]}
connect:
  adhoc:
    - {name: lab, action: allow, hosts: ["10.0.0.*"], users: [deploy], tags: [lab]}
`, "")
	for name, tc := range map[string]struct {
		tool      string
		arguments map[string]any
		allowed   bool
		change    tool.Alternative
	}{
		"read":      {"read", map[string]any{"target": "web1", "path": "/srv/app/x"}, true, tool.Alternative{}},
		"read else": {"read", map[string]any{"target": "web1", "path": "/srv/ap/x"}, false, tool.Alternative{What: "the path /srv/app/x", Path: "/srv/app/x"}},
		"write":     {"write", map[string]any{"target": "web1", "path": "/srv/app/x", "content": "y"}, false, tool.Alternative{}},
		"connect":   {"connect", map[string]any{"host": "10.0.0.9", "username": "root"}, false, tool.Alternative{What: "as deploy", Username: "deploy"}},
		"list":      {"ssh_list_hosts", map[string]any{}, true, tool.Alternative{}},
	} {
		args := map[string]any{"tool": tc.tool, "arguments": tc.arguments, "explain": true}
		p, text := explainedCall(t, g, agent, args)
		if p.Allowed != tc.allowed || p.Explanation == nil || p.Status != "ok" {
			t.Errorf("%s: %+v\n%s", name, p, text)
			continue
		}
		var first tool.Alternative
		if len(p.Explanation.Changes) > 0 {
			first = p.Explanation.Changes[0]
		}
		if first != tc.change {
			t.Errorf("%s: the first change is %+v, want %+v", name, first, tc.change)
		}
		judged, problem := g.Plan(t.Context(), agent, tc.tool, json.RawMessage(marshalled(tc.arguments)))
		if problem != nil || judged[0].Run.Decision.Allow != tc.allowed {
			t.Errorf("%s: without ssh_plan %+v %+v", name, judged, problem)
		}
	}
	for _, args := range []map[string]any{
		{},
		{"alias": "web1"},
		{"command": "uptime"},
		{"arguments": map[string]any{}},
		{"tool": "ssh_plan", "arguments": map[string]any{"alias": "web1", "command": "uptime"}},
		{"tool": "moon", "arguments": map[string]any{}},
		{"tool": "read", "arguments": map[string]any{"path": 5}},
		{"tool": "read", "arguments": "x"},
		{"tool": "read", "alias": "web1", "arguments": map[string]any{"path": "/x"}},
		{"tool": "ssh_run_on_tag", "arguments": map[string]any{"tag": "web", "command": "uptime"}},
	} {
		if p, _ := explainedCall(t, g, agent, args); p.Status != "invalid" {
			t.Errorf("%v: %+v", args, p)
		}
	}
	if len(w.jobs) > 0 {
		t.Error("a plan ran something")
	}
}

func TestExplainedPlan(t *testing.T) {
	g, w := judged(t, explainServers, explainPolicy, explainRules)
	p, text := explained(t, g, agent, "web1", "sort -n /var/log/syslog")
	if p.Allowed || p.Explanation == nil || p.Note != "" {
		t.Fatalf("%+v", p)
	}
	for _, s := range p.Explanation.Spoke {
		if strings.HasPrefix(s.File, "/") {
			t.Errorf("it shows where the gateway keeps its files: %+v", s)
		}
	}
	if len(p.Explanation.Failed) == 0 || !strings.Contains(text, "rule sallyport.command.reasons (sallyport/command/") {
		t.Errorf("%+v\n%s", p.Explanation, text)
	}
	// web2 is like web1 and permits it; db1 would, but for the team's objection;
	// hidden is not for the caller to know of.
	want := []tool.Alternative{{What: "on web2", Alias: "web2"}}
	if !slices.Equal(p.Explanation.Changes, want) || !strings.Contains(text, "would be allowed: on web2") {
		t.Errorf("changes %+v, want %+v\n%s", p.Explanation.Changes, want, text)
	}
	if p, text = explained(t, g, agent, "web1", "ls -Z /etc"); p.Explanation.Changes[0].Command != "ls /etc" || !strings.Contains(text, "leave out '-Z': ls /etc") {
		t.Errorf("%+v\n%s", p.Explanation, text)
	}
	if p, _ = explained(t, g, agent, "web1", "uptime"); !p.Allowed || p.Explanation == nil || len(p.Explanation.Failed) > 0 {
		t.Errorf("an allowed call: %+v", p)
	}
	if p, _ = explained(t, g, agent, "db1", "uptime"); !slices.ContainsFunc(p.Explanation.Spoke, func(s tool.Spoken) bool {
		return s.File == "custom/team/team.rego" && s.Line == 3 && s.Code == "not_db1"
	}) {
		t.Errorf("the team's rule is not named: %+v", p.Explanation.Spoke)
	}
	if len(w.jobs) > 0 {
		t.Error("a plan ran something")
	}
}

// Who may not see the rules gets the same plan, and is told so.
func TestExplanationIsPolicy(t *testing.T) {
	g, _ := judged(t, explainServers, explainPolicy, explainRules)
	stranger := tool.Caller{Subject: "agent-8", Auth: "token", Transport: "http", Groups: []string{"aiops"}}
	p, text := explained(t, g, stranger, "web1", "ls -Z /etc")
	if p.Allowed || len(p.Reasons) == 0 || p.Explanation != nil || !strings.Contains(p.Note, "not shown to the caller") || !strings.Contains(text, p.Note) {
		t.Errorf("%+v\n%s", p, text)
	}
	auditor := stranger
	auditor.Groups = []string{"auditors"}
	if p, _ := explained(t, g, auditor, "web1", "ls -Z /etc"); p.Explanation == nil || p.Note != "" {
		t.Errorf("a team's permit is not heard: %+v", p)
	}
}

// Whether the rules may be seen is a decision of its own, on record; a plan that
// does not ask makes none.
func TestExplanationIsDecided(t *testing.T) {
	w, g := newWorld(t)
	invoke(g, "ssh_plan", `{"alias":"web1","command":"uptime"}`)
	if len(w.inputs) != 1 || slices.Contains(w.trail, "explain") {
		t.Errorf("%d decisions, trail %v", len(w.inputs), w.trail)
	}
	invoke(g, "ssh_plan", `{"alias":"web1","command":"uptime","explain":true}`)
	if len(w.inputs) != 3 || !slices.Contains(w.trail, "explain") {
		t.Fatalf("%d decisions, trail %v", len(w.inputs), w.trail)
	}
	in := w.inputs[2]
	if op := in.Ops[0]; op.Action != tool.GatewayExplain || in.Call.Tool != "ssh_plan" || in.Host.Source != "gateway" || w.marks[2].Mode != "plan" {
		t.Errorf("the second decision is on %+v", in)
	}
	w.decide = deny("no")
	w.trail = nil
	invoke(g, "ssh_plan", `{"alias":"web1","command":"uptime","explain":true}`)
	if slices.Contains(w.trail, "explain") {
		t.Error("it is explained to who may not know")
	}
}
