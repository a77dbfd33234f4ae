// Package sshtest has SSH hosts for tests and for the demo: a real OpenSSH
// server as a child process, and a server inside this process whose faults can
// be chosen. Nothing that serves agents imports it.
package sshtest

import (
	"context"
	"errors"
	"net/netip"

	"golang.org/x/crypto/ssh"
)

// Options configure [Serve].
type Options struct {
	Addr          string        // listen address; empty: 127.0.0.1:0
	User          string        // the one user who may log in
	AuthorizedKey ssh.PublicKey // the one key that may
	HostKey       ssh.Signer    // empty: a fresh one
	Dir           string        // working directory of commands; empty: that of this process
}

// Server is an SSH server inside this process that runs commands with /bin/sh,
// as the user of this process, each in a session of its own.
type Server struct{}

// Serve starts a server. It ends, with every command that it runs, when ctx
// does or at [Server.Close].
func Serve(ctx context.Context, o Options) (*Server, error) { return nil, errors.New("not built yet") }

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort { return netip.AddrPort{} }

// KnownHostsLine is the server's entry for a known_hosts file.
func (s *Server) KnownHostsLine() string { return "" }

// Close ends every connection and command, and waits for them.
func (s *Server) Close() error { return nil }
