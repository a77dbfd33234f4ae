package mcpserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

func TestSessionsExpireWhenIdle(t *testing.T) {
	now := time.Unix(0, 0)
	var forgotten []string
	table := newSessions(func() time.Time { return now }, sessionBounds{time.Minute, time.Hour, 10, 100})
	table.ended = func(s *session, _ tool.Stop) { forgotten = append(forgotten, s.id) }

	idle, busy, fresh := table.open("a"), table.open("a"), table.open("b")
	table.release(idle)
	table.release(fresh)
	now = now.Add(59 * time.Second)
	if s := table.use("b", fresh.id); s != fresh {
		t.Fatalf("a session used in time: %v", s)
	}
	table.release(fresh)
	now = now.Add(2 * time.Second)
	if s := table.use("a", idle.id); s != nil {
		t.Error("an idle session is still there")
	}
	if !errors.Is(context.Cause(idle.ctx), tool.StopDisconnect) || !slices.Equal(forgotten, []string{idle.id}) {
		t.Errorf("the idle session ended with %v; forgotten: %v", context.Cause(idle.ctx), forgotten)
	}
	if table.count() != 2 || busy.ctx.Err() != nil || fresh.ctx.Err() != nil {
		t.Errorf("%d sessions are left, want the busy one and the fresh one", table.count())
	}
	table.release(busy) // idle from now on
	now = now.Add(61 * time.Second)
	if table.sweep(); table.count() != 0 {
		t.Errorf("%d sessions are left", table.count())
	}
	if len(table.bySubject) != 0 {
		t.Errorf("subjects without a session are kept: %v", table.bySubject)
	}
}

func TestSessionsOfASubjectAreCapped(t *testing.T) {
	table := newSessions(time.Now, sessionBounds{time.Hour, time.Hour, 2, 100})
	first, second := table.open("a"), table.open("a")
	other := table.open("b")
	if s := table.open("a"); s != nil {
		t.Error("a third session while two are in use")
	}
	table.release(first)
	table.release(second)
	table.use("a", first.id)
	table.release(first) // so that the second is the longest unused
	third := table.open("a")
	if third == nil || table.use("a", second.id) != nil || table.use("a", first.id) == nil || table.use("b", other.id) == nil {
		t.Error("the third session did not push out the one that was unused longest")
	}
	if third.id == first.id || len(third.id) < 26 {
		t.Errorf("id %q", third.id)
	}
}

// All subjects together have a bound, too; nobody pushes out another's session.
func TestSessionsAreCappedInAll(t *testing.T) {
	table := newSessions(time.Now, sessionBounds{time.Hour, time.Hour, 10, 2})
	first, other := table.open("a"), table.open("b")
	table.release(first)
	table.release(other)
	if table.open("c") != nil {
		t.Error("a third one in all")
	}
	if s := table.open("a"); s == nil || table.use("a", first.id) != nil || table.use("b", other.id) == nil {
		t.Error("a subject's new session does not take the place of its old one")
	}
}

// A session that is old ends though it is used, and though somebody listens, but
// not under a request.
func TestSessionsEndWhenOld(t *testing.T) {
	now := time.Unix(0, 0)
	table := newSessions(func() time.Time { return now }, sessionBounds{time.Minute, time.Hour, 10, 100})
	s := table.open("a")
	table.release(s)
	for range 60 {
		now = now.Add(59 * time.Second)
		if table.use("a", s.id) == nil {
			t.Fatalf("it ended at %s", now)
		}
		table.release(s)
	}
	table.use("a", s.id) // a stream
	if _, ok := table.stream(s, &stream{}); !ok {
		t.Fatal("no stream")
	}
	table.use("a", s.id) // a request
	now = now.Add(time.Hour)
	if table.sweep(); s.ctx.Err() != nil {
		t.Error("it ended under a request")
	}
	table.release(s)
	if table.sweep(); s.ctx.Err() == nil || table.count() != 0 {
		t.Error("it never ends")
	}
	if table.closeAll(tool.StopShutdown); table.open("a") != nil {
		t.Error("a session after the end")
	}
}

// Nobody has to come for what is idle to end.
func TestSessionsAreSwept(t *testing.T) {
	table := newSessions(time.Now, sessionBounds{20 * time.Millisecond, time.Hour, 10, 100})
	s := table.open("a")
	table.release(s)
	<-s.ctx.Done()
	table.closeAll(tool.StopShutdown)
}

func TestSessionsAnswerTheirSubjectOnly(t *testing.T) {
	table := newSessions(time.Now, sessionBounds{time.Hour, time.Hour, 2, 100})
	s := table.open("a")
	for _, try := range [][2]string{{"b", s.id}, {"a", ""}, {"a", s.id + "x"}, {"", s.id}} {
		if table.use(try[0], try[1]) != nil {
			t.Errorf("%q may use %q", try[0], try[1])
		}
	}
	table.close(s, tool.StopDisconnect)
	table.close(s, tool.StopDisconnect)
	table.release(s)
	if table.use("a", s.id) != nil {
		t.Error("a closed session is used")
	}
}

func TestInflightIsBounded(t *testing.T) {
	f := newInflight()
	var last *request
	for range mostInFlight {
		r, refused := f.begin(t.Context(), "", &message{id: []byte("1"), method: "x"}, tool.Caller{}, nil)
		if refused != nil {
			t.Fatal(refused.message)
		}
		last = r
	}
	if _, refused := f.begin(t.Context(), "", &message{id: []byte("1"), method: "x"}, tool.Caller{}, nil); refused == nil || refused.code != codeBusy {
		t.Errorf("one more: %+v", refused)
	}
	f.end("", last)
	if _, refused := f.begin(t.Context(), "", &message{id: []byte("1"), method: "x"}, tool.Caller{}, nil); refused != nil {
		t.Errorf("after one ended: %s", refused.message)
	}
	f.stopAll(tool.StopShutdown)
	if _, refused := f.begin(t.Context(), "", &message{id: []byte("1"), method: "x"}, tool.Caller{}, nil); refused == nil || refused.code != codeShutdown {
		t.Errorf("after a shutdown: %+v", refused)
	}
}

// What becomes of sessions is told to the gateway, for its records, and so is
// the use of somebody else's.
func TestSessionsAreTold(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{Tokens: twoTokens})
	mine := w.client(t, legacy, "dev-token")
	stolen := &httpLink{web: w, speaks: legacy, token: "ops-token", session: mine.session}
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		r := stolen.post(t, ping(1))
		r.Method = method
		if got := stolen.status(t, r); got != http.StatusNotFound {
			t.Errorf("%s in somebody else's session: status %d", method, got)
		}
	}
	end := mine.post(t, nil)
	end.Method = http.MethodDelete
	mine.status(t, end)
	g.mu.Lock()
	defer g.mu.Unlock()
	want := []string{"opened dev", "refused ops", "refused ops", "refused ops", "closed dev disconnect"}
	if !slices.Equal(g.sessions, want) {
		t.Errorf("told %q", g.sessions)
	}
}

// The arguments are the gateway's to refuse, numbers that no float holds among
// them.
func TestArgumentsThatMCPGoCannotRead(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		const args = `{"alias": "web1", "command": "uptime", "n": [1e400, -1e999]}`
		if r := l.ask(t, l.era().rawCall(1, "ssh_run", args)); r.Error != nil {
			t.Errorf("answered by %v", r.Error)
		}
		if got := g.started(t, 1)[0].args; got != args {
			t.Errorf("the gateway got %s", got)
		}
	})
}
