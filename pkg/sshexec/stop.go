package sshexec

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Closing a session ends nothing on the host, and the signals of the protocol
// are ignored for root and do not reach a child that has left the session. So a
// command is ended from a second session, by a script that finds its processes
// by the marker in their environment; the protocol's signal comes second.

//go:embed stop.sh
var stopScript string

const (
	// stopLimit bounds a whole stop. The script itself takes at most about
	// 1.5 s, against processes that ignore SIGTERM.
	stopLimit = 5 * time.Second
	// stopSign is how long a job waits for any sign of life from the host while it
	// is stopped. Without one it ends, so that no caller waits for what does not
	// come, and the stop goes on by itself.
	stopSign = 700 * time.Millisecond
	// stopAsk is how often a sign of life is asked for.
	stopAsk = 200 * time.Millisecond
	// stopRounds is how often the script is run while the exit of the command
	// is not seen: a login shell that only just starts has no marker yet.
	stopRounds = 3
	// signalGrace is how long a signal may take to end a command.
	signalGrace = 300 * time.Millisecond

	survivorText = 200 // bytes of a survivor's command line that are reported
)

// stopped is what came of a stop.
type stopped struct {
	clean     bool // the command is over and none of its processes is left
	survivors []tool.Survivor
	failure   *tool.Failure // why that is not certain
}

// stop ends the processes of a session's command, and says truthfully whether
// it could.
func (r *run) stop(s *session) stopped {
	done, mute := make(chan stopped, 1), make(chan struct{})
	own := &run{e: r.e, job: r.job, key: r.key, task: r.task, elevate: r.elevate}
	ctx, cancel := context.WithTimeout(r.e.cut, stopLimit)
	r.e.tasks.Go(func() {
		defer cancel()
		done <- own.endAll(ctx, s)
	})
	r.e.tasks.Go(func() {
		if s.silences(ctx) {
			close(mute)
		}
	})
	select {
	case result := <-done:
		return result
	case <-mute:
		return stopped{failure: r.unconfirmed("the host does not answer", nil)}
	}
}

// silences waits until the host has given no sign of life for long. It reports
// false when ctx ends first. A connection that is lost gives none; whether another
// one to the host can be made takes its own time.
func (s *session) silences(ctx context.Context) bool {
	for ctx.Err() == nil {
		answered := waitFor(ctx, s.answered(), stopSign)
		switch {
		case !answered && s.conn.wire.silent() >= stopSign:
			return ctx.Err() == nil
		case answered && waitFor(ctx, s.conn.dead, stopAsk):
			return !waitFor(ctx, nil, stopSign) && ctx.Err() == nil
		}
	}
	return false
}

// endAll has the script end the processes of a session's command.
func (r *run) endAll(ctx context.Context, s *session) stopped {
	var last sweep
	for range stopRounds {
		last = r.sweep(ctx, s)
		if last.err != nil || waitFor(ctx, s.over, signalGrace) {
			break
		}
		s.signal("KILL")
		waitFor(ctx, s.over, signalGrace)
	}
	return r.judge(s, last)
}

// judge says what the last sweep and the state of the command prove.
func (r *run) judge(s *session, last sweep) stopped {
	result := stopped{survivors: last.survivors}
	var why string
	switch {
	case last.err != nil:
		why = "the script that ends it could not be run"
	case r.elevate != "" && !last.root:
		why = "it used " + r.elevate + ", and without that its processes cannot be seen"
	case !s.isOver():
		why = "the host has not reported its end"
	case len(last.survivors) > 0:
		return result
	default:
		result.clean = true
		return result
	}
	result.failure = r.unconfirmed(why, last.err)
	return result
}

// unconfirmed is a stop that may have left something running.
func (r *run) unconfirmed(why string, cause error) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailStop,
		Message: fmt.Sprintf("%s: the command was told to stop, but may still run: %s", place(r.job.Target), why),
		Remedy:  "look for it on the host: its processes have " + taskVariable + "=" + r.task + " in their environment",
		Cause:   cause,
	}
}

// sweep is what one run of the script found.
type sweep struct {
	survivors []tool.Survivor
	root      bool // it ran as root and could see everything
	err       error
}

// sweep runs the script, elevated if the command was, and has the server signal
// the command once the script knows its processes: a shell that dies first
// takes along the trace to what sudo has started.
func (r *run) sweep(ctx context.Context, s *session) sweep {
	var once sync.Once
	term := func() { once.Do(func() { s.signal("TERM") }) }
	defer term()
	if r.elevate != "" {
		if result := r.script(ctx, r.elevate+" -n ", term); result.err == nil {
			return result
		}
	}
	return r.script(ctx, "", term)
}

// script runs the script once in a session of its own; scanned is called when
// it has seen the processes and before it ends them.
func (r *run) script(ctx context.Context, elevate string, scanned func()) sweep {
	var seen []byte
	s, err := r.open(ctx, wantStop, command{
		line:  "exec " + elevate + "/bin/sh -s",
		stdin: []byte("task=" + r.task + "\n" + stopScript),
		limit: 64 << 10,
		onOutput: func(p []byte) {
			if seen = append(seen, p...); bytes.Contains(seen, []byte("scanned\n")) {
				scanned()
			}
		},
	})
	if err != nil {
		return sweep{err: cmp.Or(context.Cause(ctx), err)}
	}
	defer s.release()
	select {
	case <-s.over:
		s.rest(ctx)
	case <-ctx.Done():
		return sweep{err: context.Cause(ctx)}
	}
	return parseSweep(s.stdout.stream(false).Kept)
}

// errSweep: the script ended before it had done its work.
var errSweep = errors.New("the script did not finish")

// parseSweep reads what the script printed.
func parseSweep(out []byte) sweep {
	result := sweep{err: errSweep}
	for line := range strings.Lines(string(out)) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "uid":
			result.root = rest == "0"
		case "survivor":
			pid, command, _ := strings.Cut(rest, " ")
			if n, err := strconv.Atoi(pid); err == nil {
				result.survivors = append(result.survivors, tool.Survivor{PID: n, Command: printable(command)})
			}
		case "done":
			result.err = nil
		}
	}
	return result
}

// printable makes a command line fit to be shown.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if len(s) > survivorText {
		s = string(wholeHead([]byte(s[:survivorText])))
	}
	return s
}

// waitFor waits for c, at most d.
func waitFor(ctx context.Context, c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// elevator is the program by which a step's command becomes another user, if it
// does; what it starts can then only be ended by way of it.
func elevator(step tool.Step) string {
	var programs []string
	switch do := step.Do.(type) {
	case tool.Shell:
		for _, c := range do.Command.Commands {
			programs = append(programs, c.Program)
			for _, w := range c.Wrappers {
				programs = append(programs, w.Program)
			}
		}
	case tool.Exec:
		programs = append(programs, path.Base(do.Argv[0]))
	}
	if i := slices.IndexFunc(programs, func(p string) bool { return slices.Contains(elevators, p) }); i >= 0 {
		return programs[i]
	}
	return ""
}

// elevators can be asked not to prompt, with -n.
var elevators = []string{"sudo", "doas"}
