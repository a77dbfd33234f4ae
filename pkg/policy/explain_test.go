package policy_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

func explain(t testing.TB, e *policy.Engine, in policy.Input, others ...tool.Target) tool.Explanation {
	t.Helper()
	x, err := e.Explain(t.Context(), in.Document(), others)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// teamBundle is a bundle with one custom package.
func teamBundle(t testing.TB, rego string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		".manifest":             `{"revision": "1", "rego_version": 1, "roots": ["custom/team"]}`,
		"custom/team/team.rego": rego,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestExplainRefusals(t *testing.T) {
	e := newEngine(t, policy.Options{Site: profileSite("readonly", "ops")})
	for _, tc := range []struct {
		profile, line string
		code          string // of a reason that spoke
		condition     string // the innermost one that failed
		change        string // the first one that would be allowed
	}{
		{"readonly", "systemctl status nginx --host x", "command_option", "not options[i]", "systemctl status nginx"},
		{"readonly", "uptime; id", "command_program", "profiles.commands[table][command.program]", "uptime"},
		{"readonly", "journalctl -u nginx -n 9", "command_option_required", "count(option) == 1", "journalctl -u nginx -n 9 --no-pager"},
		{"readonly", "bash -c 'df -h'", "command_wrapper", "command.scope == []", "df -h"},
		{"readonly", "echo $(id)", "command_not_understood", "line.canonical", ""},
		{"readonly", "id", "command_program", "profiles.commands[table][command.program]", ""},
		{"readonly", "cat /etc/shadow /var/log/syslog > /tmp/x", "command_redirect", "not feature in allowed_features", "cat /var/log/syslog"},
		{"ops", "sudo systemctl restart app", "command_wrapper", "regex.match", "sudo -n systemctl restart app"},
		{"ops", "A=1 /usr/local/bin/df -h &", "command_assignment", "not feature in allowed_features", "df -h"},
		{"nobody", "uptime", "host_unknown", "data.site.hosts[input.host.alias]", ""},
	} {
		in := policy.NewInput(runFacts(tc.profile, tc.line))
		x := explain(t, e, in)
		if !slices.ContainsFunc(x.Spoke, func(s tool.Spoken) bool {
			return s.Code == tc.code && s.Line > 0 && strings.HasPrefix(s.File, "sallyport/") && s.Title != ""
		}) {
			t.Errorf("%s: nobody spoke with %s: %+v", tc.line, tc.code, x.Spoke)
		}
		if len(x.Failed) == 0 {
			t.Errorf("%s: nothing failed", tc.line)
			continue
		}
		last := x.Failed[len(x.Failed)-1]
		if !strings.Contains(last.Text, tc.condition) || last.Line == 0 || last.File == "" {
			t.Errorf("%s: the innermost failure is %+v, want %s", tc.line, last, tc.condition)
		}
		first := ""
		if len(x.Changes) > 0 {
			first = x.Changes[0].Command
		}
		if first != tc.change {
			t.Errorf("%s: the first change is %q, want %q of %+v", tc.line, first, tc.change, x.Changes)
		}
	}
}

// A file and a line that are named are those of the condition.
func TestExplainNamesLines(t *testing.T) {
	e := newEngine(t, policy.Options{Site: profileSite("readonly")})
	x := explain(t, e, policy.NewInput(runFacts("readonly", "ls -Z /etc; id")))
	for _, c := range x.Failed {
		text, err := os.ReadFile(filepath.Join("..", "..", "policies", c.File))
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Split(string(text), "\n")[c.Line-1]
		if !strings.Contains(strings.Join(strings.Fields(line), " "), c.Text) {
			t.Errorf("%s:%d is %q, not %q", c.File, c.Line, line, c.Text)
		}
	}
	for _, s := range x.Spoke {
		if s.File == "policy.yml" {
			continue
		}
		text, err := os.ReadFile(filepath.Join("..", "..", "policies", s.File))
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Split(string(text), "\n")[s.Line-1]
		if name := s.Rule[strings.LastIndex(s.Rule, ".")+1:]; !strings.HasPrefix(line, name) {
			t.Errorf("%s:%d is %q, not the rule %s", s.File, s.Line, line, name)
		}
	}
}

func TestExplainAllowed(t *testing.T) {
	e := newEngine(t, policy.Options{Site: profileSite("readonly")})
	x := explain(t, e, policy.NewInput(runFacts("readonly", "uptime")))
	var rules []string
	for _, s := range x.Spoke {
		rules = append(rules, s.Rule)
	}
	for _, want := range []string{"sallyport.host.permit", "sallyport.network.permit", "sallyport.limit.permit", "sallyport.command.permit", "rules[0]"} {
		if !slices.Contains(rules, want) {
			t.Errorf("%s did not speak, only %v", want, rules)
		}
	}
	if len(x.Failed)+len(x.Changes) > 0 {
		t.Errorf("an allowed call needs no %+v %+v", x.Failed, x.Changes)
	}
}

// Rules of policy.yml on commands are named where they are about a program of the
// call.
func TestExplainRulesOnCommands(t *testing.T) {
	site := profileSite("readonly")
	class := site.Classes["readonly"]
	class.Allow.Commands.Groups = map[string]map[string][]string{"aiops": {"id": {"r7"}, "who": {"r8"}}}
	site.Classes["readonly"] = class
	site.Rules = map[string]policy.SiteRule{
		"r7": {Rule: "rules[7]", Line: 21, Kind: "simple", Says: "id", Programs: []string{"id"}, Most: 0},
		"r8": {Rule: "rules[8]", Line: 22, Kind: "simple", Says: "who", Programs: []string{"who"}, Most: 0},
	}
	e := newEngine(t, policy.Options{Site: site})
	x := explain(t, e, policy.NewInput(runFacts("readonly", "id -u")))
	want := tool.Spoken{Rule: "rules[7]", File: "policy.yml", Line: 21, Title: "allows id to group aiops"}
	if !slices.Contains(x.Spoke, want) || slices.ContainsFunc(x.Spoke, func(s tool.Spoken) bool { return s.Rule == "rules[8]" }) {
		t.Errorf("spoke %+v, want %+v and not rules[8]", x.Spoke, want)
	}
	if len(x.Changes) != 1 || x.Changes[0].Command != "id" {
		t.Errorf("changes %+v, want id", x.Changes)
	}
}

const teamRules = `package custom.team

# METADATA
# title: Nobody on Fridays
# custom:
#   code: friday
deny contains {"code": "friday", "detail": sprintf("%s by %s", [op.action, input.subject.id])} if {
	time.weekday(time.parse_rfc3339_ns(input.now)) == "Friday"
	input.limits.requested.seconds > 60
	some op in input.ops
	not op.derived
}

deny contains "not for agents" if input.host.alias == "diagnose"

permit contains command if {
	some op in input.ops
	some command in op.command.commands
	command.program == "id"
	"aiops" in input.subject.groups
	input.subject.auth == "token"
}
`

func TestExplainCustomPackages(t *testing.T) {
	dir := teamBundle(t, teamRules)
	e := newEngine(t, policy.Options{Custom: []string{dir}, Site: profileSite("readonly", "diagnose", "ops")})
	facts := runFacts("readonly", "uptime")
	facts.Plan.Wish.Seconds = 900
	x := explain(t, e, policy.NewInput(facts))
	i := slices.IndexFunc(x.Spoke, func(s tool.Spoken) bool { return s.Rule == "custom.team.deny" })
	want := tool.Spoken{
		Rule: "custom.team.deny", File: filepath.Join(dir, "custom/team/team.rego"), Line: 7,
		Title: "Nobody on Fridays", Code: "friday", Detail: "shell.run by agent-7",
	}
	if i < 0 || x.Spoke[i] != want || slices.ContainsFunc(x.Spoke, func(s tool.Spoken) bool { return s.Rule == "sallyport.objections" }) {
		t.Errorf("spoke %+v, want %+v once", x.Spoke, want)
	}
	if len(x.Changes) != 1 || x.Changes[0].MaxSeconds != 60 || x.Changes[0].Command != "" {
		t.Errorf("changes %+v, want max_seconds 60", x.Changes)
	}

	x = explain(t, e, policy.NewInput(runFacts("readonly", "id")))
	i = slices.IndexFunc(x.Failed, func(c tool.Condition) bool { return c.Rule == "custom.team.permit" })
	if i < 0 || x.Failed[i].Text != `input.subject.auth == "token"` || !slices.Equal(x.Failed[i].Values, []string{`input.subject.auth = "local"`}) {
		t.Errorf("failed %+v", x.Failed)
	}

	// Another host is a change, if what is asked for would be allowed there.
	x = explain(t, e, policy.NewInput(runFacts("diagnose", "uptime")), target("ops"), target("diagnose"), target("nobody"))
	if len(x.Changes) != 1 || x.Changes[0].Alias != "ops" {
		t.Errorf("changes %+v, want the host ops", x.Changes)
	}
}

func target(alias string) tool.Target {
	t := runFacts(alias, "true").Target
	t.Address = netip.MustParseAddr("10.0.0.12")
	t.Addresses = []netip.Addr{t.Address}
	return t
}

// What an explanation says of a call is what the engine decides on it.
func TestExplanationsAgree(t *testing.T) {
	e := newEngine(t, policy.Options{Site: profileSite("readonly", "diagnose", "ops")})
	for i, c := range readCorpus(t, corpora[0]) {
		if i%9 != 1 {
			continue
		}
		x := explain(t, e, policy.NewInput(runFacts(c.Context, c.Command)))
		if allowed := len(x.Failed) == 0; allowed != (c.Expect == "allow") {
			t.Errorf("%s: %s, and what failed is %+v", c.ID, c.Expect, x.Failed)
		}
	}
}

// What is proposed is allowed, whatever was refused. It is judged here by another
// engine than the one that proposed it.
func TestProposalsAreAllowed(t *testing.T) {
	site := profileSite("readonly", "diagnose", "ops")
	e, judge := newEngine(t, policy.Options{Site: site}), newEngine(t, policy.Options{Site: site})
	proposed, refused := 0, 0
	for i, c := range readCorpus(t, corpora[0]) {
		if c.Expect != "deny" || i%5 != 0 {
			continue
		}
		refused++
		x := explain(t, e, policy.NewInput(runFacts(c.Context, c.Command)))
		for _, change := range x.Changes {
			proposed++
			d := judge.Decide(t.Context(), policy.NewInput(runFacts(c.Context, change.Command)), policy.Mark{})
			if !d.Allow || change.Command == c.Command {
				t.Errorf("%s: %q is proposed for %q: %v", c.ID, change.Command, c.Command, d.Reasons)
			}
		}
	}
	if proposed < refused/2 {
		t.Errorf("%d changes proposed for %d refusals; the search finds too little", proposed, refused)
	}
}

// An explanation of a policy that breaks says as much as there is.
func TestExplainBrokenPolicy(t *testing.T) {
	rego := strings.Replace(teamRules, "package custom.team", "package custom.team\n\ndeny contains 1/count(input.subject.groups)", 1)
	e := newEngine(t, policy.Options{Custom: []string{teamBundle(t, rego)}, Site: profileSite("readonly")})
	facts := runFacts("readonly", "uptime")
	facts.Caller.Groups = nil
	x := explain(t, e, policy.NewInput(facts))
	if len(x.Changes) > 0 {
		t.Errorf("changes %+v of a call that nobody could judge", x.Changes)
	}
}

// A document is judged as it stands, with whatever is missing.
func TestDocuments(t *testing.T) {
	e := newEngine(t, policy.Options{Site: profileSite("readonly"), FullRecords: true})
	text, err := json.Marshal(policy.NewInput(runFacts("readonly", "uptime")))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text  string
		allow bool
		odd   string
	}{
		"input":         {string(text), true, ""},
		"plan":          {`{"allow": false, "input": ` + string(text) + `}`, true, ""},
		"version 2":     {strings.Replace(string(text), `"version":1`, `"version":2`, 1), false, ""},
		"no user":       {strings.Replace(string(text), `"user":"ops"`, `"usr":"ops"`, 1), true, "host.usr is no field of an input, host.user is missing"},
		"next to empty": {`{"now": "2026-11-20T12:00:00Z"}`, false, "call is missing"},
	} {
		d, err := policy.ReadDocument([]byte(tc.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a, err := e.Ask(t.Context(), d)
		if err != nil || a.Allow != tc.allow {
			t.Errorf("%s: allow %v, reasons %v, error %v", name, a.Allow, a.Reasons, err)
		}
		if odd := strings.Join(d.Odd, ", "); !strings.Contains(odd, tc.odd) || tc.odd == "" && odd != "" {
			t.Errorf("%s: odd is %q, want %q", name, odd, tc.odd)
		}
	}
	for _, bad := range []string{"", "[]", "null", "1", `{"a": `, `{"error": {"code": "failed"}}`} {
		if _, err := policy.ReadDocument([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a document", bad)
		}
	}
}

// lines is a log that keeps what it is given.
type lines [][]byte

func (l *lines) Append(line []byte) error {
	*l = append(*l, slices.Clone(line))
	return nil
}

// What the log says can be judged again, and gives the same; a record without
// the words of the call says that it cannot be.
func TestDocumentsOfTheLog(t *testing.T) {
	for _, full := range []bool{true, false} {
		var log lines
		e := newEngine(t, policy.Options{Site: profileSite("readonly"), FullRecords: full, Log: &log})
		for _, line := range []string{"uptime", "id", "ls -Z /etc", "echo $(id)"} {
			d := e.Decide(t.Context(), policy.NewInput(runFacts("readonly", line)), policy.Mark{Mode: "run"})
			doc, err := policy.ReadDocument(log[len(log)-1])
			if !full {
				if err == nil || !strings.Contains(err.Error(), "logs.record: full") {
					t.Errorf("%s: %v", line, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			a, err := e.Ask(t.Context(), doc)
			if err != nil || a.Allow != d.Allow || doc.ID != d.ID || doc.Decided == nil || !a.Same(*doc.Decided) || len(doc.Odd) > 0 {
				t.Errorf("%s: decided %+v, asked again %+v, odd %v, error %v", line, d, a, doc.Odd, err)
			}
		}
	}
}

// The search ends, whatever is asked about.
func TestExplainIsBounded(t *testing.T) {
	e := newEngine(t, policy.Options{Site: profileSite("readonly")})
	line := "id" + strings.Repeat(" -abcdef /etc/shadow > /tmp/x && id", 20)
	explain(t, e, policy.NewInput(runFacts("readonly", line)))
}

// nearMisses are calls to what rules of policy.yml allow something of.
func nearMisses(t *testing.T) (*policy.Engine, map[string]policy.Input) {
	e := newEngine(t, policy.Options{Site: siteOf(t, `
version: 3
rules:
  - {action: allow, aliases: [db], binary: tail, arg_prefix: ["-n", "200"], path_args: {indices: [3], patterns: [/var/log/*]}}
  - {action: allow, aliases: [db], commands: ["systemctl restart nginx", "docker ps*"]}
files:
  - {name: app, action: allow, aliases: [bastion], read: [/srv/app/**, "/var/log/app/*.log"], write: [/srv/app/config/**]}
  - {name: keys, action: deny, read: [/srv/app/keys/**]}
connect:
  adhoc:
    - {name: lab, action: allow, hosts: ["*.lab.example"], users: [deploy], ports: [22], tags: [lab]}
    - {name: never, action: deny, cidrs: [10.1.66.0/24]}
`)})
	file := func(action tool.Action, name string) policy.Input {
		facts := runFacts("bastion", "true")
		facts.Plan = tool.Plan{Steps: []tool.Step{tool.LocateFile(action, name)}}
		return policy.NewInput(facts)
	}
	led := file(tool.FileRead, "/srv/link")
	led.Ops[0] = led.Ops[0].At(tool.FileFacts{Path: "/srv/app/x", Under: tool.Under("/srv/app/x"), Exists: true, Type: tool.RegularFile, Links: 1})
	connect := func(target tool.Target) policy.Input {
		facts := runFacts("db", "true")
		facts.Target, facts.Plan = target, tool.Plan{Steps: []tool.Step{openIt}}
		return policy.NewInput(facts)
	}
	keyed := connect(outside("x.lab.example", "10.1.2.3", 22, "deploy"))
	keyed.Host.Key = "lab"
	return e, map[string]policy.Input{
		"another directory": file(tool.FileRead, "/srv/ap/x"),
		"elsewhere":         file(tool.FileRead, "/etc/passwd"),
		"detour":            file(tool.FileRead, "/srv/x/../app/y"),
		"another log":       file(tool.FileList, "/var/log/ap/x.log"),
		"write":             file(tool.FileWrite, "/srv/app/conf/x"),
		"link":              led,
		"denied file":       file(tool.FileRead, "/srv/app/keys/x"),
		"another word":      policy.NewInput(runFacts("db", "tail -n 100 /var/log/syslog")),
		"words missing":     policy.NewInput(runFacts("db", "systemctl restart")),
		"another program":   policy.NewInput(runFacts("db", "head -n 100 /var/log/syslog")),
		"user and port":     connect(outside("x.lab.example", "10.1.2.3", 2222, "root")),
		"key":               keyed,
		"denied host":       connect(outside("x.lab.example", "10.1.66.3", 22, "deploy")),
		"listed host":       connect(outside("db.lab.example", "10.1.2.3", 22, "deploy")),
	}
}

// What is proposed comes from the rules that are about the call, and is allowed.
func TestExplainRulesOfASite(t *testing.T) {
	e, calls := nearMisses(t)
	other := runFacts("db", "true").Target
	other.Hostname = "db.lab.example"
	for name, tc := range map[string]struct {
		change tool.Alternative // without What
		entry  string           // of policy.yml
	}{
		"another directory": {tool.Alternative{Path: "/srv/app/x"}, ""},
		"elsewhere":         {},
		"detour":            {tool.Alternative{Path: "/srv/app/y"}, ""},
		"another log":       {tool.Alternative{Path: "/var/log/app/x.log"}, ""},
		"write":             {tool.Alternative{Path: "/srv/app/config/x"}, ""},
		"link":              {tool.Alternative{Path: "/srv/app/x"}, ""},
		"denied file":       {tool.Alternative{}, "denies to read /srv/app/keys/**"},
		"another word":      {tool.Alternative{Command: "tail -n 200 /var/log/syslog"}, "allows tail -n 200 PATH ... (PATH in /var/log/*) to everybody"},
		"words missing":     {tool.Alternative{Command: "systemctl restart nginx"}, "allows systemctl restart nginx to everybody"},
		"another program":   {},
		"user and port":     {tool.Alternative{Username: "deploy", Port: 22}, ""},
		"key":               {tool.Alternative{What: "without private_key_path"}, ""},
		"denied host":       {tool.Alternative{}, "forbids to connect to any host in 10.1.66.0/24"},
		"listed host":       {tool.Alternative{Alias: "db"}, ""},
	} {
		others := []tool.Target{}
		if name == "listed host" {
			others = append(others, target("bastion"), other)
		}
		x := explain(t, e, calls[name], others...)
		var first tool.Alternative
		if len(x.Changes) > 0 {
			if first = x.Changes[0]; tc.change.What == "" {
				first.What = ""
			}
		}
		if first != tc.change {
			t.Errorf("%s: the first change is %+v, want %+v of %+v", name, first, tc.change, x.Changes)
		}
		if tc.entry != "" && !slices.ContainsFunc(x.Spoke, func(s tool.Spoken) bool {
			return s.Title == tc.entry && s.File == "policy.yml" && s.Line > 0
		}) {
			t.Errorf("%s: no entry %q, only %+v", name, tc.entry, x.Spoke)
		}
		if slices.ContainsFunc(x.Failed, func(c tool.Condition) bool { return strings.Contains(strings.Join(c.Values, " "), "__local") }) {
			t.Errorf("%s: names of the compiler's own are shown: %+v", name, x.Failed)
		}
	}
}
