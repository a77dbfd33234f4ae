package sshexec

import (
	"context"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Options configure an [Executor]. Zero fields mean the default named beside
// them; Trust and Logins are required.
type Options struct {
	// Trust decides which host keys and algorithms are acceptable.
	Trust *Trust
	// Logins gives the credentials for one host, hops included. It is asked
	// once a connection, under the deadline of the connect phase.
	Logins func(ctx context.Context, t tool.Target) (Login, error)

	ConnectTimeout  time.Duration // whole connect phase of one hop: TCP, key exchange, login; 15 s
	Keepalive       time.Duration // silence after which the peer is asked for a sign of life; 5 s
	KeepaliveReply  time.Duration // how long it may take to answer; 3 s
	IdleClose       time.Duration // a connection without work is closed after this; 5 min
	SessionsPerConn int           // commands at once on one connection, one more is kept for stops; 8
	ConnsPerHost    int           // connections to one host for one login; 3

	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// Executor runs jobs on hosts over pooled SSH connections. It is safe for
// concurrent use.
type Executor struct{ o Options }

// New returns an executor. It connects to nothing until there is a job.
func New(o Options) *Executor { return &Executor{o: o} }

// Run runs one job and says truthfully what came of it. It never returns an
// error beside the report, and it never runs a step twice.
func (e *Executor) Run(ctx context.Context, job tool.Job) tool.Report {
	return tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailInternal, Message: "not built yet"}}
}

// Retire replaces every connection before its next use: what runs may finish,
// nothing new is started on them. It is called after host keys or credentials
// have changed.
func (e *Executor) Retire() {}

// Stats is a snapshot of what an executor holds.
type Stats struct {
	Connections int // live
	Dialing     int // being made
	Sessions    int // open on all connections, stops included
	Running     int // jobs in flight
	Waiting     int // jobs waiting for a session
	Breakers    []BreakerState
}

// BreakerState is what the breaker thinks of one address, or of one login at
// it, when that is anything but "fine".
type BreakerState struct {
	Address string    // host:port, with the hops before it
	Login   string    // user and credential name; empty when the address itself is meant
	Open    bool      // no connection is tried now
	Until   time.Time // when Open
	Reason  string
}

// Stats counts connections, sessions and jobs, and lists the breakers that
// are not at rest.
func (e *Executor) Stats() Stats { return Stats{} }

// Close stops what runs, as a shutdown, closes every connection and waits for
// all of it. When ctx ends first, connections are cut; Close then returns the
// context's error. A later Run is refused.
func (e *Executor) Close(ctx context.Context) error { return nil }
