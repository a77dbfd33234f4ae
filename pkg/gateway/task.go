package gateway

import (
	"context"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// task is one run that outlives its call.
type task struct {
	call     *call // as it was submitted
	ctx      context.Context
	stop     context.CancelCauseFunc
	ttl      time.Duration
	interval time.Duration // between two signs of life
	bytes    atomic.Int64
	output   *lines
	done     chan struct{} // closed when it has ended

	// Guarded by tasks.mu.
	state  tool.TaskState
	waited bool // it was in the queue, so what was decided is no longer sure
	first  Judged
	run    tool.Run // the latest that is known
	begun  time.Time
	ended  time.Time
	expiry *time.Timer
}

func newTask(c *call, first Judged) *task {
	own := *c
	own.plan.Detach = false
	own.args = nil // the plan has what they say, and they can be as long as a message
	t := &task{call: &own, state: tool.TaskPending, first: first, run: first.Run, output: newLines(), done: make(chan struct{})}
	own.task = t
	t.ctx, t.stop = context.WithCancelCause(context.Background())
	t.ttl, t.interval = c.gateway.config.Load().TaskTimes(first.Run.Target.Alias)
	return t
}

// size is how much of output is kept of a task that has ended.
func (t *task) size() int {
	size := t.output.held()
	if r := t.run.Report; r != nil {
		for _, o := range r.Outputs {
			size += len(o.Stdout.Kept) + len(o.Stderr.Kept)
		}
	}
	return size
}

// strip drops what nobody asks for after the end, while the result is kept: the
// document that was judged, and the way to a client that may have gone, which
// holds its message.
func (t *task) strip() {
	t.first.Input = policy.Input{}
	t.call.progress = nil
}

func (t *task) id() string      { return t.call.id }
func (t *task) subject() string { return t.call.caller.Subject }
func (t *task) alias() string   { return t.first.Run.Target.Alias }

func (t *task) command() string {
	if doc := t.call.plan.Steps[0].Op.Command; doc != nil {
		return doc.Text
	}
	return ""
}

// execute walks on from the decision, or from the start when that has become
// old, and gives its owner a sign of life at each interval.
func (t *task) execute(usage policy.Usage) tool.Run {
	ended := make(chan tool.Run, 1)
	go func() { ended <- t.walk(usage) }()
	beat := time.NewTicker(t.interval)
	defer beat.Stop()
	for {
		select {
		case run := <-ended:
			t.conclude(run)
			return run
		case <-beat.C:
			t.call.tell(tool.Progress{Alias: t.alias(), Phase: string(tool.TaskRunning), Bytes: t.bytes.Load()})
		}
	}
}

// walk does not pass a panic on: nobody is there to catch it.
func (t *task) walk(usage policy.Usage) (run tool.Run) {
	defer func() {
		if p := recover(); p != nil {
			t.call.gateway.log.Error("panic in a task", "task", t.id(), "panic", p, "stack", string(debug.Stack()))
			run = t.first.Run
			run.Report = brokenReport()
		}
	}()
	if t.waited {
		return t.again(usage)
	}
	return t.call.follow(t.ctx, t.first, usage, nil).Run
}

// again walks from the start: what the host is, where, and what is permitted
// there may have changed.
func (t *task) again(usage policy.Usage) tool.Run {
	target, problem := targetOf(t.call.gateway.config.Load(), t.alias())
	if problem == nil {
		return t.call.judgeAndRun(t.ctx, target, usage).Run
	}
	run := t.first.Run
	run.Report = &tool.Report{Outcome: tool.NotStarted, Err: failureOf(problem)}
	t.call.recordFinished(t.ctx, run)
	return run
}

// conclude completes the output and tells the owner how it ended.
func (t *task) conclude(run tool.Run) {
	t.output.end(shown(run.Report))
	t.call.tell(tool.Progress{Alias: t.alias(), Phase: string(tool.StateOf(run)), Bytes: t.bytes.Load()})
}

// shown is the output of a report, stdout before stderr, as it was redacted.
func shown(r *tool.Report) string {
	var b strings.Builder
	if r == nil {
		return ""
	}
	for _, o := range r.Outputs {
		b.Write(o.Stdout.Kept)
		b.Write(o.Stderr.Kept)
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// watch makes a job's output readable while it runs.
func (t *task) watch(job *tool.Job, d tool.Decision) {
	t.output.permit(d.Limits.OutputBytes, d.Redact)
	job.Output = func(piece []byte, stderr bool) {
		t.bytes.Add(int64(len(piece)))
		t.output.write(piece, stderr)
	}
}
