package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
	"github.com/sallyport/sallyport/pkg/tools"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is the other side of the gateway's interfaces: what each part was
// asked, in order, and what it is told to say.
type world struct {
	mu     sync.Mutex
	trail  []string
	inputs []policy.Input
	marks  []policy.Mark
	jobs   []tool.Job
	events []audit.Event
	ended  []string // connections

	decide func(policy.Input) tool.Decision
	run    func(context.Context, tool.Job) tool.Report
	write  func(audit.Event) error
	names  map[string][]string
	facts  []string // that policy looks at
	asked  int      // questions that were not for the record
}

func (w *world) note(step string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trail = append(w.trail, step)
}

func (w *world) Decide(_ context.Context, in policy.Input, m policy.Mark) tool.Decision {
	w.note("decide " + m.Mode + " " + in.Network.Address)
	w.mu.Lock()
	w.inputs = append(w.inputs, in)
	w.marks = append(w.marks, m)
	decide := w.decide
	w.mu.Unlock()
	return decide(in)
}

func (w *world) Would(_ context.Context, in policy.Input) bool {
	w.mu.Lock()
	w.asked++
	w.mu.Unlock()
	return w.decide(in).Allow
}

func (w *world) HostFacts() []string { return w.facts }

func (w *world) Explain(_ context.Context, _ policy.Document, others []tool.Target) (tool.Explanation, error) {
	w.note("explain")
	var x tool.Explanation
	for _, t := range others {
		x.Changes = append(x.Changes, tool.Alternative{What: "on " + t.Alias, Alias: t.Alias})
	}
	return x, nil
}

func (w *world) Revisions() map[string]string { return map[string]string{"sallyport": "r1"} }
func (w *world) Ready() error                 { return nil }

func (w *world) Run(ctx context.Context, job tool.Job) tool.Report {
	w.note("run " + job.Target.Address.String())
	w.mu.Lock()
	w.jobs = append(w.jobs, job)
	w.mu.Unlock()
	return w.run(ctx, job)
}

func (w *world) Copy(_ context.Context, from, to tool.Job) (tool.Report, tool.Report) {
	w.note("copy " + from.Target.Alias + " " + to.Target.Alias)
	w.mu.Lock()
	w.jobs = append(w.jobs, from, to)
	w.mu.Unlock()
	report := tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Answer: tool.Copied{Bytes: 3}}}}
	return report, report
}

func (w *world) Disconnect(conns []string) {
	w.note("disconnect " + strings.Join(conns, " "))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = append(w.ended, conns...)
}

func (w *world) Forget(subject string) { w.note("forget " + subject) }

func (w *world) Write(ctx context.Context, e audit.Event) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.note(string(e.Type))
	w.mu.Lock()
	w.events = append(w.events, e)
	w.mu.Unlock()
	return w.write(e)
}

func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.note("look up " + host)
	var out []netip.Addr
	for _, a := range w.names[host] {
		out = append(out, netip.MustParseAddr(a))
	}
	if out == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, nil
}

func allow(policy.Input) tool.Decision {
	return tool.Decision{ID: "d1", Allow: true, Limits: tool.Limits{Seconds: 5, OutputBytes: 100}}
}

func deny(code string) func(policy.Input) tool.Decision {
	return func(policy.Input) tool.Decision {
		return tool.Decision{ID: "d2", Reasons: []tool.Reason{{Code: code, Title: "no", Remedy: "ask"}}}
	}
}

func finished(context.Context, tool.Job) tool.Report {
	zero := 0
	return tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Stdout: tool.Stream{Kept: []byte("hi secret=1\n"), Bytes: 12}, Exit: &zero}}}
}

func newTrail() *world {
	return &world{
		decide: allow, run: finished, write: func(audit.Event) error { return nil },
		names: map[string][]string{"web1.internal": {"10.0.0.1"}, "two.internal": {"10.0.0.1", "10.0.0.2"}},
	}
}

func newWorld(t *testing.T) (*world, *Gateway) {
	t.Helper()
	w := newTrail()
	g := New(Options{Tools: tools.All(), Resources: tools.Resources(), Config: loadConfig(t), Decider: w, Runner: w, Audit: w, Lookup: w})
	return w, g
}

func loadConfig(t *testing.T) *config.Config {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"sallyport.yml": "toolsets: [fleet]\n",
		"servers.yml": `hosts:
  - {alias: web1, host: web1.internal, credentials: ops, tags: [web]}
  - {alias: two, host: two.internal, credentials: ops, tags: [web]}
  - {alias: gone, host: gone.internal, credentials: ops}
  - {alias: far, host: two.internal, credentials: ops, via: web1}
`,
		"credentials.yml": "entries:\n  - {name: ops, username: ops, agent: true}\n",
		"policy.yml":      "rules:\n  - {action: allow, tags: [web], profile: readonly}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf, err := config.Load(config.Options{Dir: dir, Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

var agent = tool.Caller{Subject: "agent-7", Auth: "local", Transport: "stdio", Client: tool.Client{Name: "test"}}

func invoke(g *Gateway, name, args string) Result {
	return g.Call(context.Background(), agent, name, json.RawMessage(args), nil)
}

// The order of the walk is a promise: nothing reaches a host before the
// decision and the start are on record, and the end always is.
func TestTheWalk(t *testing.T) {
	run := `{"alias":"web1","command":"uptime"}`
	for name, tc := range map[string]struct {
		arrange func(*world)
		tool    string
		args    string
		trail   []string
		failed  bool
		text    string
	}{
		"allowed": {
			tool: "ssh_run", args: run,
			trail: []string{"look up web1.internal", "decide run 10.0.0.1", "started", "run 10.0.0.1", "finished"},
			text:  "hi",
		},
		"refused": {
			arrange: func(w *world) { w.decide = deny("command_not_granted") },
			tool:    "ssh_run", args: run,
			trail:  []string{"look up web1.internal", "decide run 10.0.0.1", "refused"},
			failed: true, text: "command_not_granted",
		},
		"planned": {
			tool: "ssh_plan", args: run,
			trail: []string{"look up web1.internal", "decide plan 10.0.0.1"},
			text:  "Allowed on web1: 'uptime'",
		},
		"planned and denied is no failure": {
			arrange: func(w *world) { w.decide = deny("command_not_granted") },
			tool:    "ssh_plan", args: run,
			trail: []string{"look up web1.internal", "decide plan 10.0.0.1"},
			text:  "Would be denied",
		},
		"start not on record": {
			arrange: func(w *world) { w.write = func(audit.Event) error { return errors.New("disk full") } },
			tool:    "ssh_run", args: run,
			trail:  []string{"look up web1.internal", "decide run 10.0.0.1", "started"},
			failed: true, text: "audit_unwritable",
		},
		"unknown host": {
			tool: "ssh_run", args: `{"alias":"moon","command":"uptime"}`,
			trail: []string{"invalid"}, failed: true, text: `no host "moon"`,
		},
		"bad arguments": {
			tool: "ssh_run", args: `{"alias":"web1","command":"ls","Command":"rm"}`,
			trail: []string{"invalid"}, failed: true, text: `unknown argument "Command"`,
		},
		"unknown tool": {
			tool: "ssh_rum", args: `{}`, trail: []string{"invalid"}, failed: true, text: `no tool "ssh_rum"`,
		},
		"no address": {
			arrange: func(w *world) { w.decide = deny("network_unresolved") },
			tool:    "ssh_run", args: `{"alias":"gone","command":"uptime"}`,
			trail:  []string{"look up gone.internal", "decide run ", "refused"},
			failed: true, text: "gone.internal does not resolve: the name server does not know it",
		},
		"second address after a network refusal": {
			arrange: func(w *world) {
				w.decide = func(in policy.Input) tool.Decision {
					if in.Network.Address == "10.0.0.1" {
						return deny("network_blocked")(in)
					}
					return allow(in)
				}
			},
			tool: "ssh_run", args: `{"alias":"two","command":"uptime"}`,
			trail: []string{"look up two.internal", "decide run 10.0.0.1", "refused", "decide run 10.0.0.2", "started", "run 10.0.0.2", "finished"},
			text:  "hi",
		},
		"no second address after another refusal": {
			arrange: func(w *world) { w.decide = deny("command_not_granted") },
			tool:    "ssh_run", args: `{"alias":"two","command":"uptime"}`,
			trail:  []string{"look up two.internal", "decide run 10.0.0.1", "refused"},
			failed: true, text: "Denied",
		},
		"second address when nothing can have run": {
			arrange: func(w *world) {
				w.run = func(ctx context.Context, job tool.Job) tool.Report {
					if job.Target.Address.String() == "10.0.0.1" {
						return tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailRefused, Message: "refused"}}
					}
					return finished(ctx, job)
				}
			},
			tool: "ssh_run", args: `{"alias":"two","command":"uptime"}`,
			trail: []string{
				"look up two.internal", "decide run 10.0.0.1", "started", "run 10.0.0.1", "finished",
				"decide run 10.0.0.2", "started", "run 10.0.0.2", "finished",
			},
			text: "hi",
		},
		"never twice when it may have run": {
			arrange: func(w *world) {
				w.run = func(context.Context, tool.Job) tool.Report {
					return tool.Report{Outcome: tool.Unknown, Err: &tool.Failure{Code: tool.FailDropped, Message: "dropped in the middle"}}
				}
			},
			tool: "ssh_run", args: `{"alias":"two","command":"uptime"}`,
			trail:  []string{"look up two.internal", "decide run 10.0.0.1", "started", "run 10.0.0.1", "finished"},
			failed: true, text: "dropped in the middle",
		},
		"hops are resolved too": {
			tool: "ssh_run", args: `{"alias":"far","command":"uptime"}`,
			trail: []string{"look up web1.internal", "look up two.internal", "decide run 10.0.0.1", "started", "run 10.0.0.1", "finished"},
			text:  "hi",
		},
		"the gateway's own answers are judged and recorded": {
			tool: "ssh_list_hosts", args: `{}`,
			trail: []string{"decide run ", "started", "finished"},
			text:  "4 hosts: web1, two, gone, far",
		},
		"describe": {
			tool: "ssh_describe_host", args: `{"alias":"web1"}`,
			trail: []string{"decide run ", "started", "finished"},
			text:  "web1: ops@web1.internal:22, tags web; profiles readonly",
		},
		"describe unknown": {
			tool: "ssh_describe_host", args: `{"alias":"moon"}`,
			trail: []string{"invalid"}, failed: true, text: `no host "moon"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, g := newWorld(t)
			if tc.arrange != nil {
				tc.arrange(w)
			}
			got := invoke(g, tc.tool, tc.args)
			if d := cmp.Diff(tc.trail, w.trail); d != "" {
				t.Error(d)
			}
			if got.IsError != tc.failed || !strings.Contains(got.Text, tc.text) {
				t.Errorf("failed %v, text %q; want %v, …%s…", got.IsError, got.Text, tc.failed, tc.text)
			}
			if _, err := json.Marshal(got.Structured); err != nil {
				t.Error(err)
			}
		})
	}
}

// What was judged is what runs: the digest, the address and the words of the
// job are those of the input.
func TestTheJobIsWhatWasJudged(t *testing.T) {
	w, g := newWorld(t)
	invoke(g, "ssh_run", `{"alias":"web1","command":"df   -h|'tail' -1","max_seconds":3}`)
	in, job := w.inputs[0], w.jobs[0]
	if in.Call.Digest == "" || in.Call.Digest != job.Digest || w.events[0].Plan != job.Digest {
		t.Errorf("digests: input %q, job %q, audit %q", in.Call.Digest, job.Digest, w.events[0].Plan)
	}
	if in.Network.Address != job.Target.Address.String() {
		t.Errorf("judged %s, would dial %s", in.Network.Address, job.Target.Address)
	}
	sent := job.Steps[0].Do.(tool.Shell).Command
	if sent != in.Ops[0].Command {
		t.Error("the document that would be sent is not the one that was judged")
	}
	if in.Limits.Requested.Seconds != 3 || job.Limits.Seconds != 5 {
		t.Errorf("asked for %d s, may use %d s", in.Limits.Requested.Seconds, job.Limits.Seconds)
	}
	if job.DecisionID != "d1" || w.events[1].DecisionID != "d1" {
		t.Errorf("decision ids: job %q, audit %q", job.DecisionID, w.events[1].DecisionID)
	}
}

func TestOutcomeIsRecordedWhenTheCallerHasGone(t *testing.T) {
	w, g := newWorld(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	w.run = func(ctx context.Context, _ tool.Job) tool.Report {
		cancel(tool.StopDisconnect)
		<-ctx.Done()
		return tool.Report{Outcome: tool.Finished, Stop: tool.StopDisconnect, Stopped: true}
	}
	got := g.Call(ctx, agent, "ssh_run", json.RawMessage(`{"alias":"web1","command":"uptime"}`), nil)
	last := w.events[len(w.events)-1]
	if last.Type != audit.Finished || last.Stop != "disconnect" || !last.Cancelled || !got.IsError {
		t.Errorf("last event %+v, result %+v", last, got)
	}
}

func TestOutcomeIsRecordedWhenTheRunnerPanics(t *testing.T) {
	w, g := newWorld(t)
	w.run = func(context.Context, tool.Job) tool.Report { panic("broken") }
	func() {
		defer func() { _ = recover() }()
		invoke(g, "ssh_run", `{"alias":"web1","command":"uptime"}`)
	}()
	last := w.events[len(w.events)-1]
	if last.Type != audit.Finished || last.Outcome != "unknown" || last.Failure != "internal" {
		t.Errorf("last event %+v", last)
	}
	if usage, _ := g.usage.begin(agent.Subject, "web1", time.Now()); usage.Running.Subject != 0 {
		t.Errorf("%d calls still count as running", usage.Running.Subject)
	}
}

func TestRedactionReachesNoResult(t *testing.T) {
	for name, tc := range map[string]struct{ pattern, want string }{
		"pattern":        {`secret=\d`, "hi [redacted]"},
		"broken pattern": {`(`, "[redacted]"},
	} {
		w, g := newWorld(t)
		w.decide = func(in policy.Input) tool.Decision {
			d := allow(in)
			d.Redact = []string{tc.pattern}
			return d
		}
		got := invoke(g, "ssh_run", `{"alias":"web1","command":"uptime"}`)
		b, err := json.Marshal(got.Structured)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b)+got.Text, "secret=1") || !strings.Contains(got.Text, tc.want) {
			t.Errorf("%s: %s", name, got.Text)
		}
	}
}

func TestUsageIsToldAndBounded(t *testing.T) {
	w, g := newWorld(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		close(inside)
		<-leave
		return finished(ctx, job)
	}
	done := make(chan Result)
	go func() { done <- invoke(g, "ssh_run", `{"alias":"web1","command":"uptime"}`) }()
	<-inside
	w.run = finished
	invoke(g, "ssh_run", `{"alias":"web1","command":"uptime"}`)
	want := policy.Usage{Running: policy.UsageRunning{Subject: 1, Host: 1}, CallsLastMinute: policy.UsageCalls{Subject: 1}}
	if d := cmp.Diff(want, w.inputs[1].Usage); d != "" {
		t.Error(d)
	}
	g.config.Load().Settings.Limits.Calls = 1
	if got := invoke(g, "ssh_ping", `{}`); !got.IsError || !strings.Contains(got.Text, "busy") {
		t.Errorf("over the limit: %q", got.Text)
	}
	none, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Close(none); err == nil {
		t.Error("closed without a word while a call is in flight")
	}
	closed := make(chan error)
	go func() { closed <- g.Close(t.Context()) }()
	close(leave)
	if err := <-closed; err != nil || w.lastOf(audit.Finished, "ssh_run").Outcome == "" {
		t.Errorf("closed with %v before the call in flight was recorded", err)
	}
	<-done
}

func TestReload(t *testing.T) {
	w, g := newWorld(t)
	if got := invoke(g, "ssh_reload_config", `{}`); got.IsError {
		t.Errorf("nothing to reload: %q", got.Text)
	}
	g.reload = func(context.Context) (*config.Config, error) { return nil, errors.New("servers.yml:3: no such thing") }
	last := g.config.Load()
	got := invoke(g, "ssh_reload_config", `{}`)
	if !got.IsError || !strings.Contains(got.Text, "servers.yml:3: no such thing") || g.config.Load() != last {
		t.Errorf("a bad reload: %q", got.Text)
	}
	next := loadConfig(t)
	g.reload = func(context.Context) (*config.Config, error) { return next, nil }
	if got := invoke(g, "ssh_reload_config", `{}`); got.IsError || g.config.Load() != next {
		t.Errorf("a good reload: %q", got.Text)
	}
	reloads := 0
	for _, e := range w.events {
		if e.Type == audit.Reload {
			reloads++
		}
	}
	if reloads != 2 {
		t.Errorf("%d reloads on record", reloads)
	}
	g.reload = func(ctx context.Context) (*config.Config, error) {
		return nil, errors.New("the bundle gives no answer")
	}
	ending, end := context.WithCancelCause(t.Context())
	end(errors.New("terminated"))
	if _, err := g.Reload(ending, "file change"); err == nil || err.Error() != "the load was broken off: terminated" || w.events[len(w.events)-1].Detail != err.Error() {
		t.Errorf("a reload that is broken off: %v", err)
	}
	w.decide = deny("gateway_reload_not_granted")
	if got := invoke(g, "ssh_reload_config", `{}`); !got.IsError || slices.Contains(w.trail[len(w.trail)-1:], "reload") {
		t.Errorf("a refused reload: %q", got.Text)
	}
}

func TestResolver(t *testing.T) {
	w, g := newWorld(t)
	now := time.Unix(1000, 0)
	r := &g.resolver
	r.now, r.keep = func() time.Time { return now }, time.Minute
	for _, host := range []string{"10.1.2.3", "::1", "[2001:db8::1]", "::ffff:10.1.2.3"} {
		if a, f := r.resolve(context.Background(), host); f != nil || len(a) != 1 || a[0].Is4In6() {
			t.Errorf("resolve(%s) = %v, %v", host, a, f)
		}
	}
	for range 3 {
		r.resolve(context.Background(), "WEB1.internal")
	}
	if n := len(w.trail); n != 1 {
		t.Errorf("%d look-ups of a name in a minute, want 1: %v", n, w.trail)
	}
	now = now.Add(2 * time.Minute)
	r.resolve(context.Background(), "web1.internal")
	if n := len(w.trail); n != 2 {
		t.Errorf("%d look-ups after the memory ran out, want 2", n)
	}
	r.keep = 0
	for range lookupsPerSecond + 5 {
		r.resolve(context.Background(), "flood.internal")
	}
	if n := len(w.trail); n != 2+lookupsPerSecond {
		t.Errorf("%d look-ups in a second, want %d", n-2, lookupsPerSecond)
	}
	if _, f := r.resolve(context.Background(), "flood.internal"); f == nil || f.Code != tool.FailLookups {
		t.Errorf("over the limit: %v", f)
	}
}

func TestMinuteForgets(t *testing.T) {
	var m minute
	start := time.Unix(10_000, 0)
	for i := range 90 {
		m.add(start.Add(time.Duration(i) * time.Second))
	}
	if got := m.sum(start.Add(89 * time.Second)); got != 60 {
		t.Errorf("sum = %d, want 60", got)
	}
	if got := m.sum(start.Add(10 * time.Minute)); got != 0 {
		t.Errorf("sum ten minutes later = %d, want 0", got)
	}
}
