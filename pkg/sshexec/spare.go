package sshexec

import "time"

// A command takes two round trips where its session has to be opened first. So a
// connection on which the server has taken a command keeps one session open and
// unused, on which nothing is asked for until a command that was judged needs it.
// Nobody waits for it: it is opened when a command has ended, and on a far host
// while one runs; it takes a place only where one is free; and whoever wants a
// session takes it first.

// spareTrip is from where on a host is far: it would not be open when the next
// command follows at once. On a near one, to open it would take from the command
// that is just being started what it saves the next one.
const spareTrip = 5 * time.Millisecond

// spareIdle is for how long after a command the next one is expected. Who works
// on a host goes on within seconds of an answer; later, a round trip more is less
// than what sessions cost a host whose connections all keep one.
const spareIdle = 30 * time.Second

// wantsSpare reports whether another command is likely and a session for it can
// be opened ahead. Runs with pool.mu held.
func (c *conn) wantsSpare() bool {
	return c.proven && c.spare == nil && c.coming == nil && !c.noSpare && !c.retiring &&
		c.used+c.lost < c.sessions-1 && c.open+c.unanswered < c.spareBelow && !c.quiet()
}

// quiet reports whether no command is expected soon. Runs with pool.mu held.
func (c *conn) quiet() bool { return c.e.clock()-c.lastUse >= spareIdle }

// hasten has a session opened ahead although a command has only begun. Runs with
// pool.mu held.
func (c *conn) hasten() {
	if c.trip >= spareTrip {
		c.poke()
	}
}

// keepSpare keeps the session that is opened ahead for the next command. Or it
// notes that the server would not open it beside so many others; what the server
// allows to commands is learned from commands alone.
func (p *pool) keepSpare(c *conn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		c.spare = c.coming // nil if the server has closed it
	} else {
		c.spareBelow = c.open + c.unanswered
	}
	c.coming = nil
	p.settle(c.host)
}

// claimSpare takes the spare session of c for a command, if there is one.
func (p *pool) claimSpare(c *conn) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := c.spare
	if s == nil || c.noSpare {
		return nil
	}
	c.spare, s.ahead = nil, true
	c.hasten()
	return s
}

// stale takes the spare session from a connection that has become quiet or is to
// have none; nil if there is none or it is not.
func (p *pool) stale(c *conn) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := c.spare
	if s == nil || !c.noSpare && !c.quiet() {
		return nil
	}
	c.spare = nil
	c.used++ // until it is closed
	return s
}

// dropSpare notes that the server has closed a session. It reports whether that
// was still the spare one of c.
func (p *pool) dropSpare(c *conn, s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s {
	case c.spare:
		c.spare = nil
	case c.coming:
		c.coming = nil
	default:
		return false
	}
	c.open--
	c.proven = false
	return true
}

// doubtSpare notes that the server has refused what it was asked for on a session.
// If that was opened ahead, this may be why: no other is, until the server has
// refused the same on a fresh one, too.
func (p *pool) doubtSpare(c *conn, ahead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.noSpare = ahead
	c.poke()
}
