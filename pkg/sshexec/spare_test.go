package sshexec

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// onlyConn is the only connection of a lab to a host, with the pool locked.
func onlyConn[T any](l *lab, see func(*conn) T) T {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	for _, h := range l.pool.hosts {
		for _, c := range h.conns {
			return see(c)
		}
	}
	return see(&conn{})
}

// spareOf is the session that it has opened ahead.
func spareOf(l *lab) *session { return onlyConn(l, func(c *conn) *session { return c.spare }) }

// openSessions is how many sessions the server counts.
func openSessions(l *lab) int { return onlyConn(l, func(c *conn) int { return c.open }) }

// ledger is what a server was asked for, in order.
type ledger struct {
	mu      sync.Mutex
	entries []string
	opened  int
}

func (g *ledger) note(entry string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entries = append(g.entries, entry)
}

// of is what a server with these faults notes.
func (g *ledger) of(f sshtest.Faults) sshtest.Faults {
	open, refuse := f.Open, f.Refuse
	f.Open = func(ch ssh.Channel) {
		g.mu.Lock()
		g.opened++
		g.entries = append(g.entries, fmt.Sprint("open ", g.opened))
		g.mu.Unlock()
		if open != nil {
			open(ch)
		}
	}
	f.Refuse = func(session int, r *ssh.Request) bool {
		g.note(fmt.Sprint(r.Type, " ", session))
		return refuse != nil && refuse(session, r)
	}
	return f
}

// sessions is how many were opened.
func (g *ledger) sessions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

// requests is what was asked for on sessions.
func (g *ledger) requests() (all []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.entries {
		if !strings.HasPrefix(e, "open ") {
			all = append(all, e)
		}
	}
	return all
}

// asked fails the test unless the server was asked for just this on its sessions.
func (g *ledger) asked(t *testing.T, want ...string) {
	t.Helper()
	if got := g.requests(); !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

// attentive has an executor look after its connections often.
func attentive(o *Options) { o.Keepalive = 20 * time.Millisecond }

// far is a server with faults behind a long way, and an executor for it.
func far(t *testing.T, f sshtest.Faults, change ...func(*Options)) (*lab, tool.Target) {
	t.Helper()
	s, key := serve(t, f)
	at := sshtest.StartProxy(t, s.Addr(), spareTrip).Addr()
	l := newLab(t, key, []string{strings.ReplaceAll(s.KnownHostsLine(), fmt.Sprint(s.Addr().Port()), fmt.Sprint(at.Port()))}, change...)
	return l, target("tester", at)
}

// A command comes on a session that was opened before, and nothing else does.
func TestSpareSession(t *testing.T) {
	t.Parallel()
	t.Run("is the next command's", func(t *testing.T) {
		var g ledger
		l, _, host := faulty(t, g.of(sshtest.Faults{}))
		var want []string
		for i := range 5 {
			finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
			want = append(want, fmt.Sprint("exec ", i+1))
			eventually(t, "the next session is open", func() bool { return g.sessions() == i+2 && spareOf(l) != nil })
		}
		g.asked(t, want...)
	})
	t.Run("is the next command's with sshd", func(t *testing.T) {
		l, _, host := sshd(t, sshtest.OpenSSHOptions{})
		for range 5 {
			finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
			eventually(t, "a session is open", func() bool { return spareOf(l) != nil })
			s := spareOf(l)
			finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
			if s.stage.Load() != stageAsked {
				t.Fatal("the next command took another session")
			}
		}
	})
	t.Run("is opened while a command runs on a far host, once that was taken", func(t *testing.T) {
		var g ledger
		l, host := far(t, g.of(sshtest.Faults{Exec: func(_ string, ch ssh.Channel) bool {
			n := len(g.requests())
			eventually(t, "another session is opened", func() bool { return g.sessions() > n })
			return false
		}}), func(o *Options) { o.Keepalive = time.Hour }) // no look at it in between
		for range 3 {
			finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
			eventually(t, "the answer to its opening has come", func() bool { return spareOf(l) != nil })
		}
		g.asked(t, "exec 1", "exec 2", "exec 3")
		if first := g.entries[:3]; !slices.Equal(first, []string{"open 1", "exec 1", "open 2"}) {
			t.Errorf("it began with %q", first)
		}
	})
	t.Run("is for files", func(t *testing.T) {
		var g ledger
		l, _, host := faulty(t, g.of(sshtest.Faults{}))
		finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
		eventually(t, "a session is open", func() bool { return spareOf(l) != nil })
		answerOf[tool.FileContent](t, l, host, tool.Read{Path: put(t, openDir(t), "file", "hello")})
		g.asked(t, "exec 1", "subsystem 2")
	})
	t.Run("is for a stop", func(t *testing.T) {
		var g ledger
		l, host := far(t, g.of(sshtest.Faults{}))
		odd := oddTime(t)
		r := runUntil(t, l, job(host, line("sleep "+odd)), tool.StopCancelled, func() bool {
			return len(processes(t, odd)) > 0 && spareOf(l) != nil
		})
		if !r.Stopped {
			t.Error(describe(r))
		}
		if got := g.requests(); len(got) < 2 || got[1] != "exec 2" {
			t.Errorf("asked for %q", got)
		}
	})
	t.Run("is closed when nothing comes", func(t *testing.T) {
		var g ledger
		l, _, host := faulty(t, g.of(sshtest.Faults{}), attentive)
		finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
		eventually(t, "a session is open and the command's closed", func() bool {
			return spareOf(l) != nil && l.Stats().Sessions == 0
		})
		onlyConn(l, func(c *conn) int { c.lastUse -= spareIdle; return 0 })
		eventually(t, "no session is open", func() bool { return openSessions(l) == 0 && l.Stats().Sessions == 0 })
		if n := g.sessions(); n != 2 || spareOf(l) != nil {
			t.Errorf("%d sessions were opened", n)
		}
		finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	})
	t.Run("is not opened on a hop", func(t *testing.T) {
		l, _, host := hops(t, sshtest.OpenSSHOptions{}, attentive)
		finished(t, l.Run(t.Context(), job(host, line("sleep 0.3"))), 0)
		l.pool.mu.Lock()
		defer l.pool.mu.Unlock()
		for key, h := range l.pool.hosts {
			for _, c := range h.conns {
				if c.open > 0 && key.alias != host.Alias {
					t.Errorf("%d sessions on %s", c.open, key.alias)
				}
			}
		}
	})
}

// A server may close a session that nobody uses, at once or later. Then the next
// command has one of its own, and none is opened over and over.
func TestSpareSessionThatEnds(t *testing.T) {
	t.Parallel()
	var g ledger
	l, _, host := faulty(t, g.of(sshtest.Faults{Open: func(ch ssh.Channel) {
		if g.sessions()%2 == 0 { // a command's own come in between
			ch.Close()
		}
	}}), attentive)
	const runs = 30
	for range runs {
		finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
		eventually(t, "the one opened ahead is closed", func() bool {
			return openSessions(l) == 0 && onlyConn(l, func(c *conn) bool { return !c.proven && c.coming == nil })
		})
		if n := onlyConn(l, func(c *conn) int { return c.used }); n != 0 {
			t.Fatalf("%d sessions are in use", n)
		}
	}
	if n := g.sessions(); n > 2*runs {
		t.Errorf("%d sessions for %d commands", n, runs)
	}
	if n := l.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}

// One that the server closes before its opening was noted is not kept, and frees
// no place but its own.
func TestSpareSessionThatEndsAtOnce(t *testing.T) {
	e := New(Options{})
	c := &conn{e: e, host: &host{}, open: 1, proven: true}
	s := c.newSession()
	c.coming = s
	if !e.pool.dropSpare(c, s) {
		t.Error("its end counts as that of a command's session")
	}
	if e.pool.keepSpare(c, nil); c.spare != nil || c.coming != nil || c.open != 0 {
		t.Errorf("%d sessions are open, spare %v", c.open, c.spare)
	}
}

// A server may not take a command on a session that was opened before; then it is
// asked once more, on a fresh one, and no other is opened ahead.
func TestSpareSessionThatRefuses(t *testing.T) {
	t.Parallel()
	second := func(session int, _ *ssh.Request) bool { return session == 2 }
	t.Run("a command", func(t *testing.T) {
		var g ledger
		l, _, host := faulty(t, g.of(sshtest.Faults{Refuse: second}))
		m := newMarks(t)
		var reports []tool.Report
		for i := range 4 {
			reports = append(reports, l.Run(t.Context(), job(host, m.step(i))))
			finished(t, reports[i], 0)
			eventually(t, "it is kept or closed", func() bool {
				return onlyConn(l, func(c *conn) bool { return c.coming == nil && (c.spare != nil) != c.noSpare })
			})
		}
		m.check(t, reports)
		if n := len(g.requests()); n != 5 {
			t.Errorf("asked for %q", g.requests())
		}
	})
	t.Run("files", func(t *testing.T) {
		var g ledger
		l, _, host := faulty(t, g.of(sshtest.Faults{Refuse: second}))
		finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
		eventually(t, "a session is open", func() bool { return spareOf(l) != nil })
		answerOf[tool.FileContent](t, l, host, tool.Read{Path: put(t, openDir(t), "file", "hello")})
	})
	t.Run("is not to blame where a fresh one refuses as well", func(t *testing.T) {
		var g ledger
		l, _, host := faulty(t, g.of(sshtest.Faults{Refuse: func(_ int, r *ssh.Request) bool { return r.Type == "subsystem" }}))
		for range 3 {
			finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
			eventually(t, "a session is open", func() bool { return spareOf(l) != nil })
			failed(t, l.Run(t.Context(), fileJob(host, tool.Read{Path: "/etc/hostname"})), tool.NotStarted, tool.FailNoSFTP)
			eventually(t, "a session is open again", func() bool { return spareOf(l) != nil })
		}
	})
}

// Where the server opens no session beside another, none is opened ahead beside
// one. Commands learn nothing from that.
func TestSpareSessionThatIsNotOpened(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{MaxSessions: 1})
	p := sshtest.StartProxy(t, s.Addr, spareTrip)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)}, attentive)
	host := target(login(t), p.Addr())
	for range 5 {
		finished(t, l.Run(t.Context(), job(host, line("sleep 0.05"))), 0)
		eventually(t, "one is open alone", func() bool {
			return onlyConn(l, func(c *conn) bool { return c.spare != nil && c.used == 0 })
		})
	}
	if n := strings.Count(s.Log(), "no more sessions"); n > 1 {
		t.Errorf("%d sessions were refused", n)
	}
	if n := onlyConn(l, func(c *conn) int { return c.sessions }); n != l.o.SessionsPerConn+1 {
		t.Errorf("%d sessions at once", n)
	}
}

// What is learned from refusals is not less than the server allows, whichever
// answer is seen first.
func TestRefusalsBesideOpenings(t *testing.T) {
	e := New(Options{})
	h := &host{sessions: 9}
	c := &conn{e: e, host: h, sessions: 9, used: 4, unanswered: 4}
	h.conns = []*conn{c}
	e.pool.asked(c, false, 0)
	if e.pool.refused(c); c.sessions != 3 || c.retiring {
		t.Errorf("%d sessions at once after one of four was refused", c.sessions)
	}
	e.pool.asked(c, true, 0)
	e.pool.asked(c, true, 0)
	e.pool.asked(c, false, 0)
	if e.pool.refused(c); c.sessions != 2 || h.sessions != 2 || c.retiring {
		t.Errorf("%d sessions at once after two of four were refused", c.sessions)
	}
}

// Who finds the last place taken by a session that is just being opened waits for
// that, which is sooner there than another connection.
func TestSpareSessionOnItsWay(t *testing.T) {
	t.Parallel()
	l, _, host := faulty(t, sshtest.Faults{}, func(o *Options) { o.SessionsPerConn = 1 }, attentive)
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	c := onlyConn(l, func(c *conn) *conn { c.noSpare = true; return c })
	eventually(t, "nothing is open", func() bool { return openSessions(l) == 0 && spareOf(l) == nil })
	l.pool.mu.Lock()
	c.coming = c.newSession()
	l.pool.mu.Unlock()
	done := make(chan tool.Report, 1)
	go func() { done <- l.Run(t.Context(), job(host, line("true"))) }()
	eventually(t, "a command waits", func() bool { return l.Stats().Waiting == 1 })
	if s := l.Stats(); s.Dialing+s.Connections != 1 {
		t.Errorf("%+v", s)
	}
	onlyConn(l, func(c *conn) int { c.noSpare = false; return 0 })
	l.pool.keepSpare(c, nil)
	finished(t, <-done, 0)
	if n := l.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}
