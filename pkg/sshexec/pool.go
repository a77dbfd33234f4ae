package sshexec

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// growPause keeps a pool from asking again at once for a further connection
// that a host would not give.
const growPause = 5 * time.Second

// poolKey is what two jobs must share to share a connection: who asks, over which
// connection that is kept open, if any, which host by which name and address, as
// whom with which credentials, and by which way.
type poolKey struct {
	subject, kept     string
	alias, hostname   string
	at                string // judged address and port
	user, credentials string
	via               string // the hops before it, each as it was judged
}

func keyOf(subject string, t tool.Target) poolKey {
	var via strings.Builder
	for _, hop := range t.Via {
		fmt.Fprintf(&via, "%s %s@%s %s>", hop.Alias, hop.User, addrPort(hop), credentialsOf(subject, hop))
	}
	return poolKey{
		subject: subject, kept: t.Conn.ID, alias: t.Alias, hostname: t.Hostname, at: addrPort(t).String(),
		user: t.User, credentials: credentialsOf(subject, t), via: via.String(),
	}
}

// credentialsOf names what is logged in with. What a caller describes is that
// caller's own, so that one that is refused keeps nobody else from the host.
func credentialsOf(subject string, t tool.Target) string {
	if t.AdHoc == nil {
		return t.Credentials
	}
	return fmt.Sprintf("%s %q of %q", t.Auth, t.AdHoc.Key, subject)
}

// address and login are what the breaker knows a connection by.
func (k poolKey) address() string { return k.via + k.at }
func (k poolKey) login() string   { return k.user + " with " + k.credentials }

// want is what a connection is needed for.
type want int

const (
	wantSession want = iota // a command
	wantStop                // a session that ends other sessions' processes
	wantTunnel              // a hop; it takes no session of the server's
	wantFiles               // the SFTP session, which jobs share
)

// pool holds the connections of an executor, host by host.
type pool struct {
	e *Executor

	mu    sync.Mutex // guards hosts and everything in them, and the counts of conns
	hosts map[poolKey]*host
	// generation counts the calls of retire: a connection whose making began in
	// an earlier one takes nothing.
	generation int
	// closed: connections that come now are closed at once.
	closed bool
}

// host is what the pool has for one key.
type host struct {
	key       poolKey
	target    tool.Target
	conns     []*conn
	dials     int       // connections being made
	waiters   []*waiter // first come, first served
	sessions  int       // sessions that the server allows at once on a connection, as far as is known
	growAfter time.Time
	ended     int // counts the calls of end, as generation does those of retire
}

// waiter is a job that waits for a connection. Either arrives once.
type waiter struct {
	want  want
	given chan grant
}

type grant struct {
	conn  *conn
	files *files // of wantFiles
	err   error
}

// acquire takes a session or a tunnel on a live connection to a host, and
// makes a connection for it when there is none to spare. Concurrent callers
// share connections being made.
func (p *pool) acquire(ctx context.Context, key poolKey, target tool.Target, w want) grant {
	if g := p.tryAcquire(key, w); g.conn != nil {
		return g
	}
	me := &waiter{want: w, given: make(chan grant, 1)}
	h := p.enqueue(key, target, me)
	select {
	case g := <-me.given:
		return g
	case <-ctx.Done():
		return grant{err: p.leave(ctx, h, me)}
	}
}

// tryAcquire is acquire without waiting; it gives no connection when there is
// nothing to spare.
func (p *pool) tryAcquire(key poolKey, w want) grant {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[key]
	if h == nil {
		return grant{}
	}
	return h.take(w)
}

func (p *pool) enqueue(key poolKey, target tool.Target, w *waiter) *host {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[key]
	if h == nil {
		h = &host{key: key, target: target, sessions: p.e.o.SessionsPerConn + 1}
		p.hosts[key] = h
	}
	h.waiters = append(h.waiters, w)
	p.settle(h)
	return h
}

// leave takes a waiter out of the queue whose time is up, and says what it
// waited for. What it may have been given in that moment is given back.
func (p *pool) leave(ctx context.Context, h *host, w *waiter) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case g := <-w.given:
		if g.conn != nil {
			g.give(w.want)
			p.settle(h)
		}
		return p.e.connectFailure(ctx, ctx.Err(), h.target, "connecting")
	default:
	}
	h.waiters = slices.DeleteFunc(h.waiters, func(x *waiter) bool { return x == w })
	if len(h.conns) > 0 && w.want != wantTunnel {
		return noSession(h.target, "no session became free in time", ctx.Err())
	}
	return p.e.connectFailure(ctx, ctx.Err(), h.target, "connecting")
}

// take gives what w asks for from the first connection that has it, so that
// the last ones fall idle. An SFTP session is not opened on another connection
// than the one that has one.
func (h *host) take(w want) grant {
	var first *conn
	for _, c := range slices.Backward(h.conns) {
		if c.has(w) && (first == nil || len(first.files) == 0 || len(c.files) > 0 || w != wantFiles) {
			first = c
		}
	}
	if first == nil {
		return grant{}
	}
	return first.take(w)
}

// settle serves the waiters of a host as far as there is something to give,
// and starts connections for the others. It runs with mu held.
func (p *pool) settle(h *host) {
	h.waiters = slices.DeleteFunc(h.waiters, func(w *waiter) bool {
		g := h.take(w.want)
		if g.conn == nil {
			return false
		}
		w.given <- g
		return true
	})
	if len(h.waiters) > 0 {
		h.reclaim()
	}
	p.grow(h)
	if len(h.waiters)+len(h.conns)+h.dials == 0 && p.hosts[h.key] == h {
		delete(p.hosts, h.key)
	}
}

// reclaim has SFTP sessions closed that nobody uses.
func (h *host) reclaim() {
	for _, c := range h.conns {
		if c.idle() > 0 {
			c.poke()
		}
	}
}

// grow starts as many connections as the waiters need and the host may have.
// Sessions that are about to be free, or open, are not worth a connection. A stop
// may have one more than others: it must not wait for what it is to end.
func (p *pool) grow(h *host) {
	need := len(h.waiters)
	room := p.e.o.ConnsPerHost
	for _, w := range h.waiters {
		if w.want == wantStop {
			room = p.e.o.ConnsPerHost + 1
		}
	}
	for _, c := range h.conns {
		if !c.retiring {
			room--
			need -= int(c.ending.Load())
			if c.coming != nil {
				need--
			}
		}
		need -= c.idle()
	}
	if len(h.conns) > 0 && p.e.o.Now().Before(h.growAfter) {
		return
	}
	for need > h.dials*max(1, h.sessions-1) && h.dials < room {
		p.dial(h)
	}
}

// dial starts one connection. The pool's own time limit is on it, not that of
// the job that came first: others may wait for it too, and a host charges the
// gateway for a handshake that is broken off.
func (p *pool) dial(h *host) {
	h.dials++
	generation, ended := p.generation, h.ended
	p.e.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(p.e.cut, p.e.o.ConnectTimeout)
		defer cancel()
		c, err := p.e.connect(ctx, h.key, h.target)
		p.dialled(h, c, err, func() bool { return generation == p.generation && ended == h.ended })
	})
}

// dialled takes in a connection that was made, current or not any more, or tells
// those who waited for it why there is none.
func (p *pool) dialled(h *host, c *conn, err error, isCurrent func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.dials--
	switch {
	case err == nil:
		p.add(h, c)
		if !isCurrent() {
			c.retiring = true
			c.poke()
		}
	case len(h.conns) > 0:
		h.growAfter = p.e.o.Now().Add(growPause)
	case h.dials > 0:
		return // those still being made decide; a new one would fail likewise
	default:
		for _, w := range h.waiters {
			w.given <- grant{err: err}
		}
		h.waiters = nil
	}
	p.settle(h)
}

// add takes a new connection into the pool and starts what belongs to it.
func (p *pool) add(h *host, c *conn) {
	c.host, c.sessions, c.spareBelow = h, h.sessions, h.sessions
	h.conns = append(h.conns, c)
	c.begin()
	if p.closed {
		c.close()
	}
}

// accepted notes that the server has taken a command on c, or a subsystem, and
// with that has come past the end of so many sessions.
func (p *pool) accepted(c *conn, ended int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.proven = true
	p.freeUpTo(c, ended)
	c.hasten()
}

// ended notes that a session of c has been closed, with which a command may have
// ended. The server may count it a little longer.
func (p *pool) ended(c *conn, command bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if command {
		c.lastUse = p.e.clock()
	}
	c.closed++
	c.poke()
}

// endedSoFar is how many sessions of c have been closed. When the server has
// answered what is asked after this, they are free.
func (p *pool) endedSoFar(c *conn) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.closed
}

// free gives back the sessions of c that had been closed when so many had.
func (p *pool) free(c *conn, ended int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.freeUpTo(c, ended)
}

func (p *pool) freeUpTo(c *conn, ended int) {
	n := ended - c.freed
	if n <= 0 {
		return
	}
	c.freed = ended
	c.ending.Add(int32(-n))
	c.used -= n
	c.open -= n
	p.settle(c.host)
}

// todo says what tend should ask the server for: the session to open ahead, any
// answer, or nothing; and which sessions that will free. Ended sessions may wait
// for the next command, whose start frees them, unless they are needed or now is
// a good time.
func (p *pool) todo(c *conn, now bool) (ended int, spare *session, barrier bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.wantsSpare() {
		c.coming = c.newSession()
		return c.closed, c.coming, false
	}
	needed := now || c.retiring || len(c.host.waiters) > 0 || 2*c.used >= c.sessions
	return c.closed, nil, needed && c.closed > c.freed
}

// releaseTunnel gives a tunnel over c back.
func (p *pool) releaseTunnel(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	grant{conn: c}.give(wantTunnel)
	c.poke() // it may only have waited for this to be closed
}

// extraFiles opens a further SFTP session on the connection of one, for one job;
// nil when no session is free. Closing it gives it back.
func (p *pool) extraFiles(beside *files) *files {
	c := beside.conn
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.has(wantSession) {
		return nil
	}
	c.take(wantSession)
	return c.openFiles(beside.packet)
}

// leaveFiles says that a job is done with an SFTP session.
func (p *pool) leaveFiles(f *files) {
	p.mu.Lock()
	defer p.mu.Unlock()
	grant{conn: f.conn, files: f}.give(wantFiles)
	if f.jobs == 0 {
		f.conn.poke()
	}
}

// dropFiles forgets an SFTP session that takes no more jobs.
func (p *pool) dropFiles(f *files) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(f.conn.files, f); i >= 0 {
		f.conn.files = slices.Delete(f.conn.files, i, i+1)
		p.settle(f.conn.host)
	}
}

// idleFiles takes the SFTP sessions from a connection that nobody has used for a
// while, or whose places others want.
func (p *pool) idleFiles(c *conn) []*files {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := c.retiring || len(c.host.waiters) > 0
	var spent []*files
	for _, f := range c.files {
		if f.idle() && !f.closing && (wanted || p.e.clock()-f.lastUse >= spareIdle) {
			f.closing = true
			spent = append(spent, f)
		}
	}
	return spent
}

// idle is how many SFTP sessions of a connection nobody uses. Runs with pool.mu
// held.
func (c *conn) idle() (n int) {
	for _, f := range c.files {
		if f.idle() {
			n++
		}
	}
	return n
}

// idle reports whether nobody uses a session. Runs with pool.mu held.
func (f *files) idle() bool { return f.jobs == 0 }

// asking notes that the server is asked for a session on c, and asked that it has
// answered.
func (p *pool) asking(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.unanswered++
}

func (p *pool) asked(c *conn, opened bool, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.unanswered--
	c.trip = min(cmp.Or(c.trip, took), took)
	if opened {
		c.open++
	}
}

// refused notes that the server would open no further session on c, and learns
// from it how many it allows: at most as many as may be open, for others that it
// is being asked for it may have opened before. It reports whether that is none
// at all.
func (p *pool) refused(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.used--
	open := c.open + c.unanswered
	if open == c.lost {
		c.retiring = true
		c.poke()
	} else if open < c.sessions {
		c.sessions, c.host.sessions = open, open
		p.e.o.Logger.Info("the host allows fewer sessions at once", "host", place(c.target), "sessions", open)
	}
	p.settle(c.host)
	return open == 0
}

// broken gives back a session that was not opened because the connection has
// failed.
func (p *pool) broken(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.used--
	c.retiring = true
	p.settle(c.host)
}

// lose gives up a session of c that the server may go on counting, because its
// process may live on. What is left of the connection is used up, then it is
// closed.
func (p *pool) lose(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.used--
	c.lost++
	c.poke()
	p.settle(c.host)
}

// remove forgets a connection that has ended.
func (p *pool) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.gone = true
	c.host.conns = slices.DeleteFunc(c.host.conns, func(x *conn) bool { return x == c })
	p.settle(c.host)
}

// retire marks every connection, also those being made, as one that takes
// nothing new, and has the idle ones closed.
func (p *pool) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	for _, h := range p.hosts {
		for _, c := range h.conns {
			c.retiring = true
			c.poke()
		}
	}
}

// spent reports whether a connection has nothing to do and is to be closed for
// that. What is kept open for a caller keeps one connection, however idle.
func (p *pool) spent(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.used > 0 || c.tunnels > 0 {
		return false
	}
	kept := c.host.key.kept != "" && slices.Index(c.host.conns, c) == 0
	spent := c.retiring || c.lost > 0 || !kept && p.e.clock()-c.lastUse >= p.e.o.IdleClose
	if spent {
		c.retiring = true
	}
	return spent
}

// close ends every connection, those inside tunnels first, and those that may
// still come.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, inside := range []bool{true, false} {
		for _, h := range p.hosts {
			for _, c := range h.conns {
				if (c.wire.tcp == nil) == inside {
					c.close()
				}
			}
		}
	}
}

// count adds what the pool holds to s.
func (p *pool) count(s *Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hosts {
		s.Connections += len(h.conns)
		s.Dialing += h.dials
		s.Waiting += len(h.waiters)
		for _, c := range h.conns {
			s.Sessions += c.used - (c.closed - c.freed)
		}
	}
}
