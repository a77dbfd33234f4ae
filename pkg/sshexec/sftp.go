package sshexec

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
)

const (
	// filesOpenLimit is how long an SFTP session may take to open.
	filesOpenLimit = 10 * time.Second
	// plainPacket is what every server takes in one packet; mostPacket is where
	// OpenSSH's limit is. Larger ones end the session.
	plainPacket = 32 << 10
	mostPacket  = 255 << 10
)

var (
	// errNoSFTP: the host has no SFTP subsystem, or something else answers there.
	errNoSFTP = errors.New("no SFTP subsystem")
	// errLost: the SFTP session has ended.
	errLost = errors.New("the SFTP session has ended")
	// errMuteFiles: the SFTP server does not answer.
	errMuteFiles = fmt.Errorf("%w: its server did not answer", errLost)
)

// files is an SFTP session. The jobs on a connection share one, or a few where the
// host is far away; a large file may take more for itself. It is opened on demand, closed when it was idle for a
// while or its place is wanted, and replaced when it has died.
type files struct {
	conn    *conn
	session *session
	stream  *packets
	client  *sftp.Client
	packet  int           // the most that is read or written at once
	trip    time.Duration // a round trip to the server

	ready  chan struct{} // closed when it is open, or will not be
	err    error         // why it is not open; valid once ready
	gone   chan struct{} // closed when nothing more can be had of it
	ending sync.Once

	descriptors
	listing sync.Mutex // one directory at a time

	// Guarded by pool.mu.
	jobs    int
	lastUse time.Duration
	closing bool // takes no more jobs
}

// far reports whether the session is open and one is not enough for jobs side by
// side.
func (f *files) far() bool { return isClosed(f.ready) && f.err == nil && f.trip >= laneTrip }

// openFiles begins to open an SFTP session, for which a session was taken. Packet
// is what the host takes at once, if that is known.
func (c *conn) openFiles(packet int) *files {
	f := &files{conn: c, packet: packet, ready: make(chan struct{}), gone: make(chan struct{}), lastUse: c.e.clock()}
	c.spawn(f.open)
	return f
}

func (f *files) open() {
	defer close(f.ready)
	opened := make(chan error, 1)
	limit := time.NewTimer(filesOpenLimit)
	defer limit.Stop()
	f.session = f.conn.start(command{subsystem: "sftp", limit: 4 << 10})
	f.conn.spawn(func() { opened <- f.begin() })
	select {
	case f.err = <-opened:
	case <-f.session.over:
		f.err = f.refused()
	case <-limit.C:
		f.err = errMuteFiles
	}
	if f.err != nil {
		f.end()
		return
	}
	f.conn.spawn(f.watch)
}

// begin asks for the subsystem and learns what its server can do.
func (f *files) begin() error {
	if err := <-f.session.started; err != nil {
		return err
	}
	f.stream = newPackets(f.session.channel, f.end)
	most, err := f.stream.greet(f.packet == 0)
	if err != nil {
		return err
	}
	f.packet = min(cmp.Or(f.packet, most, plainPacket), mostPacket)
	if f.client, err = sftp.NewClientPipe(f.stream, f.stream, sftp.MaxPacketUnchecked(f.packet)); err != nil {
		return fmt.Errorf("%w: %v", errNoSFTP, err)
	}
	asked := time.Now()
	f.see(f.client)
	f.trip = time.Since(asked)
	return nil
}

// refused says why the server ended the session before it was open: sshd starts
// the subsystem's program even where there is none.
func (f *files) refused() error {
	if said := strings.TrimSpace(string(f.session.stderr.stream(false).Kept)); said != "" {
		return fmt.Errorf("%w: %s", errNoSFTP, printable(said))
	}
	return errNoSFTP
}

// watch notes the end of the session.
func (f *files) watch() {
	<-f.session.over
	f.end()
}

// close ends the session when its server has seen that nothing more will come,
// so that its place is free at once.
func (f *files) close() {
	f.conn.spawn(func() {
		<-f.ready
		if f.err == nil {
			_ = f.session.channel.CloseWrite()
			waitFor(f.conn.e.cut, f.session.over, closeLinger)
		}
		f.end()
	})
}

// end gives the session up. What is under way on it fails as soon as the server
// has closed its side, and at the latest with the connection.
func (f *files) end() {
	f.ending.Do(func() {
		f.conn.e.pool.dropFiles(f)
		close(f.gone)
		f.session.release()
	})
}
