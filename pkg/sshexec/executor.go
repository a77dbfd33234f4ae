package sshexec

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
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

	ConnectTimeout  time.Duration // whole connect phase: TCP, key exchange, login, hops included; 15 s
	Keepalive       time.Duration // silence after which the peer is asked for a sign of life; 5 s
	KeepaliveReply  time.Duration // how long it may take to answer; 3 s
	IdleClose       time.Duration // a connection without work is closed after this; 5 min
	SessionsPerConn int           // commands at once on one connection, one more is kept for stops; 8
	ConnsPerHost    int           // connections to one host for one login; 3

	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

func (o Options) withDefaults() Options {
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 15*time.Second)
	o.Keepalive = cmp.Or(o.Keepalive, 5*time.Second)
	o.KeepaliveReply = cmp.Or(o.KeepaliveReply, 3*time.Second)
	o.IdleClose = cmp.Or(o.IdleClose, 5*time.Minute)
	o.SessionsPerConn = cmp.Or(o.SessionsPerConn, 8)
	o.ConnsPerHost = cmp.Or(o.ConnsPerHost, 3)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Executor runs jobs on hosts over pooled SSH connections. It is safe for
// concurrent use.
type Executor struct {
	o     Options
	pool  *pool
	gates *gates
	epoch time.Time

	stopping context.Context // ends when Close begins: jobs are stopped
	stop     context.CancelCauseFunc
	cut      context.Context // ends when Close has no more time: stops are given up
	giveUp   context.CancelFunc

	tasks sync.WaitGroup // every goroutine but those of jobs

	leftovers leftovers // of copies that failed

	mu     sync.Mutex // guards closed, and jobs against a late Add
	closed bool
	jobs   sync.WaitGroup
	// running counts jobs, for Stats.
	running int
}

// New returns an executor. It connects to nothing until there is a job.
func New(o Options) *Executor {
	e := &Executor{o: o.withDefaults(), epoch: time.Now().Add(-time.Second)}
	e.stopping, e.stop = context.WithCancelCause(context.Background())
	e.cut, e.giveUp = context.WithCancel(context.Background())
	e.gates = newGates(e.o.Now)
	e.pool = &pool{e: e, hosts: map[poolKey]*host{}}
	return e
}

// clock is time since before the executor was made; it is never zero.
func (e *Executor) clock() time.Duration { return time.Since(e.epoch) }

// Run runs one job and says truthfully what came of it: there is no error
// beside the report. A step that may have started is never started again.
//
// The job's time limit covers everything, the connect phase included. When ctx
// ends, its cause says why if it is a [tool.Stop]; another cancellation counts
// as [tool.StopCancelled]. A stop takes up to two seconds more against
// processes that do not want to end. A host that no longer answers is waited for
// less than one; then the report says that the stop is not confirmed.
func (e *Executor) Run(ctx context.Context, job tool.Job) tool.Report {
	began := time.Now()
	r := &run{e: e, job: job, task: rand.Text(), key: keyOf(job.Subject, job.Target)}
	if !e.enter() {
		r.end(tool.NotStarted, shuttingDown())
		return r.report
	}
	defer e.leave()
	ctx, cancel := e.limit(ctx, job.Limits)
	defer cancel()
	r.progress = startProgress(job.Progress)
	r.do(ctx)
	r.progress.stop()
	r.report.Duration = time.Since(began)
	return r.report
}

// limit puts the job's time limit and the executor's end on a context.
func (e *Executor) limit(ctx context.Context, l tool.Limits) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(e.stopping, func() { stop(tool.StopShutdown) })
	release := func() { unhook(); stop(nil) }
	if l.Seconds <= 0 {
		return ctx, release
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(l.Seconds)*time.Second, tool.StopTimeout)
	return ctx, func() { cancel(); release() }
}

func (e *Executor) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.jobs.Add(1)
	e.running++
	return true
}

func (e *Executor) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running--
	e.jobs.Done()
}

// Retire replaces every connection before its next use: what runs may finish,
// nothing new is started on it. Logins that were refused may be tried again.
// It is called after host keys or credentials have changed.
func (e *Executor) Retire() {
	e.pool.retire()
	e.gates.forgive()
}

// Stats is a snapshot of what an executor holds.
type Stats struct {
	Connections int // live
	Dialing     int // being made
	Sessions    int // taken on all connections, stops included
	Running     int // jobs in flight
	Waiting     int // jobs waiting for a connection or a session
	Breakers    []BreakerState
}

// BreakerState says that one address, or one login at it, is not tried for a
// while.
type BreakerState struct {
	Address string // host:port, behind the hops to it
	Login   string // user and credential; empty when the address itself is meant
	Until   time.Time
	Reason  string
}

// Stats counts connections, sessions and jobs, and lists the open breakers.
func (e *Executor) Stats() Stats {
	s := Stats{Breakers: e.gates.states()}
	e.pool.count(&s)
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Running = e.running
	return s
}

// Close stops what runs, as a shutdown, closes every connection and waits until
// nothing of the executor is left. When ctx ends first, commands are no longer
// stopped but cut off, and Close returns the context's error. A later Run is
// refused.
func (e *Executor) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	unhook := context.AfterFunc(ctx, e.giveUp)
	defer unhook()
	e.stop(tool.StopShutdown)
	e.jobs.Wait()
	err := ctx.Err()
	e.giveUp()
	e.pool.close()
	e.tasks.Wait()
	return err
}
