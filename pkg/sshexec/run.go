package sshexec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	// maxLine is where the kernel's limit for one argument is near: from 128
	// KiB on a command ends with status 1 and no word, and OpenSSH drops the
	// whole connection for one of 300 KB.
	maxLine = 127 << 10
	// openTries is how often a session is asked for. Each further try follows
	// one in which nothing can have run.
	openTries = 12
	lostGrace = 50 * time.Millisecond
)

// taskVariable marks the processes of a job in their environment. sudo empties
// the environment but keeps what begins with LC_.
const taskVariable = "LC_SALLYPORT_TASK"

// run is one job on its way.
type run struct {
	e        *Executor
	job      tool.Job
	key      poolKey
	task     string // the marker in the environment of everything that it starts
	elevate  string // program by which the running step became another user
	progress *progress
	report   tool.Report
	on       *conn // the last one that a session was taken on
}

// do runs the steps one after the other until one cannot be run to its end.
func (r *run) do(ctx context.Context) {
	steps, err := r.prepare()
	if err != nil {
		r.end(tool.NotStarted, err)
		return
	}
	for _, step := range steps {
		if !step(ctx) {
			return
		}
	}
}

// prepare renders every step before the first is run, so that a job that cannot
// be run as a whole does not begin. Each reports whether the next may follow.
func (r *run) prepare() ([]func(context.Context) bool, error) {
	var all []func(context.Context) bool
	for i, step := range r.job.Steps {
		do, err := r.prepareStep(step)
		var f *tool.Failure
		switch {
		case errors.As(err, &f):
			return nil, f
		case err != nil:
			return nil, unfit(r.job.Target, i, err)
		}
		all = append(all, do)
	}
	return all, nil
}

func (r *run) prepareStep(step tool.Step) (func(context.Context) bool, error) {
	if file, err := r.isFile(step); file || err != nil {
		return func(ctx context.Context) bool { return r.file(ctx, step) }, err
	}
	switch do := step.Do.(type) {
	case tool.Connect:
		return r.connect, nil
	case tool.Enter:
		return func(ctx context.Context) bool { return r.enter(ctx, do) }, nil
	}
	cmd, err := r.command(step)
	return func(ctx context.Context) bool {
		r.elevate = elevator(step)
		return r.step(ctx, cmd)
	}, err
}

// command renders a step that runs something.
func (r *run) command(step tool.Step) (command, error) {
	cmd := command{limit: r.job.Limits.OutputBytes}
	if see := r.job.Output; see != nil {
		cmd.onOutput = func(p []byte) { see(p, false) }
		cmd.onErrors = func(p []byte) { see(p, true) }
	}
	canonical, err := canonicalOf(step.Do)
	if err != nil {
		return cmd, err
	}
	cmd.line = shell.RemoteEnv(r.marker(), canonical)
	if dir := directoryOf(step.Do); dir != "" {
		cmd.lost = &lost{word: rand.Text()}
		cmd.line = shell.RemoteIn(r.marker(), dir, cmd.lost.word, canonical)
	}
	if len(cmd.line) > maxLine {
		return cmd, &tool.Failure{
			Code:    tool.FailTooLong,
			Message: fmt.Sprintf("%s: the command takes %d bytes; %d can be sent", place(r.job.Target), len(cmd.line), maxLine),
			Remedy:  "send a shorter command",
		}
	}
	switch do := step.Do.(type) {
	case tool.Exec:
		cmd.stdin = do.Stdin
	case tool.Shell:
		cmd.stdin = do.Stdin
	}
	return cmd, nil
}

// marker is the environment by which the processes of the job are known.
func (r *run) marker() []string { return []string{taskVariable + "=" + r.task} }

// directoryOf is the directory that a step runs in; empty for where a login begins.
func directoryOf(do tool.Do) string {
	if do, ok := do.(tool.Shell); ok {
		return do.Command.Cwd
	}
	return ""
}

// canonicalOf is the line that a step runs: the one that was judged, or quoted
// words that no shell can read otherwise.
func canonicalOf(do tool.Do) (string, error) {
	switch do := do.(type) {
	case tool.Shell:
		if do.Command == nil || do.Command.Canonical == "" {
			return "", errors.New("a command line without a canonical form was not judged and cannot be sent")
		}
		return do.Command.Canonical, nil
	case tool.Exec:
		if len(do.Argv) == 0 || do.Argv[0] == "" || strings.HasPrefix(do.Argv[0], "-") {
			return "", errors.New("no program to run")
		}
		if strings.ContainsRune(strings.Join(do.Argv, ""), 0) {
			return "", errors.New("a null byte cannot be in a word of a program")
		}
		return "exec " + shell.Quote(do.Argv...), nil
	}
	return "", fmt.Errorf("a step of type %T is not for a host", do)
}

func unfit(t tool.Target, step int, err error) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailInternal,
		Message: fmt.Sprintf("%s: step %d cannot be run", t.Alias, step+1),
		Remedy:  "report this: it should have been refused before",
		Cause:   err,
	}
}

// step runs one command and reports whether the next may follow.
func (r *run) step(ctx context.Context, cmd command) bool {
	s, err := r.open(ctx, wantSession, cmd)
	if err != nil {
		r.notStarted(ctx, err)
		return false
	}
	defer s.release()
	r.progress.watch(s)
	select {
	case <-s.over:
	case <-s.flooded:
		r.stopped(s, tool.StopOutput)
		return false
	case <-ctx.Done():
		if !s.isOver() {
			r.stopped(s, stopCause(ctx))
			return false
		}
	}
	if !s.hasExited() {
		waitFor(r.e.cut, s.drained, quietAfterExit) // what has come is still being read
		r.report.Outputs = append(r.report.Outputs, s.output(true))
		r.end(tool.Unknown, r.lost(s))
		return false
	}
	out := s.output(s.rest(ctx))
	if cmd.lost.is(out) {
		r.notStarted(ctx, r.noDirectory())
		return false
	}
	r.report.Outcome = tool.Finished
	r.report.Outputs = append(r.report.Outputs, out)
	return true
}

func (r *run) noDirectory() *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailNoDirectory,
		Message: place(r.job.Target) + ": the working directory cannot be entered, so nothing was run",
		Remedy:  "look whether it is still there and the account may enter it; cd leads to another one",
	}
}

// stopped ends the running command and reports what came of that.
func (r *run) stopped(s *session, why tool.Stop) {
	result := r.stop(s)
	if s.hasExited() {
		r.report.Outcome = tool.Finished
		waitFor(r.e.cut, s.drained, quietAfterExit)
	} else {
		r.report.Outcome = tool.Unknown
	}
	r.report.Stop, r.report.Stopped, r.report.Survivors = why, result.clean, result.survivors
	r.report.Outputs = append(r.report.Outputs, s.output(true))
	r.report.Err = result.failure
}

// lost says why the end of a started command is not known. The end of the
// connection is known a moment later than that of its sessions.
func (r *run) lost(s *session) *tool.Failure {
	if waitFor(r.e.cut, s.conn.dead, lostGrace) {
		return dropped(r.job.Target, "while the command ran; whether it ended, and how, is not known", nil)
	}
	return &tool.Failure{
		Code:    tool.FailDropped,
		Message: place(r.job.Target) + ": the host ended the session without saying how the command ended",
		Remedy:  "look on the host whether it did its work before running it again",
	}
}

// open starts a command in a session on a pooled connection. A failure in
// which nothing can have run leads to another session, and a connection that
// had silently died to a fresh one. When it returns a session, the command may
// have started.
func (r *run) open(ctx context.Context, w want, cmd command) (*session, error) {
	var err error
	tries := map[error]int{}
	for range openTries {
		var g grant
		if g, err = r.connection(ctx, w); err != nil {
			return nil, err
		}
		s := g.conn.start(cmd)
		if err = r.started(ctx, s); err == nil {
			return s, nil
		}
		s.release()
		if f := r.notOpened(err, tries); f != nil {
			return nil, f
		}
	}
	return nil, noSession(r.job.Target, "the host opens no session", err)
}

// notOpened says why no other session is tried; nil if one is.
func (r *run) notOpened(err error, tries map[error]int) error {
	switch {
	case errors.Is(err, errAbandoned):
		return err
	case errors.Is(err, errExecRefused):
		return &tool.Failure{
			Code:    tool.FailExecRefused,
			Message: place(r.job.Target) + ": the host runs no commands for this login",
			Remedy:  "check the account's options on the host: ForceCommand, the key's options, a disabled account",
		}
	case errors.Is(err, errNoSessions):
		if tries[errNoSessions]++; tries[errNoSessions] > 1 {
			return noSession(r.job.Target, "the host opens no session", err)
		}
	case !errors.Is(err, errOpening):
		// Every pooled connection may have died while it was idle.
		if tries[errBroken]++; tries[errBroken] > r.e.o.ConnsPerHost+1 {
			return dropped(r.job.Target, "before the command was sent", err)
		}
	}
	return nil
}

// started waits until the command has started, or may have. Its error means
// that it has not and will not.
func (r *run) started(ctx context.Context, s *session) error {
	select {
	case err := <-s.started:
		if err == io.EOF || err != nil && s.stage.Load() == stageAsked && !neverSent(err) {
			return nil // sent, and the answer is missing
		}
		return err
	case <-ctx.Done():
		if s.abandon() {
			return errAbandoned
		}
		return nil
	}
}

// neverSent reports whether an error of x/crypto's SendRequest can only mean
// that the request was not written: the transport had failed before.
func neverSent(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// connection takes a session on a pooled connection.
func (r *run) connection(ctx context.Context, w want) (grant, error) {
	if w == wantStop {
		g := r.e.pool.acquire(ctx, r.key, r.job.Target, w)
		return g, g.err
	}
	g := r.e.pool.tryAcquire(r.key, w)
	if g.conn == nil {
		r.progress.phase("connecting")
		if g = r.e.pool.acquire(ctx, r.key, r.job.Target, w); g.err != nil {
			return g, g.err
		}
		r.progress.phase("connected")
	}
	r.report.Address, r.on = r.job.Target.Address.Unmap().String(), g.conn
	return g, nil
}

// notStarted reports a step that did not start. Whatever ran before it has
// finished.
func (r *run) notStarted(ctx context.Context, err error) {
	outcome := tool.NotStarted
	if len(r.report.Outputs) > 0 {
		outcome = tool.Finished
	}
	if ctx.Err() == nil {
		r.end(outcome, r.e.connectFailure(ctx, err, r.job.Target, "opening a session"))
		return
	}
	r.report.Stop, r.report.Stopped = stopCause(ctx), true
	switch r.report.Stop {
	case tool.StopTimeout, tool.StopShutdown:
		r.end(outcome, r.e.connectFailure(ctx, err, r.job.Target, "opening a session"))
	default:
		r.end(outcome, nil)
	}
}

func (r *run) end(outcome tool.Outcome, err error) {
	r.report.Outcome = outcome
	errors.As(err, &r.report.Err)
}

// stopCause is why a job's context has ended.
func stopCause(ctx context.Context) tool.Stop {
	cause := context.Cause(ctx)
	var stop tool.Stop
	switch {
	case errors.As(cause, &stop):
		return stop
	case errors.Is(cause, context.DeadlineExceeded):
		return tool.StopTimeout
	}
	return tool.StopCancelled
}
