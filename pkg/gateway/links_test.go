package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// linking is a world whose hosts can be connected to, and in which a directory is
// where its name says.
func linking(t *testing.T) (*world, *Gateway) {
	t.Helper()
	w, g := newWorld(t)
	w.run = reachable
	t.Cleanup(func() {
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if n := len(g.links.spaces) + len(g.links.kept) + g.links.all; n != 0 {
			t.Errorf("left: %+v, %v", g.links.spaces, g.links.kept)
		}
	})
	return w, g
}

func reachable(ctx context.Context, job tool.Job) tool.Report {
	address := job.Target.Address.String()
	switch do := job.Steps[0].Do.(type) {
	case tool.Connect:
		return answering(address, tool.Connected{Address: address, HostKey: "ssh-ed25519 SHA256:x", Directory: "/home/ops"})
	case tool.Locate:
		facts := tool.FileFacts{Path: do.Path, Under: tool.Under(do.Path), Exists: true, Type: tool.Directory}
		if strings.HasSuffix(do.Path, "file") {
			facts.Type = tool.RegularFile
		}
		return answering(address, facts)
	case tool.Enter:
		if strings.HasSuffix(do.Path, "closed") {
			return tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailNoDirectory, Message: "it cannot be entered"}}
		}
		return answering(address, do.Path)
	}
	r := finished(ctx, job)
	r.Address = address
	return r
}

func answering(address string, v any) tool.Report {
	return tool.Report{Outcome: tool.Finished, Address: address, Outputs: []tool.Output{{Answer: v}}}
}

func invokeAs(g *Gateway, subject, session, name, args string) Result {
	caller := agent
	caller.Subject, caller.Session = subject, session
	return g.Call(context.Background(), caller, name, json.RawMessage(args), nil)
}

// said is one of a result's fields.
func said(t *testing.T, r Result, field string) any {
	t.Helper()
	b, err := json.Marshal(r.Structured)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m[field]
}

// step is a call and what has to come of it.
type step struct {
	tool, args string
	text       string // in the result
	failed     bool
}

func (s step) check(t *testing.T, g *Gateway) {
	t.Helper()
	r := invoke(g, s.tool, s.args)
	if r.IsError != s.failed || !strings.Contains(r.Text, s.text) {
		t.Errorf("%s %s: failed %v, %q; want %v, …%s…", s.tool, s.args, r.IsError, r.Text, s.failed, s.text)
	}
}

const here = `{"command":"uptime"}`

func TestConnections(t *testing.T) {
	adhoc := `{"host":"web9.internal","username":"ops"`
	for name, steps := range map[string][]step{
		"the first one is the default": {
			{"connect", `{"host":"web1"}`, `target "web1", in /home/ops. Calls without a target mean it`, false},
			{"connect", `{"host":"two"}`, `target "two", in /home/ops.`, false},
			{"run", here, "hi", false},
		},
		"nothing open": {
			{"run", here, "no_connection", true},
			{"run", `{"command":"uptime","target":"primary"}`, "connect first, or name a host", true},
			{"run", `{"command":"uptime","target":"web1"}`, "hi", false},
			{"run", `{"command":"uptime","target":"moon"}`, "unknown_target", true},
			{"info", `{}`, "no_connection", true},
		},
		"the default leaves none": {
			{"connect", `{"host":"web1"}`, "web1", false},
			{"connect", `{"host":"two"}`, "two", false},
			{"disconnect", `{"alias":"primary"}`, "Disconnected web1.", false},
			{"run", here, "name one of those that are open as target: two", true},
			{"connect", `{"host":"gone"}`, "Calls without a target mean it", true},
			{"connect", `{"host":"web1"}`, "Calls without a target mean it", false},
		},
		"once more": {
			{"connect", `{"host":"web1"}`, "web1", false},
			{"connect", `{"host":"web1"}`, "web1", false},
			{"connect", `{"host":"web1","username":"ops"}`, "web1", false},
			{"connect", `{"host":"web1","alias":"again"}`, `target "again"`, false},
			{"connect", `{"host":"two","alias":"again"}`, "connection_conflict", true},
			{"connect", `{"host":"two","alias":"web1"}`, "alias_taken", true},
			{"connect", `{"host":"two","alias":"primary"}`, "alias_taken", true},
			{"disconnect", `{}`, "Disconnected again, web1.", false},
			{"disconnect", `{}`, "No connection was open", false},
			{"disconnect", `{"alias":"web1"}`, "no_connection", true},
		},
		"described hosts": {
			{"connect", adhoc + `}`, `target "ops@web9.internal"`, false},
			{"connect", adhoc + `}`, `target "ops@web9.internal-2"`, false},
			{"connect", adhoc + `,"alias":"nine","port":2222}`, `target "nine"`, false},
			{"connect", adhoc + `,"alias":"nine","port":2222}`, `target "nine"`, false},
			{"connect", adhoc + `,"alias":"nine"}`, "connection_conflict", true},
			{"connect", adhoc + `,"alias":"nine","port":2222,"password":"x"}`, "connection_conflict", true},
			{"connect", adhoc + `,"alias":"nine","port":2222,"private_key_path":"x"}`, "connection_conflict", true},
			{"connect", `{"host":"web9.internal","alias":"nine","port":2222,"username":"root"}`, "connection_conflict", true},
			{"connect", adhoc + `,"alias":"web1"}`, "alias_taken", true},
			{"connect", adhoc + `,"alias":"self","via":"self"}`, "unknown_target", true},
			{"connect", adhoc + `,"alias":"nine","via":"nine"}`, "not reached through itself", true},
			{"connect", `{"host":"web9.internal","port":22}`, `"username" is missing`, true},
			{"connect", `{"host":"ops@web9.internal","port":22}`, "the character '@'", true},
			{"connect", `{"host":"web9.internal"}`, "unknown_host", true},
			{"connect", adhoc + `,"password":"x","private_key_path":"y"}`, "beside", true},
			{"connect", adhoc + `,"host_key":"MD5:aa"}`, "not a fingerprint", true},
			{"connect", `{"host":"127.0.0.1; echo X #","username":"a"}`, "the character ';'", true},
		},
		"a host of the inventory is what is written there": {
			{"connect", `{"host":"web1","username":"root"}`, "host_in_inventory", true},
			{"connect", `{"host":"web1","username":"ops","port":2200}`, "host_in_inventory", true},
			{"connect", `{"host":"web1","username":"ops","password":"x"}`, "host_in_inventory", true},
			{"connect", `{"host":"web1","username":"ops","port":22}`, "web1", false},
			{"connect", `{"host":"two","via":"web1"}`, "the inventory says", true},
			{"connect", `{"host":"far","via":"web1"}`, "far", false},
			{"connect", `{"host":"far","alias":"f2","via":"two"}`, "the inventory says", true},
		},
		"a hop takes along what goes through it": {
			{"connect", adhoc + `,"alias":"one"}`, "one", false},
			{"connect", adhoc + `,"alias":"two2","via":"one"}`, "two2", false},
			{"connect", adhoc + `,"alias":"three","via":"two2"}`, "three", false},
			{"connect", adhoc + `,"alias":"other"}`, "other", false},
			{"disconnect", `{"alias":"one"}`, "Disconnected one, three, two2.", false},
			{"run", `{"command":"uptime","target":"three"}`, "unknown_target", true},
			{"run", `{"command":"uptime","target":"other"}`, "hi", false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, g := linking(t)
			w.names["web9.internal"] = []string{"10.0.0.9"}
			run := w.run
			w.run = func(ctx context.Context, job tool.Job) tool.Report {
				if !job.Target.Address.IsValid() {
					return tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailUnresolved, Message: "Calls without a target mean it, not"}}
				}
				return run(ctx, job)
			}
			for _, s := range steps {
				s.check(t, g)
			}
		})
	}
}

// A connection is the subject's, and a session a namespace inside that.
func TestConnectionsBelongToTheSubject(t *testing.T) {
	w, g := linking(t)
	open := func(subject, session, alias string) {
		t.Helper()
		if r := invokeAs(g, subject, session, "connect", `{"host":"web1","alias":"`+alias+`"}`); r.IsError {
			t.Fatal(r.Text)
		}
	}
	knows := func(subject, session, alias string) bool {
		return !invokeAs(g, subject, session, "run", `{"command":"uptime","target":"`+alias+`"}`).IsError
	}
	open("a", "s1", "mine")
	for _, other := range [][2]string{{"a", "s2"}, {"a", ""}, {"b", "s1"}, {"b", ""}} {
		if knows(other[0], other[1], "mine") {
			t.Errorf("%v knows what a in s1 has opened", other)
		}
		if r := invokeAs(g, other[0], other[1], "disconnect", `{"alias":"mine"}`); !r.IsError {
			t.Errorf("%v closed it", other)
		}
	}
	if !knows("a", "s1", "mine") {
		t.Error("its owner does not know it")
	}
	open("b", "s1", "mine")
	first, second := w.jobs[0].Target.Conn, w.jobs[len(w.jobs)-1].Target.Conn
	if first.ID == second.ID || first.ID == "" {
		t.Errorf("two connections are %q and %q", first.ID, second.ID)
	}
}

func TestGlobalIsOneNamespaceForEachSubject(t *testing.T) {
	w, g := linking(t)
	g.config.Load().Settings.Conns.Global = true
	invokeAs(g, "a", "s1", "connect", `{"host":"web1","alias":"mine"}`)
	if r := invokeAs(g, "a", "s2", "run", `{"command":"uptime"}`); r.IsError {
		t.Error(r.Text)
	}
	if r := invokeAs(g, "b", "s1", "run", `{"command":"uptime"}`); !r.IsError {
		t.Error("another subject uses it")
	}
	g.SessionOpened(t.Context(), tool.Caller{Subject: "a", Session: "s1"})
	g.SessionClosed(t.Context(), tool.Caller{Subject: "a", Session: "s1"}, tool.StopDisconnect)
	eventually(t, "the runner forgets", func() bool { return slices.Contains(w.trailNow(), "forget a") })
	if r := invokeAs(g, "a", "s2", "run", `{"command":"uptime"}`); r.IsError {
		t.Error(r.Text)
	}
}

// 1,000 subjects that do the same at the same time, each in a directory of its
// own, never meet.
func TestSubjectsNeverMeet(t *testing.T) {
	w, g := linking(t)
	g.config.Load().Settings.Limits.Calls = 2000
	const subjects = 1000
	var all sync.WaitGroup
	for i := range subjects {
		all.Go(func() {
			subject := fmt.Sprint("subject-", i)
			for _, s := range []step{
				{"connect", `{"host":"web1","alias":"mine"}`, `"mine"`, false},
				{"run", `{"command":"cd /srv/` + subject + `"}`, "mine works in /srv/" + subject, false},
				{"run", `{"command":"ls notes"}`, "hi", false},
				{"disconnect", `{}`, "Disconnected mine.", false},
				{"run", here, "no_connection", true},
			} {
				if r := invokeAs(g, subject, "same", s.tool, s.args); r.IsError != s.failed || !strings.Contains(r.Text, s.text) {
					t.Errorf("%s: %s: %s", subject, s.tool, r.Text)
				}
			}
		})
	}
	all.Wait()
	conns := map[string]string{}
	for _, job := range w.jobs {
		if owner, known := conns[job.Target.Conn.ID]; known && owner != job.Subject {
			t.Fatalf("%s works on a connection of %s", job.Subject, owner)
		}
		conns[job.Target.Conn.ID] = job.Subject
		if do, runs := job.Steps[0].Do.(tool.Shell); runs && do.Command.Cwd != "/srv/"+job.Subject {
			t.Fatalf("%s works in %s", job.Subject, do.Command.Cwd)
		}
	}
	if len(conns) != subjects || len(w.ended) != subjects {
		t.Errorf("%d connections, %d closed", len(conns), len(w.ended))
	}
}

func (w *world) trailNow() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.trail)
}

// What is on record of a connection: who opened it, how it was proved, and why it
// was closed.
func TestConnectionsAreOnRecord(t *testing.T) {
	w, g := linking(t)
	w.names["web9.internal"] = []string{"10.0.0.9"}
	invoke(g, "connect", `{"host":"web1"}`)
	invoke(g, "connect", `{"host":"web9.internal","username":"ops","alias":"nine","via":"web1"}`)
	invoke(g, "connect", `{"host":"web1"}`)
	invoke(g, "disconnect", `{"alias":"web1"}`)
	var got []string
	for _, e := range w.events {
		if e.Type == audit.ConnOpen || e.Type == audit.ConnClose {
			got = append(got, strings.Join([]string{string(e.Type), e.Subject, e.Alias, e.TargetIP, e.Detail}, " "))
		}
	}
	want := []string{
		"conn_open agent-7 web1 10.0.0.1 ssh-ed25519 SHA256:x",
		"conn_open agent-7 nine 10.0.0.9 ssh-ed25519 SHA256:x",
		"conn_close agent-7 nine 10.0.0.9 hop_closed",
		"conn_close agent-7 web1 10.0.0.1 disconnect_asked",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if w.events[2].CallID != w.events[1].CallID || w.events[1].Type != audit.ConnOpen {
		t.Errorf("the record does not name the call: %+v", w.events[:3])
	}
	if !slices.Equal(w.ended, []string{w.jobs[1].Target.Conn.ID, w.jobs[0].Target.Conn.ID}) {
		t.Errorf("closed in this order: %v", w.ended)
	}
}

// Whatever is done over a connection is judged anew, with each hop as it is now;
// the address that answered is the one to ask for.
func TestConnectionPermitsNothing(t *testing.T) {
	w, g := linking(t)
	w.names["web9.internal"] = []string{"10.0.0.8", "10.0.0.9"}
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		if job.Target.Address.String() == "10.0.0.8" {
			return tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailRefused, Message: "refused"}}
		}
		return reachable(ctx, job)
	}
	invoke(g, "connect", `{"host":"far","alias":"hop"}`)
	invoke(g, "connect", `{"host":"web9.internal","username":"ops","alias":"nine","via":"hop","host_key":"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`)
	w.inputs, w.names["web9.internal"] = nil, []string{"10.0.0.8", "10.0.0.7", "10.0.0.9"}
	g.resolver.names = nil
	if r := invoke(g, "run", `{"command":"uptime","target":"nine"}`); r.IsError || said(t, r, "target_ip") != "10.0.0.9" {
		t.Fatalf("%s: %v", r.Text, said(t, r, "target_ip"))
	}
	in := w.inputs[0]
	if in.Host.Source != "adhoc" || in.Host.Auth != "identity" || in.Host.HostKey == "" || in.Network.Address != "10.0.0.9" || len(in.Network.Addresses) != 3 {
		t.Errorf("%+v %+v", in.Host, in.Network)
	}
	want := []policy.Hop{
		{Alias: "web1", Hostname: "web1.internal", Port: 22, User: "ops", Source: "inventory"},
		{Alias: "far", Hostname: "two.internal", Port: 22, User: "ops", Source: "inventory"},
	}
	for i := range in.Host.Via {
		if len(in.Host.Via[i].Addresses) == 0 {
			t.Errorf("a hop has no address: %+v", in.Host.Via[i])
		}
		in.Host.Via[i].Addresses = nil
	}
	if d := cmp.Diff(want, in.Host.Via); d != "" {
		t.Error(d)
	}
	w.names["web9.internal"] = []string{"10.0.0.8", "10.0.0.7"}
	g.resolver.names = nil
	invoke(g, "run", `{"command":"uptime","target":"nine"}`)
	w.names["web9.internal"] = []string{"10.0.0.9", "10.0.0.7"}
	g.resolver.names = nil
	if r := invoke(g, "run", `{"command":"uptime","target":"nine"}`); said(t, r, "target_ip") != "10.0.0.7" {
		t.Errorf("not at the address that answered last: %s", r.Text)
	}
	w.decide = deny("host_not_granted")
	if r := invoke(g, "run", `{"command":"uptime","target":"nine"}`); !r.IsError || !strings.Contains(r.Text, "host_not_granted") {
		t.Error(r.Text)
	}
}

// Nothing is closed under a running call, whoever wants it closed.
func TestNothingIsClosedUnderACall(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(g *Gateway)
		text string
	}{
		"disconnect": {func(g *Gateway) { invoke(g, "disconnect", `{}`) }, "disconnect_asked"},
		"session": {func(g *Gateway) {
			g.SessionOpened(context.Background(), agent)
			g.SessionClosed(context.Background(), agent, tool.StopDisconnect)
		}, "session_end"},
		"lifetime": {func(g *Gateway) {
			g.config.Load().Settings.Conns.Lifetime = 0
			g.links.sweep()
		}, "lifetime"},
	} {
		t.Run(name, func(t *testing.T) {
			w, g := linking(t)
			inside, leave := make(chan struct{}), make(chan struct{})
			w.names["web9.internal"] = []string{"10.0.0.9"}
			w.run = func(ctx context.Context, job tool.Job) tool.Report {
				if _, runs := job.Steps[0].Do.(tool.Shell); runs {
					close(inside)
					<-leave
				}
				return reachable(ctx, job)
			}
			invoke(g, "connect", `{"host":"web1","alias":"hop"}`)
			invoke(g, "connect", `{"host":"web9.internal","username":"ops","alias":"nine","via":"hop"}`)
			done := make(chan Result)
			go func() { done <- invoke(g, "run", `{"command":"uptime","target":"nine"}`) }()
			<-inside
			end.do(g)
			g.links.mu.Lock()
			ended, spaces := len(w.ended), len(g.links.spaces)
			g.links.mu.Unlock()
			if ended != 0 || spaces != 0 {
				t.Errorf("%d were closed, and %d spaces take calls", ended, spaces)
			}
			if r := invoke(g, "connect", `{"host":"web1","alias":"hop"}`); r.IsError {
				t.Errorf("the name is not free: %s", r.Text)
			}
			close(leave)
			if r := <-done; r.IsError {
				t.Error(r.Text)
			}
			if !slices.Equal(w.ended, []string{w.jobs[1].Target.Conn.ID, w.jobs[0].Target.Conn.ID}) {
				t.Errorf("closed in this order: %v of %d", w.ended, len(w.jobs))
			}
			last := w.events[len(w.events)-1]
			if last.Type != audit.ConnClose || last.Detail != end.text {
				t.Errorf("%+v", last)
			}
		})
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	_, g := linking(t)
	conns := &g.config.Load().Settings.Conns
	conns.PerSubject, conns.Total = 2, 3
	open := func(subject, alias string) string {
		return invokeAs(g, subject, "", "connect", `{"host":"web1","alias":"`+alias+`"}`).Text
	}
	for subject, aliases := range map[string]string{"a": "xy", "b": "z"} {
		for _, alias := range aliases {
			if text := open(subject, string(alias)); !strings.Contains(text, "Connected") {
				t.Error(text)
			}
		}
	}
	if text := open("a", "more"); !strings.Contains(text, "the caller has 2 connections open") {
		t.Error(text)
	}
	if text := open("b", "more"); !strings.Contains(text, "connections.total") {
		t.Error(text)
	}
	invokeAs(g, "a", "", "disconnect", `{"alias":"x"}`)
	if text := open("b", "more"); !strings.Contains(text, "Connected") {
		t.Error(text)
	}
}

func TestConnectionsEndByThemselves(t *testing.T) {
	w, g := linking(t)
	begun := time.Unix(1e9, 0)
	now := begun
	g.now = func() time.Time { return now }
	conns := g.config.Load().Settings.Conns
	invokeAs(g, "a", "", "connect", `{"host":"web1","alias":"idle"}`)
	invokeAs(g, "a", "", "connect", `{"host":"web1","alias":"used"}`)
	for now = now.Add(conns.Idle - 1); ; now = now.Add(conns.Idle / 2) {
		g.links.sweep()
		if r := invokeAs(g, "a", "", "run", `{"command":"uptime","target":"used"}`); r.IsError {
			break
		}
		if now.After(begun.Add(2 * conns.Lifetime)) {
			t.Fatal("one that is used lives for ever")
		}
	}
	var why []string
	for _, e := range w.events {
		if e.Type == audit.ConnClose {
			why = append(why, e.Alias+" "+e.Detail)
		}
	}
	if !slices.Equal(why, []string{"idle idle", "used lifetime"}) || now.Before(begun.Add(conns.Lifetime)) {
		t.Errorf("%v at %s", why, now)
	}
}

// The alarm rings without anybody's doing, and stops with the last connection.
func TestConnectionsAreSweptInTime(t *testing.T) {
	w, g := linking(t)
	g.config.Load().Settings.Conns.Idle = 40 * time.Millisecond
	invoke(g, "connect", `{"host":"web1"}`)
	eventually(t, "it is closed", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.ended) == 1
	})
	eventually(t, "no alarm is set", func() bool {
		g.links.mu.Lock()
		defer g.links.mu.Unlock()
		return g.links.alarm == nil
	})
}

// With a session goes what was open in it, and with the last one what is kept for
// its subject; a namespace of its own name stays.
func TestSessionEnds(t *testing.T) {
	w, g := linking(t)
	in := func(session string) tool.Caller { return tool.Caller{Subject: "a", Session: session} }
	for _, session := range []string{"s1", "s2"} {
		g.SessionOpened(t.Context(), in(session))
	}
	for _, namespace := range []string{"s1", "s2", "key"} {
		invokeAs(g, "a", namespace, "connect", `{"host":"web1"}`)
	}
	g.SessionClosed(t.Context(), in("s1"), tool.StopDisconnect)
	g.links.closing.Wait()
	if !slices.Equal(w.ended, []string{w.jobs[0].Target.Conn.ID}) || slices.Contains(w.trail, "forget a") {
		t.Errorf("after one session: %v", w.trail)
	}
	g.SessionClosed(t.Context(), in("s2"), tool.StopDisconnect)
	g.links.closing.Wait()
	if len(w.ended) != 2 || !slices.Contains(w.trail, "forget a") {
		t.Errorf("after both: %v", w.trail)
	}
	if r := invokeAs(g, "a", "key", "run", here); r.IsError {
		t.Error(r.Text)
	}
	for range 10_000 {
		g.SessionOpened(t.Context(), in("s"))
		g.SessionClosed(t.Context(), in("s"), tool.StopDisconnect)
	}
	if n := len(g.links.sessions); n != 0 {
		t.Errorf("%d subjects are remembered", n)
	}
}

// A connection that could not be made leaves nothing, least of all a password.
func TestConnectionThatFails(t *testing.T) {
	w, g := linking(t)
	w.names["web9.internal"] = []string{"10.0.0.9"}
	var secret tool.Secret
	for name, spoil := range map[string]func(){
		"refused":     func() { w.decide = deny("host_source") },
		"unreachable": func() { w.run = failing },
		"not on record": func() {
			w.write = func(e audit.Event) error {
				if e.Type == audit.Started {
					return context.Canceled
				}
				return nil
			}
		},
	} {
		decide, run, write := w.decide, w.run, w.write
		w.decide = func(in policy.Input) tool.Decision { return decide(in) }
		spoil()
		w.jobs = nil
		if r := invoke(g, "connect", `{"host":"web9.internal","username":"ops","password":"canary","alias":"nine"}`); !r.IsError {
			t.Errorf("%s: %s", name, r.Text)
		}
		if len(w.jobs) > 0 {
			secret = w.jobs[0].Target.AdHoc.Password
			if !slices.Equal(w.ended, []string{w.jobs[0].Target.Conn.ID}) {
				t.Errorf("%s: %v is left to the runner", name, w.jobs[0].Target.Conn)
			}
		}
		if len(g.links.spaces)+g.links.all+len(g.links.kept) > 0 || !secret.IsZero() {
			t.Errorf("%s: left: %+v, %v", name, g.links, secret)
		}
		w.decide, w.run, w.write = decide, run, write
	}
	invoke(g, "connect", `{"host":"web9.internal","username":"ops","password":"canary","alias":"nine"}`)
	secret = w.jobs[len(w.jobs)-1].Target.AdHoc.Password
	if secret.Reveal() != "canary" {
		t.Errorf("the password is %q", secret.Reveal())
	}
	invoke(g, "connect", `{"host":"web9.internal","username":"ops","password":"canary","alias":"nine"}`)
	invoke(g, "connect", `{"host":"web9.internal","username":"ops","password":"other","alias":"nine"}`)
	if secret.Reveal() != "canary" {
		t.Errorf("another call has wiped the password")
	}
	invoke(g, "disconnect", `{}`)
	if !secret.IsZero() {
		t.Error("the password outlives its connection")
	}
}

func failing(context.Context, tool.Job) tool.Report {
	return tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailAuth, Message: "refused the login"}}
}

// Two calls for one name at once: one opens it, the other is told so.
func TestConnectionIsOpenedOnce(t *testing.T) {
	w, g := linking(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		close(inside)
		<-leave
		return reachable(ctx, job)
	}
	done := make(chan Result)
	go func() { done <- invoke(g, "connect", `{"host":"web1"}`) }()
	<-inside
	step{"connect", `{"host":"web1"}`, "connection_pending", true}.check(t, g)
	step{"run", here, "no_connection", true}.check(t, g)
	g.SessionOpened(t.Context(), agent)
	g.SessionClosed(t.Context(), agent, tool.StopDisconnect)
	close(leave)
	<-done
	step{"run", here, "no_connection", true}.check(t, g)
	if len(w.ended) != 1 {
		t.Errorf("closed: %v", w.ended)
	}
}

// The working directory is the connection's own.
func TestWorkingDirectory(t *testing.T) {
	w, g := linking(t)
	cwd := func() string {
		do, _ := w.jobs[len(w.jobs)-1].Steps[0].Do.(tool.Shell)
		return do.Command.Cwd
	}
	for _, s := range []step{
		{"connect", `{"host":"web1"}`, "in /home/ops", false},
		{"connect", `{"host":"two"}`, "in /home/ops", false},
		{"run", `{"command":"cd /srv"}`, "web1 works in /srv from now on", false},
		{"run", `{"command":"cd ../etc","target":"two"}`, "two works in /home/etc", false},
		{"run", `{"command":"cd app/file"}`, "not_a_directory", true},
		{"run", `{"command":"cd app/closed"}`, "no_directory", true},
		{"run", `{"command":"cd -"}`, "cd DIRECTORY", true},
		{"run", `{"command":"cd a b"}`, "cd DIRECTORY", true},
		{"run", `{"command":"cd a","stdin":"x"}`, "leave it out", true},
		{"run", `{"command":"cd -- app"}`, "works in /srv/app", false},
		{"run", `{"command":"cd ..","cwd":"/opt/x"}`, "works in /opt", false},
		{"run", `{"command":"cd"}`, "works in /home/ops", false},
		{"run", `{"command":"cd /srv"}`, "works in /srv", false},
		{"run", `{"command":"cd /tmp","target":"gone"}`, "network", true},
	} {
		if s.text == "network" {
			w.names["gone.internal"] = []string{"10.0.0.7"}
			s.text = "send cwd with each call"
		}
		s.check(t, g)
	}
	for args, want := range map[string]string{
		`{"command":"ls x"}`:                                        "/srv",
		`{"command":"ls x","target":"two"}`:                         "/home/etc",
		`{"command":"ls x","cwd":"sub/../b"}`:                       "/srv/b",
		`{"command":"ls x","cwd":"/a//b/"}`:                         "/a/b",
		`{"command":"ls x","cwd":"/a","target":"gone"}`:             "/a",
		`{"command":"ls x","target":"gone"}`:                        "",
		`{"command":"cd /a && ls x"}`:                               "/srv",
		`{"command":"sudo cd /a"}`:                                  "/srv",
		`{"command":"cd /a > /dev/null"}`:                           "/srv",
		`{"command":"X=1 cd /a"}`:                                   "/srv",
		`{"command":"cd /q'$(touch x)'/..; ls"}`:                    "/srv",
		`{"command":"ls x","cwd":"/q$(echo X>&2)","target":"web1"}`: "/q$(echo X>&2)",
		`{"command":"cat","stdin":"in","target":"two","timeout":7}`: "/home/etc",
	} {
		if r := invoke(g, "run", args); r.IsError || cwd() != want || said(t, r, "cwd") != nonEmpty(want) {
			t.Errorf("%s: in %q, told %v: %s", args, cwd(), said(t, r, "cwd"), r.Text)
		}
	}
	step{"run", `{"command":"ls x","cwd":"a","target":"gone"}`, "write the directory from the root", true}.check(t, g)
	for _, in := range w.inputs {
		if op := in.Ops[0]; op.Action == tool.FileList && op.File != nil && !slices.Equal(op.Under, tool.Under(op.Path)) {
			t.Errorf("judged: %+v", op)
		}
	}
}

// Files are named from where the connection works, and the other end of a copy is
// known by its host, whatever the caller calls the connection to it.
func TestFilesOverConnections(t *testing.T) {
	w, g := linking(t)
	for _, s := range []step{
		{"connect", `{"host":"web1","alias":"two-in-truth"}`, "Connected", false},
		{"connect", `{"host":"two","alias":"other"}`, "Connected", false},
		{"run", `{"command":"cd /srv"}`, "works in /srv", false},
		{"sync", `{"source_node":"primary","source_path":"x/file","dest_node":"other","dest_path":"y/file"}`, "3 bytes copied from primary:/srv/x/file to other:/home/ops/y/file", false},
	} {
		s.check(t, g)
	}
	var got []string
	for _, in := range w.inputs {
		for _, op := range in.Ops {
			if op.Flow != nil {
				got = append(got, fmt.Sprintf("%s %s %s, %s %s", in.Host.Alias, op.Action, op.Path, op.Flow.Alias, op.Flow.Path))
			}
		}
	}
	want := []string{
		"web1 file.read /srv/x/file, two /home/ops/y/file", "two file.write /home/ops/y/file, web1 /srv/x/file",
		"web1 file.read /srv/x/file, two /home/ops/y/file", "two file.write /home/ops/y/file, web1 /srv/x/file",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// nonEmpty is what a field without a value is in a result.
func nonEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// A directory that policy refuses, as it is written or by where it leads, is not
// entered.
func TestWorkingDirectoryIsJudged(t *testing.T) {
	w, g := linking(t)
	invoke(g, "connect", `{"host":"web1"}`)
	w.decide = func(in policy.Input) tool.Decision {
		if op := in.Ops[0]; op.Path == "/secret" || op.File != nil && op.File.Path == "/real/secret" {
			return deny("file_not_granted")(in)
		}
		return allow(in)
	}
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		r := reachable(ctx, job)
		if f, ok := r.Outputs[0].Answer.(tool.FileFacts); ok && f.Path == "/link" {
			f.Path = "/real/secret"
			r.Outputs[0].Answer = f
		}
		return r
	}
	for _, dir := range []string{"/secret", "/link"} {
		step{"run", `{"command":"cd ` + dir + `"}`, "file_not_granted", true}.check(t, g)
	}
	invoke(g, "run", here)
	if do := w.jobs[len(w.jobs)-1].Steps[0].Do.(tool.Shell); do.Command.Cwd != "/home/ops" {
		t.Errorf("works in %s", do.Command.Cwd)
	}
}

func TestPreferredAddress(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	all := []netip.Addr{a, b, c}
	for want, first := range map[netip.Addr]netip.Addr{a: a, b: b, c: c, {}: a, netip.MustParseAddr("10.9.9.9"): a} {
		order, got := preferred(all, want)
		if got != first || order[0] != first || len(order) != 3 || !slices.Equal(all, []netip.Addr{a, b, c}) {
			t.Errorf("preferred %s: %v, %s", want, order, got)
		}
	}
}
