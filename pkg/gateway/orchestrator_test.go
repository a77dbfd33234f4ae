package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// lookups answers as a test wants, and counts.
type lookups struct {
	answer func(ctx context.Context, host string) ([]netip.Addr, error)
	n      atomic.Int64
}

func (l *lookups) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	l.n.Add(1)
	return l.answer(ctx, host)
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// TestOrchestrator has what mcp-ssh-orchestrator's tests expect of names and
// addresses, by the number of the case.
func TestOrchestrator(t *testing.T) {
	for id, test := range map[string]func(*testing.T){
		"S2 names":                       names,
		"S2 memory":                      memory,
		"S2 limit of look-ups":           lookupLimit,
		"S2 a resolver that hangs":       hangingResolver,
		"T9 T12 an address is judged":    addressJudged,
		"T12 limit of look-ups refuses":  lookupLimitRefuses,
		"B13 rebinding":                  rebinding,
		"B13 jump hosts' addresses too":  hopAddresses,
		"T13 whoever asks may give up":   waiterGivesUp,
		"T13 a part that panics":         partPanics,
		"U1 the hash is in both records": hashes,
	} {
		t.Run(id, test)
	}
}

func names(t *testing.T) {
	l := &lookups{answer: func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "localhost" {
			return addrs("127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%eth0", "10.0.0.1"), nil
		}
		return nil, errors.New("broken")
	}}
	r := resolver{lookup: l, timeout: time.Second, keep: time.Minute, now: time.Now}
	got, failure := r.resolve(t.Context(), "localhost")
	if want := addrs("127.0.0.1", "::1", "10.0.0.1"); failure != nil || !cmp.Equal(got, want, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		t.Errorf("every family once, none with a zone: %v, %v; want %v", got, failure, want)
	}
	for _, host := range []string{"", "no-such-name.invalid"} {
		if got, failure := r.resolve(t.Context(), host); len(got) > 0 || failure == nil || failure.Code != tool.FailUnresolved {
			t.Errorf("%q resolves to %v, %v", host, got, failure)
		}
	}
}

func memory(t *testing.T) {
	known := map[string][]netip.Addr{"a": addrs("10.0.0.1")}
	l := &lookups{answer: func(_ context.Context, host string) ([]netip.Addr, error) {
		if known[host] == nil {
			return nil, errors.New("unknown")
		}
		return known[host], nil
	}}
	now := time.Unix(1000, 0)
	r := resolver{lookup: l, timeout: time.Second, keep: 60 * time.Second, now: func() time.Time { return now }}
	for range 5 {
		r.resolve(t.Context(), "a")
		r.resolve(t.Context(), "b")
	}
	if l.n.Load() != 2 {
		t.Errorf("%d look-ups of two names, one of them unknown; want 2", l.n.Load())
	}
	known["b"] = addrs("10.0.0.2")
	now = now.Add(59 * time.Second)
	if got, _ := r.resolve(t.Context(), "b"); got != nil {
		t.Error("a name that did not resolve is asked for again within a minute")
	}
	now = now.Add(2 * time.Second)
	if got, _ := r.resolve(t.Context(), "b"); len(got) != 1 {
		t.Error("after a minute it is not asked for again")
	}
}

func lookupLimit(t *testing.T) {
	l := &lookups{answer: func(context.Context, string) ([]netip.Addr, error) { return addrs("10.0.0.1"), nil }}
	now := time.Unix(1000, 0)
	r := resolver{lookup: l, timeout: time.Second, now: func() time.Time { return now }}
	ask := func(host string) bool {
		now = now.Add(time.Millisecond)
		got, failure := r.resolve(t.Context(), host)
		if failure != nil && failure.Code != tool.FailLookups {
			t.Errorf("failure %v", failure)
		}
		return len(got) == 1 && failure == nil
	}
	for i := range 10 {
		if !ask("a") {
			t.Errorf("look-up %d in a second is refused", i+1)
		}
	}
	if ask("a") {
		t.Error("an eleventh look-up in a second is made")
	}
	if !ask("b") {
		t.Error("one name's limit is another's")
	}
	// The window slides: asking on does not keep the name out.
	for range 980 {
		ask("a")
	}
	made := l.n.Load()
	for range 20 {
		ask("a")
	}
	if l.n.Load() == made {
		t.Error("after a second of asking there is still no look-up")
	}
}

func hangingResolver(t *testing.T) {
	l := &lookups{answer: func(ctx context.Context, _ string) ([]netip.Addr, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	r := resolver{lookup: l, timeout: 20 * time.Millisecond, keep: time.Minute, now: time.Now}
	_, failure := r.resolve(t.Context(), "slow")
	if failure == nil || !strings.Contains(failure.Message, "no answer within 20ms") {
		t.Errorf("failure %v", failure)
	}
	if r.resolve(t.Context(), "slow"); l.n.Load() != 1 {
		t.Error("a name that timed out is asked for again at once")
	}
}

func waiterGivesUp(t *testing.T) {
	asked := make(chan struct{})
	l := &lookups{answer: func(ctx context.Context, _ string) ([]netip.Addr, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	r := resolver{lookup: l, timeout: time.Minute, keep: time.Minute, now: time.Now}
	first, end := context.WithCancel(t.Context())
	done := make(chan *tool.Failure)
	go func() {
		_, failure := r.resolve(first, "slow")
		done <- failure
	}()
	<-asked
	waiter, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, failure := r.resolve(waiter, "slow"); failure == nil || !errors.Is(failure.Cause, errGaveUp) {
		t.Errorf("a caller that waits for another's look-up: %v", failure)
	}
	end()
	if failure := <-done; failure == nil || !errors.Is(failure.Cause, errGaveUp) {
		t.Errorf("a caller that is cancelled: %v", failure)
	}
}

// A part that panics in the middle of a call, of whatever tool, leaves nothing
// behind that counts as running. The transport turns the panic into an answer.
func partPanics(t *testing.T) {
	w, g := newWorld(t)
	w.decide = func(policy.Input) tool.Decision { panic("broken") }
	for name, args := range map[string]string{
		"ssh_plan": onWeb1, "ssh_run": onWeb1, "ssh_run_async": onWeb1, "ssh_run_on_tag": `{"tag":"web","command":"uptime"}`,
		"ssh_cancel": `{"task_id":"x"}`, "ssh_cancel_async_task": `{"task_id":"x"}`, "ssh_reload_config": `{}`,
		"ssh_get_task_status": `{"task_id":"x"}`, "ssh_get_task_result": `{"task_id":"x"}`, "ssh_get_task_output": `{"task_id":"x"}`,
		"ssh_ping": `{}`, "ssh_list_hosts": `{}`, "ssh_describe_host": `{"alias":"web1"}`,
	} {
		if text := panicOf(func() { invoke(g, name, args) }); !strings.Contains(text, "broken") {
			t.Errorf("%s hides the panic: %q", name, text)
		}
	}
	w.decide = allow
	if got := invoke(g, "ssh_run", onWeb1); got.IsError {
		t.Errorf("the next call: %s", got.Text)
	}
	if usage, release := g.usage.begin(agent.Subject, "web1", time.Now()); usage.Running.Subject != 0 || g.calls.n != 0 || len(g.cancels.calls) != 0 {
		t.Errorf("still running: %+v, %d calls, %d to be cancelled", usage.Running, g.calls.n, len(g.cancels.calls))
	} else {
		release()
	}
}

// panicOf is what a function panics with; empty when it does not.
func panicOf(f func()) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint(p)
		}
	}()
	f()
	return ""
}

// blocking refuses one address, as network.block_ips does.
func blocking(address string) func(policy.Input) tool.Decision {
	return func(in policy.Input) tool.Decision {
		if in.Network.Address == address {
			return deny("network_blocked")(in)
		}
		return allow(in)
	}
}

func addressJudged(t *testing.T) {
	w, g := newWorld(t)
	w.decide = deny("network_not_allowed")
	got := invoke(g, "ssh_run", `{"alias":"two","command":"uptime"}`)
	want := []string{"look up two.internal", "decide run 10.0.0.1", "refused", "decide run 10.0.0.2", "refused"}
	if d := cmp.Diff(want, w.trail); d != "" || !got.IsError || !strings.Contains(got.Text, "network_not_allowed") {
		t.Errorf("%s: %s", got.Text, d)
	}
	w, g = newWorld(t)
	w.decide = deny("network_unresolved")
	if got := invoke(g, "ssh_run", `{"alias":"gone","command":"uptime"}`); !got.IsError || len(w.jobs) > 0 || !strings.Contains(got.Text, "gone.internal") {
		t.Errorf("a name without an address: %s", got.Text)
	}
}

func lookupLimitRefuses(t *testing.T) {
	w, g := newWorld(t)
	w.decide = deny("network_unresolved")
	g.resolver.keep = 0
	for range lookupsPerSecond {
		invoke(g, "ssh_run", `{"alias":"gone","command":"uptime"}`)
	}
	got := invoke(g, "ssh_run", `{"alias":"gone","command":"uptime"}`)
	last := w.events[len(w.events)-1]
	if !strings.Contains(got.Text, "network_lookup_limit") || last.Failure != "network_lookup_limit" || w.marks[len(w.marks)-1].Custom["resolver"] != "lookup_limit" {
		t.Errorf("answer %q, audit %q, mark %v", got.Text, last.Failure, w.marks[len(w.marks)-1])
	}
}

// A name that leads elsewhere between the check and the dial leads nowhere:
// there is one look-up, and its address is dialled.
func rebinding(t *testing.T) {
	w, g := newWorld(t)
	g.resolver.keep = 0
	answers := [][]string{{"10.0.0.66", "10.0.0.1"}, {"10.0.0.66"}}
	g.resolver.lookup = &lookups{answer: func(context.Context, string) ([]netip.Addr, error) {
		next := answers[0]
		answers = answers[1:]
		return addrs(next...), nil
	}}
	w.decide = blocking("10.0.0.66")
	if got := invoke(g, "ssh_run", `{"alias":"web1","command":"uptime"}`); got.IsError || len(answers) != 1 {
		t.Errorf("%d look-ups in a call: %s", 2-len(answers), got.Text)
	}
	if got := invoke(g, "ssh_run", `{"alias":"web1","command":"uptime"}`); !got.IsError {
		t.Errorf("only the forbidden address is left: %s", got.Text)
	}
	for _, job := range w.jobs {
		if job.Target.Address != netip.MustParseAddr("10.0.0.1") {
			t.Errorf("%s would be dialled", job.Target.Address)
		}
	}
	if len(w.jobs) != 1 {
		t.Errorf("%d jobs, want 1", len(w.jobs))
	}
}

// A jump host that cannot be reached at one address is tried at its next, with
// a decision of its own.
func hopAddresses(t *testing.T) {
	w, g := newWorld(t)
	w.names["web1.internal"] = []string{"10.1.0.1", "10.1.0.2"}
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		if job.Target.Via[0].Address != netip.MustParseAddr("10.1.0.2") || job.Target.Address != netip.MustParseAddr("10.0.0.2") {
			return tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailUnreachable, Message: "no route"}}
		}
		return finished(ctx, job)
	}
	got := invoke(g, "ssh_run", `{"alias":"far","command":"uptime"}`)
	var tried []string
	for _, job := range w.jobs {
		tried = append(tried, job.Target.Via[0].Address.String()+" "+job.Target.Address.String())
	}
	want := []string{"10.1.0.1 10.0.0.1", "10.1.0.1 10.0.0.2", "10.1.0.2 10.0.0.1", "10.1.0.2 10.0.0.2"}
	if d := cmp.Diff(want, tried); d != "" || got.IsError || len(w.inputs) != len(w.jobs) {
		t.Errorf("%s %d decisions for %d jobs: %s", d, len(w.inputs), len(w.jobs), got.Text)
	}
}

func hashes(t *testing.T) {
	w, g := newWorld(t)
	invoke(g, "ssh_run", `{"alias":"web1","command":"uptime"}`)
	invoke(g, "ssh_run", `{"alias":"web1","command":"uptime"}`)
	invoke(g, "ssh_run", `{"alias":"web1","command":"uptime -p"}`)
	const uptime = "dd291cd6294bafef"
	first, same, other := w.marks[0].Custom["hash"], w.marks[1].Custom["hash"], w.marks[2].Custom["hash"]
	if first != uptime || same != first || other == first || w.events[0].Hash != uptime || w.events[1].Hash != uptime {
		t.Errorf("hashes %v, %v, %v; audit %q, %q", first, same, other, w.events[0].Hash, w.events[1].Hash)
	}
}
