// Package sshtest has SSH hosts for tests and for the demo: [StartOpenSSH] runs
// a real sshd as a child process, [Serve] is a server inside this process whose
// faults can be chosen, and [StartProxy] stands between and can freeze or cut a
// connection. Nothing that serves agents imports it.
package sshtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Options configure [Serve].
type Options struct {
	Addr          string        // listen address; empty: 127.0.0.1:0
	User          string        // the one user who may log in
	AuthorizedKey ssh.PublicKey // the one key that may
	HostKey       ssh.Signer    // nil: a fresh one
	Dir           string        // working directory of commands; empty: that of this process
	Faults        Faults
}

// Faults make a server misbehave. The zero value has none.
type Faults struct {
	// Conn, when set, stands between the network and the server for every
	// connection.
	Conn func(net.Conn) net.Conn
	// Greet, when set, is called with every connection that has logged in.
	Greet func(*ssh.ServerConn)
	// MaxSessions is how many sessions a connection may have at once; 0 is no
	// limit, -1 none.
	MaxSessions int
	// Open, when set, is called with every session that was opened, before any
	// command on it.
	Open func(ssh.Channel)
	// Exec, when set, is asked first. It has the command's channel to itself
	// and reports whether it has dealt with the command.
	Exec func(command string, ch ssh.Channel) bool
	// Refuse, when set, is asked before everything that a client asks of a session,
	// and reports whether the answer is no. Sessions are numbered from 1.
	Refuse func(session int, r *ssh.Request) bool
	// NoReply leaves global requests, such as keepalives, unanswered.
	NoReply bool
}

// Server is an SSH server inside this process that runs commands with /bin/sh,
// as the user of this process, each in a session of its own.
type Server struct {
	o        Options
	listener net.Listener
	config   *ssh.ServerConfig
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	sessions atomic.Int32 // that were ever opened

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil once closed
}

// Serve starts a server. It ends when ctx does or at [Server.Close], and with
// it every command that it still runs, but for children that have left their
// process group.
func Serve(ctx context.Context, o Options) (*Server, error) {
	if o.User == "" || o.AuthorizedKey == nil {
		return nil, errors.New("a server needs a user and a key that may log in")
	}
	if o.HostKey == nil {
		var err error
		if o.HostKey, err = newSigner(); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", cmp.Or(o.Addr, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, listener: l, conns: map[net.Conn]struct{}{}}
	s.config = &ssh.ServerConfig{PublicKeyCallback: s.authorize}
	s.config.AddHostKey(o.HostKey)
	ctx, s.cancel = context.WithCancel(ctx)
	s.tasks.Go(func() { s.accept(ctx) })
	context.AfterFunc(ctx, s.shut)
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort {
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}

// KnownHostsLine is the server's entry for a known_hosts file.
func (s *Server) KnownHostsLine() string {
	return knownhosts.Line([]string{s.Addr().String()}, s.o.HostKey.PublicKey())
}

// Close ends every connection and command, and waits for them.
func (s *Server) Close() error {
	s.cancel()
	s.tasks.Wait()
	return nil
}

// shut closes the listener and every connection.
func (s *Server) shut() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *Server) authorize(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if meta.User() == s.o.User && bytes.Equal(key.Marshal(), s.o.AuthorizedKey.Marshal()) {
		return nil, nil
	}
	return nil, fmt.Errorf("%s may not log in with this key", meta.User())
}

func (s *Server) accept(ctx context.Context) {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.tasks.Go(func() { s.serve(ctx, c) })
	}
}

// hold keeps a connection for shut; false when that has been already.
func (s *Server) hold(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) drop(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serve is one connection from its handshake to its end.
func (s *Server) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	if !s.hold(c) {
		return
	}
	defer s.drop(c)
	if s.o.Faults.Conn != nil {
		c = s.o.Faults.Conn(c)
	}
	conn, chans, reqs, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return
	}
	defer conn.Close()
	s.tasks.Go(func() { s.answer(reqs) })
	if s.o.Faults.Greet != nil {
		s.tasks.Go(func() { s.o.Faults.Greet(conn) })
	}
	var sessions sync.WaitGroup
	defer sessions.Wait()
	free := s.slots()
	for ch := range chans {
		s.open(ctx, ch, free, &sessions)
	}
}

// slots holds a token for each session that a connection may have; nil for any
// number.
func (s *Server) slots() chan struct{} {
	if s.o.Faults.MaxSessions == 0 {
		return nil
	}
	n := max(0, s.o.Faults.MaxSessions)
	free := make(chan struct{}, n)
	for range n {
		free <- struct{}{}
	}
	return free
}

func (s *Server) open(ctx context.Context, ch ssh.NewChannel, free chan struct{}, sessions *sync.WaitGroup) {
	if ch.ChannelType() != "session" {
		_ = ch.Reject(ssh.UnknownChannelType, "only sessions here")
		return
	}
	if free != nil {
		select {
		case <-free:
		default:
			_ = ch.Reject(ssh.ConnectionFailed, "open failed")
			return
		}
	}
	c, reqs, err := ch.Accept()
	if err != nil {
		return
	}
	number := int(s.sessions.Add(1))
	if s.o.Faults.Open != nil {
		s.o.Faults.Open(c)
	}
	sessions.Go(func() {
		s.session(ctx, number, c, reqs)
		if free != nil {
			free <- struct{}{}
		}
	})
}

func (s *Server) answer(reqs <-chan *ssh.Request) {
	for r := range reqs {
		if r.WantReply && !s.o.Faults.NoReply {
			_ = r.Reply(false, nil)
		}
	}
}
