package sshexec

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// tunnel is a direct-tcpip channel as a [net.Conn] that ends when it is closed. A
// channel does not: who reads or writes goes on waiting until the hop has closed
// its side, which sshd does when the host behind it has taken what was sent. A dead
// one never does. So others read and write for those who may have to leave.
type tunnel struct {
	channel ssh.Channel
	via     *conn
	remote  net.Addr

	closing sync.Once
	closed  chan struct{}

	came  chan []byte   // what was read; closed at the end
	taken chan struct{} // it can be overwritten
	rest  []byte        // of what was read
	err   error         // of the end; valid once came is closed

	goes chan []byte // what is to be written
	went chan error
	copy []byte // of that: who asked for it may be gone
}

func newTunnel(via *conn, channel ssh.Channel, to netip.AddrPort) *tunnel {
	t := &tunnel{
		channel: channel, via: via, remote: net.TCPAddrFromAddrPort(to), closed: make(chan struct{}),
		came: make(chan []byte), taken: make(chan struct{}, 1), goes: make(chan []byte), went: make(chan error, 1),
	}
	via.spawn(t.receive)
	via.spawn(t.send)
	return t
}

// receive reads for Read, first with a small buffer: many tunnels are idle.
func (t *tunnel) receive() {
	defer close(t.came)
	buf := make([]byte, smallRead)
	for {
		n, err := t.channel.Read(buf)
		if n > 0 && !t.give(buf[:n]) {
			return
		}
		if err != nil {
			t.err = err
			return
		}
		if n == smallRead && len(buf) == smallRead {
			buf = make([]byte, largeRead)
		}
	}
}

// give waits until Read has taken all of b; false when nobody will.
func (t *tunnel) give(b []byte) bool {
	select {
	case t.came <- b:
	case <-t.closed:
		return false
	}
	select {
	case <-t.taken:
		return true
	case <-t.closed:
		return false
	}
}

func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		var more bool
		select {
		case t.rest, more = <-t.came:
		case <-t.closed:
			return 0, net.ErrClosed
		}
		if !more {
			return 0, t.err
		}
	}
	n := copy(p, t.rest)
	if t.rest = t.rest[n:]; len(t.rest) == 0 {
		t.taken <- struct{}{}
	}
	return n, nil
}

// send writes for Write.
func (t *tunnel) send() {
	for {
		select {
		case b := <-t.goes:
			_, err := t.channel.Write(b)
			t.went <- err
		case <-t.closed:
			return
		}
	}
}

func (t *tunnel) Write(p []byte) (int, error) {
	if isClosed(t.closed) {
		return 0, net.ErrClosed
	}
	t.copy = append(t.copy[:0], p...)
	select {
	case t.goes <- t.copy:
	case <-t.closed:
		return 0, net.ErrClosed
	}
	select {
	case err := <-t.went:
		if err != nil {
			return 0, err
		}
		return len(p), nil
	case <-t.closed:
		return 0, net.ErrClosed
	}
}

// Close does not wait for the hop, which may not be heard either.
func (t *tunnel) Close() error {
	t.closing.Do(func() {
		close(t.closed)
		t.via.spawn(func() { t.channel.Close() })
	})
	return nil
}

func (t *tunnel) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4zero} }
func (t *tunnel) RemoteAddr() net.Addr             { return t.remote }
func (t *tunnel) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (t *tunnel) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (t *tunnel) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
