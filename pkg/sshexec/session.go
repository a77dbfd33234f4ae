package sshexec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	// Once the exit status is known, the rest of the output is waited for, but
	// not what a background child goes on to write. It is over when nothing has
	// come for quietAfterExit; when so little comes that it is not a slow link
	// delivering; or when more has come than the window and the buffers of the
	// server can have held at the exit.
	quietAfterExit = 75 * time.Millisecond
	checkAfterExit = 2 * time.Second
	flowAfterExit  = 32 << 10 // bytes in that time
	heldAtExit     = 2<<20 + 256<<10
	// closeLinger is how long the server may take to close a session that we
	// have closed.
	closeLinger = 5 * time.Second

	smallRead = 4 << 10
	largeRead = 64 << 10
)

// How far a session has come. Between opening and asked lies the point of no
// return: once the command may have been sent, it may have started.
const (
	stageOpening   int32 = iota
	stageAsked           // the command was sent, or is being sent
	stageRefused         // the server will not run it
	stageAbandoned       // it will not be sent
)

var (
	// errAbandoned: the command was no longer wanted and not sent.
	errAbandoned = errors.New("given up before the command was sent")
	// errExecRefused: the server runs no commands for this login.
	errExecRefused = errors.New("the server refused to run a command")
	// errNoSessions: the server opens no session at all on this connection.
	errNoSessions = errors.New("the server opens no session")
	// errOpening: the server opens no further session on this connection.
	errOpening = errors.New("session not opened")
	// errBroken: the connection, or the session opened ahead, was gone or not
	// good any more.
	errBroken = errors.New("connection lost")
)

// command is what a session runs: a command line, or a subsystem, whose owner
// then reads and writes the channel himself.
type command struct {
	line      string
	subsystem string
	lost      *lost // for a line that runs in a directory
	stdin     []byte
	limit     int64 // kept of each stream
	// onOutput and onErrors, when set, see a stream as it comes. They must be
	// quick.
	onOutput, onErrors func([]byte)
}

// session is one command on a raw channel: x/crypto's own session reports an
// exit status only when the channel closes, and a background child that holds
// the output keeps it open.
type session struct {
	conn    *conn
	channel ssh.Channel // once opened
	ahead   bool        // it was opened before there was a command for it
	cmd     command

	stage   atomic.Int32
	started chan error    // one value: nil once the server has accepted the command
	over    chan struct{} // closed when the exit is known, or the channel is gone
	drained chan struct{} // closed when both streams have ended
	flooded chan struct{} // closed when a stream is over its flood mark
	done    chan struct{} // closed by us: nothing more is wanted of it

	stdout, stderr *capture
	reading        atomic.Int32 // streams still read
	flood          sync.Once
	exit           *exit // valid once over; nil when the channel went without one
}

// exit is how a command ended.
type exit struct {
	code   int
	signal string // without SIG; then there is no code
}

// buffers are for streams that turn out to be large.
var buffers = sync.Pool{New: func() any { return new([largeRead]byte) }}

func (c *conn) newSession() *session {
	s := &session{
		conn:    c,
		started: make(chan error, 1),
		over:    make(chan struct{}),
		drained: make(chan struct{}),
		flooded: make(chan struct{}),
		done:    make(chan struct{}),
	}
	s.reading.Store(2)
	return s
}

// start begins to run a command in a session that was acquired on c: the one
// that is open already, or a new one.
func (c *conn) start(cmd command) *session {
	s := c.e.pool.claimSpare(c)
	if s == nil {
		s = c.newSession()
	}
	s.cmd, s.stdout, s.stderr = cmd, newCapture(cmd.limit), newCapture(cmd.limit)
	c.spawn(s.run)
	return s
}

// open opens the channel, and has serve take what the server says on it.
func (s *session) open() error {
	s.conn.e.pool.asking(s.conn)
	began := time.Now()
	o := s.conn.openChannel("session", nil)
	s.conn.e.pool.asked(s.conn, o.err == nil, time.Since(began))
	if o.err != nil {
		return o.err
	}
	s.channel = o.ch
	s.conn.spawn(func() { s.serve(o.reqs) })
	return nil
}

// run sends the command and then reads its output.
func (s *session) run() {
	if s.channel == nil {
		if err := s.open(); err != nil {
			s.started <- s.notOpened(err)
			return
		}
	}
	if s.isOver() {
		s.started <- errBroken
		return
	}
	ended := s.conn.e.pool.endedSoFar(s.conn)
	if !s.stage.CompareAndSwap(stageOpening, stageAsked) {
		s.started <- errAbandoned
		return
	}
	s.conn.spawn(func() { s.read(s.channel.Stderr(), s.stderr, s.cmd.seeErrors) })
	ok, err := s.channel.SendRequest(s.cmd.request())
	switch {
	case err == nil && !ok:
		s.stage.Store(stageRefused)
		err = s.refused()
	case err == nil:
		s.conn.e.pool.accepted(s.conn, ended)
	}
	s.conn.wire.relax()
	s.started <- err
	if s.cmd.subsystem == "" {
		s.feed()
		s.read(s.channel, s.stdout, s.cmd.onOutput)
	}
}

// refused says what the server's refusal to run the command means: nothing ran,
// and on a session that was opened ahead that may be for its age.
func (s *session) refused() error {
	s.conn.e.pool.doubtSpare(s.conn, s.ahead)
	if s.ahead {
		return fmt.Errorf("%w: %v", errBroken, errExecRefused)
	}
	return errExecRefused
}

// request is what the server is asked for.
func (c command) request() (name string, wantReply bool, payload []byte) {
	if c.subsystem != "" {
		return "subsystem", true, ssh.Marshal(&struct{ Name string }{c.subsystem})
	}
	return "exec", true, ssh.Marshal(&struct{ Command string }{c.line})
}

// notOpened gives the session back that the server did not open. Nothing ran.
func (s *session) notOpened(err error) error {
	var refused *ssh.OpenChannelError
	switch {
	case !errors.As(err, &refused):
		s.conn.e.pool.broken(s.conn)
		s.conn.close()
		return fmt.Errorf("%w: %v", errBroken, err)
	case s.conn.e.pool.refused(s.conn):
		return fmt.Errorf("%w: %v", errNoSessions, err)
	}
	return fmt.Errorf("%w: %v", errOpening, err)
}

// feed gives the command its input and then the end of it, so that nothing can
// wait for an answer that never comes. A program need not read its input.
func (s *session) feed() {
	if len(s.cmd.stdin) == 0 {
		_ = s.channel.CloseWrite()
		return
	}
	s.conn.spawn(func() {
		_, _ = s.channel.Write(s.cmd.stdin)
		_ = s.channel.CloseWrite()
	})
}

// read drains one stream, first with a small buffer: most commands say little.
func (s *session) read(r io.Reader, into *capture, see func([]byte)) {
	defer func() {
		if s.reading.Add(-1) == 0 {
			close(s.drained)
		}
	}()
	buf := make([]byte, smallRead)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if see != nil {
				see(buf[:n])
			}
			if !into.write(buf[:n]) {
				s.flood.Do(func() { close(s.flooded) })
			}
		}
		if err != nil {
			return
		}
		if n == smallRead && len(buf) == smallRead {
			large := buffers.Get().(*[largeRead]byte)
			defer buffers.Put(large)
			buf = large[:]
		}
	}
}

// serve takes what the server says of the command until the channel is gone,
// closes it when nothing more is wanted, and gives the session back.
func (s *session) serve(reqs <-chan *ssh.Request) {
	done := s.done
	lost := false
	var linger <-chan time.Time
	for {
		select {
		case r, ok := <-reqs:
			if !ok {
				s.finish(nil)
				if !lost {
					s.giveBack()
				}
				return
			}
			s.handle(r)
		case <-done:
			done = nil
			_ = s.channel.Close()
			linger = time.After(closeLinger)
		case <-linger:
			lost = true
			if s.hasExited() {
				s.conn.ending.Add(-1)
			}
			s.conn.e.pool.lose(s.conn)
		}
	}
}

// giveBack returns the session when it has ended. Without an exit its process
// may live on, and then the server goes on counting the session.
func (s *session) giveBack() {
	switch {
	case s.conn.e.pool.dropSpare(s.conn, s):
		return
	case s.stage.Load() == stageAsked && !s.hasExited():
		s.conn.e.pool.lose(s.conn)
		return
	case !s.hasExited():
		s.conn.ending.Add(1)
	}
	s.conn.e.pool.ended(s.conn, s.stage.Load() != stageOpening && s.cmd.subsystem == "")
}

func (s *session) handle(r *ssh.Request) {
	e := parseExit(r)
	if e != nil {
		s.finish(e)
	}
	if r.WantReply {
		_ = r.Reply(e != nil, nil)
	}
}

// finish says how the command ended. The first word counts. Only serve calls
// it.
func (s *session) finish(e *exit) {
	if s.isOver() {
		return
	}
	if e != nil {
		s.conn.ending.Add(1)
	}
	s.exit = e
	close(s.over)
}

// parseExit reads RFC 4254 section 6.10; nil for other requests.
func parseExit(r *ssh.Request) *exit {
	switch r.Type {
	case "exit-status":
		var m struct{ Status uint32 }
		if ssh.Unmarshal(r.Payload, &m) == nil {
			return &exit{code: int(m.Status)}
		}
	case "exit-signal":
		var m struct {
			Signal  string
			Core    bool
			Message string
			Lang    string
		}
		if ssh.Unmarshal(r.Payload, &m) == nil {
			return &exit{signal: signalName(m.Signal)}
		}
	}
	return nil
}

// signalName is a signal's name without SIG. OpenSSH sends SIG@openssh.com for
// one that has no name in the RFC.
func signalName(sent string) string {
	name, _, _ := strings.Cut(sent, "@")
	return cmp.Or(strings.TrimPrefix(name, "SIG"), "unknown")
}

func (s *session) isOver() bool { return isClosed(s.over) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// hasExited reports whether the server has said how the command ended.
func (s *session) hasExited() bool { return s.isOver() && s.exit != nil }

// abandon keeps the command from being sent. It reports whether that came in
// time; otherwise the command may have started.
func (s *session) abandon() bool {
	return s.stage.CompareAndSwap(stageOpening, stageAbandoned)
}

// release says that nothing more is wanted of the session. It is called once,
// whatever came of the session.
func (s *session) release() { close(s.done) }

// seen is how much output has come so far.
func (s *session) seen() int64 { return s.stdout.bytes() + s.stderr.bytes() }

// rest waits, once the command has exited, for the rest of its output. It
// reports whether output may still have been coming when it gave up.
func (s *session) rest(ctx context.Context) (more bool) {
	if isClosed(s.drained) {
		return false
	}
	check := time.NewTicker(checkAfterExit)
	defer check.Stop()
	quiet := time.NewTicker(quietAfterExit)
	defer quiet.Stop()
	atExit := s.seen()
	checked, last := atExit, int64(-1)
	for {
		select {
		case <-s.drained:
			return false
		case <-ctx.Done():
			return true
		case <-check.C:
			if s.seen()-checked < flowAfterExit {
				return true
			}
			checked = s.seen()
		case <-quiet.C:
			now := s.seen()
			if now-atExit > heldAtExit {
				return true
			}
			if now == last && s.silentFor(ctx) {
				return false
			}
			last = now
		}
	}
}

// silentFor reports whether no output comes for a round trip, so that none was
// on its way.
func (s *session) silentFor(ctx context.Context) bool {
	before := s.seen()
	select {
	case <-s.answered():
	case <-s.drained:
	case <-ctx.Done():
	}
	return s.seen() == before
}

// answered is closed when the server has answered a request that is sent now,
// or cannot any more.
func (s *session) answered() <-chan struct{} {
	done := make(chan struct{})
	s.conn.spawn(func() {
		defer close(done)
		_, _, _ = s.conn.client.SendRequest(keepaliveRequest, true, nil)
	})
	return done
}

// signal asks the server to signal the command. OpenSSH does so for ordinary
// users, and ignores it for root.
func (s *session) signal(name string) {
	s.conn.spawn(func() {
		_, _ = s.channel.SendRequest("signal", false, ssh.Marshal(&struct{ Name string }{name}))
	})
}

// output is what the command has given so far.
func (s *session) output(more bool) tool.Output {
	o := tool.Output{Stdout: s.stdout.stream(more), Stderr: s.stderr.stream(more)}
	if s.hasExited() {
		code := s.exit.code
		o.Signal = s.exit.signal
		if o.Signal == "" {
			o.Exit = &code
		}
	}
	return o
}
