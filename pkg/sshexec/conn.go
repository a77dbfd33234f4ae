package sshexec

import (
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	keepaliveRequest = "keepalive@openssh.com"
	// nudgeEvery and nudgeFor pace the requests without reply that carry our
	// acknowledgements to a host whose socket we do not hold.
	nudgeEvery = 2 * time.Millisecond
	nudgeFor   = 500 * time.Millisecond
)

// conn is one live connection. Two goroutines belong to it: serve answers what
// the host asks, tend sees to keepalives, to sessions that have ended, to a
// spare session and to the idle close.
type conn struct {
	e        *Executor
	target   tool.Target
	wire     *wire
	client   ssh.Conn
	hostKey  ssh.PublicKey // that the host has proved
	dead     chan struct{} // closed when the connection has ended
	wake     chan struct{} // tend has something to do
	chans    <-chan ssh.NewChannel
	reqs     <-chan *ssh.Request
	ending   atomic.Int32 // sessions whose command is over and that are not free yet
	watchdog *time.Timer  // runs while an answer is awaited
	asked    atomic.Int64 // when for that answer, on the clock; 0 when there is none

	// Guarded by pool.mu.
	host     *host
	sessions int // that the server allows at once, as far as is known
	used     int // taken by commands and stops, until free again
	// unanswered are those that the server is being asked for, the spare one
	// among them.
	unanswered int
	trip       time.Duration // the shortest that the opening of one has taken; 0 before
	open       int           // counted by the server
	lost       int           // given up by us, but perhaps still counted by the server
	closed     int           // sessions that have ended, ever
	freed      int           // of those, known to be forgotten by the server
	proven     bool          // the server has taken a command, and closed no spare one since
	spare      *session      // opened for the next command
	coming     *session      // the spare one that is being opened
	noSpare    bool          // the server may not take a command on one
	// spareBelow is with how many open the server would not open a spare one.
	spareBelow int
	files      []*files // SFTP sessions, open or being opened
	tunnels    int
	lastUse    time.Duration
	retiring   bool // takes nothing new
	gone       bool
}

func (e *Executor) newConn(t tool.Target, w *wire, client ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) *conn {
	c := &conn{
		e: e, target: t, wire: w, client: client, chans: chans, reqs: reqs,
		dead: make(chan struct{}), wake: make(chan struct{}, 1), lastUse: e.clock(),
	}
	c.watchdog = time.AfterFunc(time.Hour, c.checkAsked)
	c.watchdog.Stop()
	return c
}

// begin starts what belongs to a connection that is in the pool.
func (c *conn) begin() {
	c.spawn(c.serve)
	c.spawn(c.tend)
	if c.wire.tcp == nil || !quickAcks {
		c.spawn(c.nudge)
	}
}

// close ends the connection without waiting for it: writing the farewell may
// block on a dead network.
func (c *conn) close() { c.spawn(func() { c.client.Close() }) }

// spawn runs f as a goroutine that the executor waits for. f ends when the
// connection does.
func (c *conn) spawn(f func()) { c.e.tasks.Go(f) }

// opened is what came of opening a channel.
type opened struct {
	ch   ssh.Channel
	reqs <-chan *ssh.Request
	err  error
}

// openChannel opens a channel, or fails when the connection ends. x/crypto/ssh
// can miss that end and wait for ever; then only the goroutine that called it
// is lost, which is why nobody waits for that one.
func (c *conn) openChannel(kind string, payload []byte) opened {
	done := make(chan opened, 1)
	c.wire.opening.Add(1)
	if c.wire.ended.Load() {
		c.wire.opening.Add(-1)
		return opened{err: errBroken}
	}
	go func() {
		ch, reqs, err := c.client.OpenChannel(kind, payload)
		c.wire.opening.Add(-1)
		done <- opened{ch, reqs, err}
	}()
	select {
	case o := <-done:
		return o
	case <-c.dead:
		return opened{err: errBroken}
	}
}

// serve answers the host's own requests, which would otherwise block the whole
// connection, and takes the connection out of the pool when it ends.
func (c *conn) serve() {
	chans, reqs := c.chans, c.reqs
	for reqs != nil || chans != nil {
		select {
		case r, ok := <-reqs:
			if !ok {
				reqs = nil
			} else if r.WantReply {
				_ = r.Reply(false, nil) // the read loop sees a broken connection
			}
		case ch, ok := <-chans:
			if !ok {
				chans = nil
			} else {
				_ = ch.Reject(ssh.Prohibited, "not accepted here")
			}
		}
	}
	err := c.client.Wait()
	c.client.Close()
	c.e.pool.remove(c)
	close(c.dead)
	c.wire.release()
	c.e.o.Logger.Debug("connection ended", "host", place(c.target), "cause", err)
}

// tend keeps the connection in order until it ends or is spent.
func (c *conn) tend() {
	tick := time.NewTimer(c.e.o.Keepalive)
	defer tick.Stop()
	for {
		select {
		case <-c.dead:
			return
		case <-c.wake:
			c.clear(false)
		case <-tick.C:
			c.clear(true)
			tick.Reset(c.keepalive())
		}
		if s := c.e.pool.stale(c); s != nil {
			s.release()
		}
		for _, f := range c.e.pool.idleFiles(c) {
			f.close()
		}
		if c.e.pool.spent(c) {
			c.client.Close()
			return
		}
	}
}

// keepalive asks for a sign of life if there was none for long, and says when
// to look again.
func (c *conn) keepalive() time.Duration {
	if silent := c.wire.silent(); silent < c.e.o.Keepalive {
		return c.e.o.Keepalive - silent
	}
	c.roundTrip()
	return c.e.o.Keepalive
}

// clear sees to sessions that have ended. sshd counts a session until it has
// come round its loop, so the ended ones are free when it has answered
// something asked behind their end. Where there is room, what is asked for is
// the next session; where there was none, there may be when they are free.
func (c *conn) clear(now bool) {
	for {
		ended, spare, barrier := c.e.pool.todo(c, now)
		switch {
		case spare != nil:
			err := c.ask(spare.open)
			c.e.pool.keepSpare(c, err)
			if err != nil {
				continue // without the spare one
			}
			c.e.pool.free(c, ended)
			return
		case !barrier || !c.roundTrip():
			return
		}
		c.e.pool.free(c, ended)
	}
}

// roundTrip asks for any answer.
func (c *conn) roundTrip() bool {
	return c.ask(func() error {
		_, _, err := c.client.SendRequest(keepaliveRequest, true, nil)
		return err
	}) == nil
}

// ask does something that waits for an answer of the server's. A connection
// from which nothing at all is heard meanwhile is closed. Only tend calls it.
func (c *conn) ask(question func() error) error {
	c.asked.Store(int64(c.e.clock()))
	c.watchdog.Reset(c.e.o.KeepaliveReply)
	err := question()
	c.asked.Store(0)
	c.watchdog.Stop()
	return err
}

// checkAsked closes the connection unless something was heard since an answer
// was asked for: on a slow link, it may stand behind much output.
func (c *conn) checkAsked() {
	asked := c.asked.Load()
	if asked == 0 {
		return
	}
	waited := c.e.clock() - time.Duration(max(asked, c.wire.heard.Load()))
	if waited < c.e.o.KeepaliveReply {
		c.watchdog.Reset(c.e.o.KeepaliveReply - waited)
		return
	}
	c.e.o.Logger.Info("connection is dead: no answer to a keepalive", "host", place(c.target))
	c.wire.mute.Store(true)
	c.client.Close()
}

// nudge sends requests without reply until the first command was accepted. Each
// carries an acknowledgement, for which sshd's Nagle would wait 40 ms.
func (c *conn) nudge() {
	tick := time.NewTicker(nudgeEvery)
	defer tick.Stop()
	for range int(nudgeFor / nudgeEvery) {
		select {
		case <-c.dead:
			return
		case <-tick.C:
		}
		if c.wire.hurries.Load() == 0 {
			return
		}
		if _, _, err := c.client.SendRequest(keepaliveRequest, false, nil); err != nil {
			return
		}
	}
}

// poke has tend look.
func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// has reports whether w could be taken. Commands leave one of the sessions that
// the server allows to stops, if it allows more than one. A spare session is at
// the disposal of both. Runs with pool.mu held, as do take and give.
func (c *conn) has(w want) bool {
	switch {
	case c.gone:
		return false
	case w == wantStop:
		return c.taken() < c.sessions
	case c.retiring:
		return false
	case w == wantTunnel:
		return true
	case w == wantFiles && len(c.files) > 0:
		return c.leastBusy() != nil
	}
	return c.taken() < max(1, c.sessions-1)
}

// taken is how many sessions cannot be had just now. Runs with pool.mu held.
func (c *conn) taken() int {
	n := c.used + c.lost
	if c.coming != nil {
		n++
	}
	return n
}

func (c *conn) take(w want) grant {
	c.lastUse = c.e.clock()
	g := grant{conn: c}
	switch w {
	case wantTunnel:
		c.tunnels++
	case wantFiles:
		g.files = c.filesFor()
		g.files.jobs++
	default:
		c.used++
	}
	return g
}

// filesFor is the SFTP session for one more job. On a long way, where a session
// takes little at a time, jobs side by side get one each as far as there is room.
func (c *conn) filesFor() *files {
	f := c.leastBusy()
	if f == nil || f.jobs > 0 && f.far() && len(c.files) < mostLanes && c.has(wantSession) {
		c.used++
		f = c.openFiles(0)
		c.files = append(c.files, f)
	}
	return f
}

// leastBusy is the SFTP session with the fewest jobs; nil if none takes any.
func (c *conn) leastBusy() *files {
	var least *files
	for _, f := range c.files {
		if !f.closing && (least == nil || f.jobs < least.jobs) {
			least = f
		}
	}
	return least
}

// give returns what take gave.
func (g grant) give(w want) {
	now := g.conn.e.clock()
	g.conn.lastUse = now
	switch w {
	case wantTunnel:
		g.conn.tunnels--
	case wantFiles:
		g.files.jobs--
		g.files.lastUse = now
	default:
		g.conn.used--
	}
}
