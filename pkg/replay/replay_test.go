package replay_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/replay"
	"github.com/sallyport/sallyport/pkg/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a decision log in memory.
type memory struct{ lines [][]byte }

func (m *memory) Append(line []byte) error {
	m.lines = append(m.lines, bytes.Clone(line))
	return nil
}

func (m *memory) file(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	if err := os.WriteFile(path, append(bytes.Join(m.lines, []byte("\n")), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// site grants readonly to everybody, and ops to the group sre.
func site(hosts ...string) policy.Site {
	limits := policy.SiteLimits{Seconds: 60, OutputBytes: 1 << 20, Concurrent: 4}
	s := policy.Site{Version: policy.SiteVersion, Hosts: map[string]policy.SiteHost{}, Limits: limits, Classes: map[string]policy.SiteClass{
		"c0": {Allow: policy.SiteGrants{
			Any:    map[string]policy.SiteGrant{"readonly": {Rule: "rules[0]", Line: 2}},
			Groups: map[string]map[string]policy.SiteGrant{"sre": {"ops": {Rule: "rules[1]", Line: 3}}},
		}},
	}}
	for _, alias := range hosts {
		s.Hosts[alias] = policy.SiteHost{Class: "c0", Limits: limits}
	}
	return s
}

func engine(t testing.TB, o policy.Options) *policy.Engine {
	t.Helper()
	if o.Site == nil {
		o.Site = site("web1", "web2", "db1")
	}
	o.Timeout = time.Minute
	e, err := policy.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	return e
}

// custom is a bundle with a package custom.team.
func custom(t testing.TB, rego string) string {
	t.Helper()
	return bundle(t, "custom/team", "package custom.team\n"+rego)
}

// closed is a bundle that refuses everything.
func closed(t testing.TB) string {
	t.Helper()
	return bundle(t, "sallyport", `package sallyport
decision := {"allow": false, "limits": {"seconds": 0, "output_bytes": 0, "concurrent": 0}, "reasons": [{"code": "closed"}]}
`)
}

func bundle(t testing.TB, root, rego string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		".manifest": `{"revision": "r1", "roots": ["` + root + `"], "rego_version": 1}`, root + "/policy.rego": rego,
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var commands = []string{
	"uptime", "df -h | tail -n 1", "sudo -n systemctl restart nginx", "ls /var/log/*.log", "id -u", "cat $(x)", "cat /etc/shadow",
}

// call is some call.
func call(rnd *rand.Rand, n int) policy.Input {
	alias := []string{"web1", "web2", "db1", "moon"}[rnd.Intn(4)]
	step := tool.RunLine(commands[rnd.Intn(len(commands))])
	name := "ssh_run"
	if rnd.Intn(6) == 0 {
		step, name = tool.AskGateway(tool.GatewayRead, tool.AskHost, alias), "ssh_describe_host"
	}
	in := policy.NewInput(policy.Facts{
		CallID: fmt.Sprint("call-", n), Tool: &tool.Tool{Name: name, Set: "fleet", Effect: step.Op.Effect},
		Caller: tool.Caller{
			Subject: []string{"agent-1", "agent-2", "agent-3"}[rnd.Intn(3)], Groups: [][]string{nil, {"sre"}}[rnd.Intn(2)],
			Auth: "token", Transport: "http", Client: tool.Client{Name: "test", Version: fmt.Sprint(n % 3)},
		},
		Plan: tool.Plan{Scope: tool.Scope{Alias: alias}, Steps: []tool.Step{step}},
		Target: tool.Target{
			Alias: alias, Hostname: alias + ".invalid", Port: 22, User: "ops", Kind: "posix", Source: "inventory",
			Addresses: addresses, Address: addresses[0],
		},
		Now: day.Add(time.Duration(n) * time.Minute),
	})
	in.Usage.CallsLastMinute.Subject = rnd.Intn(5)
	return in
}

// recorded makes a log of so many decisions, and tells the inputs.
func recorded(t testing.TB, o policy.Options, n int) (*memory, []policy.Input, []tool.Decision) {
	t.Helper()
	log := &memory{}
	now := day
	o.Log, o.Now = log, func() time.Time { return now }
	e := engine(t, o)
	rnd := rand.New(rand.NewSource(3))
	var inputs []policy.Input
	var decisions []tool.Decision
	for i := range n {
		now = day.Add(time.Duration(i) * time.Minute)
		in := call(rnd, i)
		inputs, decisions = append(inputs, in), append(decisions, e.Decide(t.Context(), in, policy.Mark{Mode: "run"}))
	}
	return log, inputs, decisions
}

func run(t testing.TB, e *policy.Engine, o replay.Options) *replay.Report {
	t.Helper()
	r, err := e.Replay(t.Context(), policy.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	report, err := replay.Run(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// The same bundles and the same log: nothing changes, bit for bit.
func TestNothingChanges(t *testing.T) {
	log, _, _ := recorded(t, policy.Options{FullRecords: true}, 400)
	r := run(t, engine(t, policy.Options{}), replay.Options{Logs: []string{log.file(t)}, Examples: 3})
	if r.Decisions != 400 || r.Judged != 400 || r.Unchanged != 400 || r.Changed.All != 0 || len(r.NotJudged)+len(r.Problems) > 0 {
		t.Errorf("%+v", r)
	}
	for _, b := range r.Bundles {
		if len(b.Then) != 1 || b.Then[0].Revision != b.Now || b.Then[0].Decisions != 400 {
			t.Errorf("bundle %+v", b)
		}
	}
}

// A change of policy is found in exactly the decisions that it changes, by the
// engine that makes them.
func TestInjectedChange(t *testing.T) {
	log, inputs, then := recorded(t, policy.Options{FullRecords: true}, 200)
	file := log.file(t)
	other := site("web1", "web2") // db1 is gone
	other.Hosts["web2"] = policy.SiteHost{Class: "c0", Limits: policy.SiteLimits{Seconds: 30, OutputBytes: 1 << 20, Concurrent: 4}}
	for name, o := range map[string]policy.Options{
		"deny some":   {Custom: []string{custom(t, `deny contains {"code": "no_restart"} if { some op in input.ops; op.action == "service.control"; input.subject.id == "agent-2" }`)}},
		"permit some": {Custom: []string{custom(t, `permit contains c if { some op in input.ops; some c in op.command.commands; c.program == "id"; input.subject.client.version == "1" }`)}},
		"by the time": {Custom: []string{custom(t, `deny contains "late" if time.clock(time.parse_rfc3339_ns(input.now))[0] >= 3`)}},
		"by the call": {Custom: []string{custom(t, `deny contains "odd" if endswith(input.call.id, "7")`)}},
		"the site":    {Site: other},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine(t, o)
			r := run(t, e, replay.Options{Logs: []string{file}, Examples: 1000})
			want := map[string]policy.Change{}
			for i, in := range inputs {
				now := e.Decide(t.Context(), in, policy.Mark{})
				if c := change(then[i], now); c != "" {
					want[then[i].ID] = c
				}
			}
			got := map[string]policy.Change{}
			for _, example := range r.Examples {
				got[example.DecisionID] = example.Change
			}
			if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 || r.Changed.All != len(want) || r.Judged != len(inputs) {
				t.Errorf("%d changes, %d told of %d judged (-want +got):\n%s", len(want), r.Changed.All, r.Judged, diff)
			}
			checkGroups(t, r)
		})
	}
}

// change is what an engine's two answers differ in.
func change(then, now tool.Decision) policy.Change {
	switch {
	case then.Allow && !now.Allow:
		return policy.NewlyDenied
	case !then.Allow && now.Allow:
		return policy.NewlyAllowed
	case !slices.Equal(then.Reasons, now.Reasons):
		return policy.ReasonChange
	case then.Limits != now.Limits:
		return policy.LimitsChange
	}
	return ""
}

// checkGroups adds groups up: each decision has one host, one subject, one tool,
// and at least one rule.
func checkGroups(t *testing.T, r *replay.Report) {
	t.Helper()
	for name, groups := range map[string][]replay.Group{"hosts": r.Hosts, "subjects": r.Subjects, "tools": r.Tools} {
		sum := 0
		for _, g := range groups {
			sum += g.Changed.All
			if c := g.Changed; c.NewlyDenied+c.NewlyAllowed+c.Limits+c.Reasons+c.Other != c.All || g.Judged < c.All || len(g.Examples) != c.All {
				t.Errorf("%s: %+v with %d examples", name, g.Changed, len(g.Examples))
			}
		}
		if sum != r.Changed.All {
			t.Errorf("%s: %d changes of %d", name, sum, r.Changed.All)
		}
	}
	inRules, inTime := map[string]bool{}, 0
	for _, g := range r.Rules {
		for _, e := range g.Examples {
			inRules[e.DecisionID] = true
		}
	}
	for _, s := range r.Timeline.Steps {
		inTime += s.Changed.All
	}
	if len(inRules) != r.Changed.All || inTime != r.Changed.All {
		t.Errorf("%d changes: %d by rules, %d in time", r.Changed.All, len(inRules), inTime)
	}
}

// However many work on it, the report is the same.
func TestWorkers(t *testing.T) {
	log, _, _ := recorded(t, policy.Options{FullRecords: true}, 300)
	for range 4 { // more than one chunk for each
		log.lines = append(log.lines, log.lines...)
	}
	file := log.file(t)
	e := engine(t, policy.Options{Custom: []string{custom(t, `deny contains "odd" if { input.host.alias == "web1"; input.subject.id != "agent-1" }`)}})
	alone, err := json.Marshal(run(t, e, replay.Options{Logs: []string{file}, Examples: 5, Workers: 1}))
	if err != nil {
		t.Fatal(err)
	}
	many, err := json.Marshal(run(t, e, replay.Options{Logs: []string{file}, Examples: 5, Workers: 7}))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(alone, many) || !bytes.Contains(many, []byte(`"decisions":4800,`)) {
		t.Errorf("one   %.300s\nseven %.300s", alone, many)
	}
}

// Without the words of the calls on record, what needs them is told apart.
func TestWithheld(t *testing.T) {
	log, inputs, _ := recorded(t, policy.Options{}, 200)
	commands := 0
	for _, in := range inputs {
		if in.Ops[0].Command != nil {
			commands++
		}
	}
	r := run(t, engine(t, policy.Options{}), replay.Options{Logs: []string{log.file(t)}})
	if r.Judged != 200-commands || r.Changed.All != 0 || len(r.NotJudged) != 1 || r.NotJudged[0].Status != policy.Withheld || r.NotJudged[0].Decisions != commands {
		t.Errorf("%d with words: judged %d, changed %d, %+v", commands, r.Judged, r.Changed.All, r.NotJudged)
	}
}

// Rotated and compressed logs, several of them, standard input; a line that is
// broken, and a file that is, are told and do not end the run.
func TestLogs(t *testing.T) {
	log, _, _ := recorded(t, policy.Options{FullRecords: true}, 50)
	dir := t.TempDir()
	text := func(lines ...[]byte) []byte { return append(bytes.Join(lines, []byte("\n")), '\n') }
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := write("decisions.jsonl", text(log.lines[40:]...)[:100])
	write("decisions.jsonl.1", text(slices.Concat(log.lines[30:35], [][]byte{[]byte("{broken"), {}, []byte("[]")}, log.lines[35:40])...))
	write("decisions.jsonl.2.gz", packed(t, text(log.lines[20:30]...)))
	write("decisions.jsonl.10.gz", packed(t, text(log.lines[10:20]...))[:600])
	write("decisions.jsonl-20261101", text(log.lines[:5]...))
	write("decisions.jsonl-20261102.gz", packed(t, text(log.lines[5:10]...)))
	write("decisions.jsonl.old", []byte("not read"))
	write("decisions.jsonl.1x", []byte("not read"))
	names, err := replay.Rotated(path)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, name := range names {
		order = append(order, strings.TrimPrefix(name, path))
	}
	if want := []string{"-20261101", "-20261102.gz", ".10.gz", ".2.gz", ".1", ""}; !slices.Equal(order, want) {
		t.Errorf("read in the order %q, want %q", order, want)
	}
	r := run(t, engine(t, policy.Options{}), replay.Options{
		Logs: append(names, "-"), Stdin: bytes.NewReader(packed(t, text(log.lines[40:]...))),
	})
	var problems []string
	for _, p := range r.Problems {
		problems = append(problems, fmt.Sprintf("%s:%d %s", strings.TrimPrefix(p.Log, path), p.Line, p.Problem))
	}
	want := []string{
		".1:6 is no JSON, or was cut off", ".1:8 is no object", ":1 is no JSON, or was cut off",
		".10.gz:1 the compressed file is broken from here on: unexpected EOF",
	}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if r.Judged != 40 || r.Unchanged != 40 || r.Decisions != 43 {
		t.Errorf("%d judged, %d unchanged of %d", r.Judged, r.Unchanged, r.Decisions)
	}
	judge, err := engine(t, policy.Options{}).Replay(t.Context(), policy.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replay.Run(t.Context(), judge, replay.Options{Logs: []string{path, filepath.Join(dir, "nothing")}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a log that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := replay.Run(ctx, judge, replay.Options{Logs: names}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func packed(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A line may be long, but not as long as memory is.
func TestLongLines(t *testing.T) {
	log, _, _ := recorded(t, policy.Options{FullRecords: true}, 3)
	long := bytes.Replace(log.lines[1], []byte("{"), []byte(`{"padding":"`+strings.Repeat("x", 1<<20)+`",`), 1)
	endless := bytes.Repeat([]byte("y"), 17<<20)
	text := bytes.Join([][]byte{log.lines[0], long, endless, log.lines[2]}, []byte("\n"))
	r := run(t, engine(t, policy.Options{}), replay.Options{Logs: []string{"-"}, Stdin: bytes.NewReader(text)})
	if r.Unchanged != 3 || len(r.Problems) != 1 || r.Problems[0] != (replay.Problem{Log: "standard input", Line: 3, Problem: "is longer than 16 MiB"}) {
		t.Errorf("%d unchanged, %+v", r.Unchanged, r.Problems)
	}
}

// What would otherwise grow with a log is bounded, and counted all the same.
func TestBounds(t *testing.T) {
	log, _, _ := recorded(t, policy.Options{FullRecords: true}, 1)
	line := string(log.lines[0])
	var text bytes.Buffer
	subject := line[strings.Index(line, `"subject":{"id":"`)+len(`"subject":{"id":"`):]
	subject = subject[:strings.IndexByte(subject, '"')]
	at := line[strings.Index(line, `"timestamp":"`)+len(`"timestamp":"`):]
	at = at[:strings.IndexByte(at, '"')]
	for i := range 10_500 {
		l := strings.Replace(line, `"id":"`+subject+`"`, fmt.Sprintf(`"id":"someone-%d"`, i), 1)
		l = strings.Replace(l, `"timestamp":"`+at, `"timestamp":"`+day.AddDate(0, 0, i%3000).Format(time.RFC3339), 1)
		text.WriteString(l + "\n")
	}
	e := engine(t, policy.Options{Bundle: closed(t)}) // which looks at nothing, so all are judged at once
	r := run(t, e, replay.Options{Logs: []string{"-"}, Stdin: &text, Examples: 2})
	others := 0
	for _, g := range r.Subjects {
		if g.Name == replay.Others {
			others = g.Changed.All
		}
	}
	if r.Changed.All != 10_500 || len(r.Subjects) != 10_001 || others != 500 || len(r.Timeline.Steps) > 240 || len(r.Examples) != 2 {
		t.Errorf("%d changed, %d subjects, %d others, %d steps, %d examples", r.Changed.All, len(r.Subjects), others, len(r.Timeline.Steps), len(r.Examples))
	}
}

var (
	day       = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	addresses = []netip.Addr{netip.MustParseAddr("10.0.0.11")}
)
