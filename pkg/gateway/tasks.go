package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// tasks are the runs that outlive their call. Each was judged when it was
// submitted. One that then has to wait for its turn is judged again when that
// comes, because the policy of that moment is the one that counts. How many run
// at once is bounded in all, by subject and by host, and so is what is kept;
// the result of a task is kept for its time and then everything of it is freed.
// A task is known to its own subject only.
type tasks struct {
	gateway *Gateway

	mu      sync.Mutex // guards all that follows, and the tasks' own states
	byID    map[string]*task
	kept    map[string]int // by subject
	bytes   map[string]int // of their results, by subject
	running occupancy
	queue   []*task // first come, first served, but for those whose host or subject is full
	closed  bool
	working sync.WaitGroup
}

// occupancy counts running tasks.
type occupancy struct {
	all       int
	bySubject map[string]int
	byHost    map[string]int
}

func (o *occupancy) add(t *task, n int) {
	o.all += n
	count(o.bySubject, t.subject(), n)
	count(o.byHost, t.alias(), n)
}

func count(m map[string]int, key string, n int) {
	if m[key] += n; m[key] == 0 {
		delete(m, key)
	}
}

func newTasks(g *Gateway) *tasks {
	return &tasks{
		gateway: g, byID: map[string]*task{}, kept: map[string]int{}, bytes: map[string]int{},
		running: occupancy{bySubject: map[string]int{}, byHost: map[string]int{}},
	}
}

// submit takes a judged call over as a task and starts it or puts it in the
// queue; or says why it does neither.
func (ts *tasks) submit(c *call, first Judged) (*task, *tool.Reason) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := newTask(c, first)
	bounds := ts.gateway.config.Load().Settings.Tasks
	fits := ts.fits(t)
	switch {
	case ts.closed:
		return nil, &tool.Reason{Code: "shutting_down", Title: "the gateway is shutting down", Remedy: "call again when it is back"}
	case ts.kept[t.subject()] >= bounds.KeptPerSubject:
		return nil, tooMany(fmt.Sprintf("%d, those that have ended and whose results are still kept among them", bounds.KeptPerSubject))
	case ts.bytes[t.subject()] >= bounds.KeptBytes:
		return nil, tooMany(fmt.Sprintf("their results hold %d bytes of output", ts.bytes[t.subject()]))
	case !fits && len(ts.queue) >= bounds.Queued:
		return nil, &tool.Reason{
			Code: "task_queue_full", Title: "the queue of tasks is full",
			Detail: fmt.Sprintf("%d wait", len(ts.queue)), Remedy: "try again when others have finished",
		}
	}
	ts.byID[t.id()] = t
	ts.kept[t.subject()]++
	if fits {
		ts.begin(t)
	} else {
		t.waited = true
		ts.queue = append(ts.queue, t)
	}
	return t, nil
}

func tooMany(detail string) *tool.Reason {
	return &tool.Reason{
		Code: "too_many_tasks", Title: "the caller has too many tasks", Detail: detail,
		Remedy: "wait until some results are no longer kept, or ask for a shorter task_result_ttl",
	}
}

// fits reports whether a task may run now. Its caller holds mu.
func (ts *tasks) fits(t *task) bool {
	bounds := ts.gateway.config.Load().Settings.Tasks
	most := t.run.Decision.Limits.Concurrent
	return ts.running.all < bounds.Running &&
		ts.running.bySubject[t.subject()] < bounds.PerSubject &&
		ts.running.byHost[t.alias()] < bounds.PerHost &&
		(most == 0 || ts.gateway.usage.running(t.subject(), t.alias()) < most)
}

// begin starts a task. Its caller holds mu.
func (ts *tasks) begin(t *task) {
	t.state, t.begun = tool.TaskRunning, ts.gateway.now()
	ts.running.add(t, 1)
	usage, release := ts.gateway.usage.resume(t.subject(), t.alias(), ts.gateway.now())
	ts.working.Go(func() {
		run := t.execute(usage)
		release()
		ts.end(t, run)
	})
}

// end takes in what came of a task, and starts those that waited for it.
func (ts *tasks) end(t *task, run tool.Run) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.running.add(t, -1)
	ts.conclude(t, run)
	ts.advance()
}

// conclude makes a task final. Its caller holds mu.
func (ts *tasks) conclude(t *task, run tool.Run) {
	t.run, t.state, t.ended = run, tool.StateOf(run), ts.gateway.now()
	count(ts.bytes, t.subject(), t.size())
	t.expiry = time.AfterFunc(t.ttl, func() { ts.forget(t) })
	if ts.closed {
		t.expiry.Stop()
	}
	t.stop(nil)
	t.strip()
	close(t.done)
}

// advance starts what may run now. Its caller holds mu.
func (ts *tasks) advance() {
	ts.queue = slices.DeleteFunc(ts.queue, func(t *task) bool {
		if ts.closed || !ts.fits(t) {
			return false
		}
		ts.begin(t)
		return true
	})
}

// room looks whether the end of a call has made room for a task that waits.
func (ts *tasks) room() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.queue) > 0 {
		ts.advance()
	}
}

// forget frees what is left of a task.
func (ts *tasks) forget(t *task) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.byID, t.id())
	count(ts.kept, t.subject(), -1)
	count(ts.bytes, t.subject(), -t.size())
}

// find is a subject's task; nil when it has none with this id.
func (ts *tasks) find(subject, id string) *task {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.byID[id]; t != nil && t.subject() == subject {
		return t
	}
	return nil
}

// cancel asks a task of a subject to end, and tells it why. It reports whether
// there was one that had not ended yet.
func (ts *tasks) cancel(ctx context.Context, subject, id string, why tool.Stop) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byID[id]
	if t == nil || t.subject() != subject || t.state.Final() {
		return false
	}
	if t.state == tool.TaskRunning {
		t.stop(why)
		return true
	}
	ts.withdraw(ctx, t, why)
	return true
}

// withdraw ends a task that has not begun. Its caller holds mu.
func (ts *tasks) withdraw(ctx context.Context, t *task, why tool.Stop) {
	ts.queue = slices.DeleteFunc(ts.queue, func(other *task) bool { return other == t })
	run := t.run
	run.Report = &tool.Report{Outcome: tool.NotStarted, Stop: why, Stopped: true}
	t.call.recordFinished(ctx, run)
	t.conclude(run)
	ts.conclude(t, run)
}

// facts is what a task says of itself.
func (ts *tasks) facts(t *task) tool.TaskFacts {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	f := tool.TaskFacts{
		ID: t.id(), State: t.state, Command: t.command(), Run: t.run, TTL: t.ttl, Interval: t.interval,
		Limit: time.Duration(t.run.Decision.Limits.Seconds) * time.Second,
		Bytes: t.bytes.Load(), Lines: t.output.count(), Ahead: max(0, slices.Index(ts.queue, t)),
	}
	if !t.begun.IsZero() {
		f.Elapsed = cmp.Or(t.ended, ts.gateway.now()).Sub(t.begun)
	}
	return f
}

// close stops every task, as a shutdown, and waits until none runs any more.
func (ts *tasks) close(ctx context.Context) error {
	ts.mu.Lock()
	ts.closed = true
	for _, t := range slices.Clone(ts.queue) {
		ts.withdraw(ctx, t, tool.StopShutdown)
	}
	for _, t := range ts.byID {
		if t.state.Final() {
			t.expiry.Stop()
		} else {
			t.stop(tool.StopShutdown)
		}
	}
	ts.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		ts.working.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tasks did not end in time: %w", ctx.Err())
	}
}
