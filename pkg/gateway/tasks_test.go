package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// answerOf decodes what a call gave into a plain map.
func answerOf(t *testing.T, r Result) map[string]any {
	t.Helper()
	b, err := json.Marshal(r.Structured)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func submit(t *testing.T, g *Gateway, args string) string {
	t.Helper()
	r := invoke(g, "ssh_run_async", args)
	if r.IsError {
		t.Fatalf("not submitted: %s", r.Text)
	}
	return answerOf(t, r)["task_id"].(string)
}

func ask(t *testing.T, g *Gateway, name, id string, more string) map[string]any {
	t.Helper()
	return answerOf(t, invoke(g, name, fmt.Sprintf(`{"task_id":%q%s}`, id, more)))
}

const (
	onWeb1 = `{"alias":"web1","command":"uptime"}`
	wait   = `,"wait_seconds":20`
)

func TestTask(t *testing.T) {
	for name, tc := range map[string]struct {
		report tool.Report
		state  string
		exit   float64
	}{
		"completed": {finished(context.Background(), tool.Job{}), "completed", 0},
		"exit 3":    {exited(3), "failed", 3},
		"timed out": {tool.Report{Outcome: tool.Finished, Stop: tool.StopTimeout, Stopped: true}, "timed_out", -1},
		"flooded":   {tool.Report{Outcome: tool.Finished, Stop: tool.StopOutput, Stopped: true}, "failed", -1},
		"failed":    {tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailAuth, Message: "no"}}, "failed", -1},
	} {
		t.Run(name, func(t *testing.T) {
			w, g := newWorld(t)
			defer g.Close(t.Context())
			w.run = func(context.Context, tool.Job) tool.Report { return tc.report }
			id := submit(t, g, onWeb1)
			status := ask(t, g, "ssh_get_task_status", id, wait)
			result := ask(t, g, "ssh_get_task_result", id, "")
			if status["status"] != tc.state || result["status"] != tc.state || status["progress_percent"] != 100.0 || result["exit_code"] != tc.exit {
				t.Errorf("status %v, result %v", status, result)
			}
			var records []string
			for _, e := range w.events {
				if e.CallID == id {
					records = append(records, string(e.Type)+" "+e.Tool+" "+e.DecisionID)
				}
			}
			if d := cmp.Diff([]string{"started ssh_run_async d1", "finished ssh_run_async d1"}, records); d != "" {
				t.Errorf("not recorded like ssh_run: %s", d)
			}
			if in := w.inputs[0]; in.Call.Tool != "ssh_run" || in.Call.Digest != w.jobs[0].Digest {
				t.Errorf("judged as %+v", in.Call)
			}
		})
	}
}

func exited(status int) tool.Report {
	return tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Exit: &status}}}
}

func TestTaskDenied(t *testing.T) {
	w, g := newWorld(t)
	w.decide = deny("command_not_granted")
	r := invoke(g, "ssh_run_async", onWeb1)
	if m := answerOf(t, r); !r.IsError || m["status"] != "denied" || m["task_id"] != nil || len(g.tasks.byID) != 0 {
		t.Errorf("got %v", m)
	}
	if d := cmp.Diff([]string{"look up web1.internal", "decide run 10.0.0.1", "refused"}, w.trail); d != "" {
		t.Error(d)
	}
}

// held is a world in which a run lasts until it is released or stopped.
func held(w *world) (running *atomic.Int64, release chan struct{}) {
	running, release = &atomic.Int64{}, make(chan struct{})
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		running.Add(1)
		defer running.Add(-1)
		select {
		case <-release:
			return finished(ctx, job)
		case <-ctx.Done():
			return tool.Report{Outcome: tool.Finished, Stop: context.Cause(ctx).(tool.Stop), Stopped: true}
		}
	}
	return running, release
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

func TestTasksAreNobodyElses(t *testing.T) {
	w, g := newWorld(t)
	running, release := held(w)
	id := submit(t, g, onWeb1)
	other := agent
	other.Subject = "agent-8"
	for _, name := range []string{"ssh_get_task_status", "ssh_get_task_result", "ssh_get_task_output"} {
		r := g.Call(t.Context(), other, name, json.RawMessage(fmt.Sprintf(`{"task_id":%q}`, id)), nil)
		if !r.IsError || !strings.Contains(r.Text, "unknown_task") {
			t.Errorf("%s tells another subject: %s", name, r.Text)
		}
	}
	for _, name := range []string{"ssh_cancel", "ssh_cancel_async_task"} {
		r := g.Call(t.Context(), other, name, json.RawMessage(fmt.Sprintf(`{"task_id":%q}`, id)), nil)
		if m := answerOf(t, r); r.IsError || m["cancelled"] != false || !strings.Contains(m["message"].(string), "not found") {
			t.Errorf("%s obeys another subject: %v", name, m)
		}
	}
	if s := ask(t, g, "ssh_get_task_status", id, ""); s["status"] != "running" || s["progress_percent"].(float64) > 99 {
		t.Errorf("after that: %v", s)
	}
	if r := ask(t, g, "ssh_get_task_result", id, ""); r["status"] != "invalid" || !strings.Contains(fmt.Sprint(r["error"]), "task_not_ended") {
		t.Errorf("result of a running task: %v", r)
	}
	close(release)
	if err := g.Close(t.Context()); err != nil || running.Load() != 0 {
		t.Errorf("close: %v, %d running", err, running.Load())
	}
}

func TestCancelTask(t *testing.T) {
	w, g := newWorld(t)
	running, _ := held(w)
	g.config.Load().Settings.Tasks.PerHost = 1
	first, second := submit(t, g, onWeb1), submit(t, g, onWeb1)
	eventually(t, "one runs", func() bool { return running.Load() == 1 })
	if s := ask(t, g, "ssh_get_task_status", second, ""); s["status"] != "pending" || s["queued_ahead"] != 0.0 {
		t.Errorf("the second one: %v", s)
	}
	for _, id := range []string{second, first} {
		if m := ask(t, g, "ssh_cancel_async_task", id, ""); m["cancelled"] != true {
			t.Errorf("cancel: %v", m)
		}
		if s := ask(t, g, "ssh_get_task_result", id, wait); s["status"] != "cancelled" || s["cancelled"] != true {
			t.Errorf("after that: %v", s)
		}
		if m := ask(t, g, "ssh_cancel_async_task", id, ""); m["cancelled"] != false {
			t.Errorf("cancelled twice: %v", m)
		}
	}
	if len(w.jobs) != 1 {
		t.Errorf("%d jobs ran", len(w.jobs))
	}
	ends := 0
	for _, e := range w.events {
		if e.Type == audit.Finished && e.Tool == "ssh_run_async" && e.Cancelled && e.Stop == "cancelled" {
			ends++
		}
	}
	if ends != 2 {
		t.Errorf("%d ends on record", ends)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A call that is stopped before it was answered leaves no task behind, whoever
// stops it and however late: nobody may know that there is one.
func TestCancelSubmission(t *testing.T) {
	for name, stop := range map[string]func(g *Gateway, id string, leave context.CancelCauseFunc){
		"cancelled": func(g *Gateway, id string, _ context.CancelCauseFunc) {
			invoke(g, "ssh_cancel", fmt.Sprintf(`{"task_id":%q}`, id))
		},
		"disconnect": func(_ *Gateway, _ string, leave context.CancelCauseFunc) { leave(tool.StopDisconnect) },
	} {
		t.Run(name, func(t *testing.T) {
			w, g := newWorld(t)
			held(w)
			ctx, leave := context.WithCancelCause(t.Context())
			defer leave(nil)
			w.decide = func(in policy.Input) tool.Decision {
				if in.Call.Tool == "ssh_run" {
					stop(g, in.Call.ID, leave)
				}
				return allow(in)
			}
			id := answerOf(t, g.Call(ctx, agent, "ssh_run_async", json.RawMessage(onWeb1), nil))["task_id"].(string)
			if s := ask(t, g, "ssh_get_task_result", id, wait); s["status"] != "cancelled" {
				t.Errorf("the task: %v", s)
			}
			if e := w.lastOf(audit.Finished, "ssh_run_async"); e.Stop != name {
				t.Errorf("on record: %+v", e)
			}
		})
	}
}

// lastOf is the last record of a type about a tool.
func (w *world) lastOf(kind audit.Type, name string) (last audit.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Type == kind && e.Tool == name {
			last = e
		}
	}
	return last
}

// The bounds hold, those that wait keep their order, and each is judged again
// when its turn comes.
func TestTaskQueue(t *testing.T) {
	w, g := newWorld(t)
	running, release := held(w)
	bounds := &g.config.Load().Settings.Tasks
	bounds.PerHost, bounds.Queued = 2, 2
	var ids []string
	for range 4 {
		ids = append(ids, submit(t, g, onWeb1))
	}
	if s := ask(t, g, "ssh_get_task_status", ids[3], ""); s["queued_ahead"] != 1.0 {
		t.Errorf("the last one: %v", s)
	}
	if r := invoke(g, "ssh_run_async", onWeb1); !r.IsError || !strings.Contains(r.Text, "task_queue_full") {
		t.Errorf("one too many: %s", r.Text)
	}
	elsewhere := submit(t, g, `{"alias":"two","command":"uptime"}`)
	eventually(t, "two run here, one elsewhere", func() bool { return running.Load() == 3 })
	var decisions atomic.Int64
	w.mu.Lock()
	w.decide = func(in policy.Input) tool.Decision {
		if in.Call.Tool == "ssh_run" {
			decisions.Add(1)
			return deny("revoked")(in)
		}
		return allow(in)
	}
	w.mu.Unlock()
	close(release)
	for _, id := range append(ids[:2:2], elsewhere) {
		if s := ask(t, g, "ssh_get_task_result", id, wait); s["status"] != "completed" {
			t.Errorf("one that ran: %v", s)
		}
	}
	for _, id := range ids[2:] {
		if s := ask(t, g, "ssh_get_task_result", id, wait); s["status"] != "failed" || !strings.Contains(fmt.Sprint(s["reasons"]), "revoked") {
			t.Errorf("one that waited: %v", s)
		}
	}
	if decisions.Load() != 2 || len(w.jobs) != 3 {
		t.Errorf("%d decisions, %d jobs", decisions.Load(), len(w.jobs))
	}
	w.decide = allow
	bounds.KeptPerSubject = 5
	if r := invoke(g, "ssh_run_async", onWeb1); !r.IsError || !strings.Contains(r.Text, "too_many_tasks") {
		t.Errorf("beyond what is kept: %s", r.Text)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A task that waits behind calls of its subject starts when they have ended.
func TestTaskWaitsForCalls(t *testing.T) {
	w, g := newWorld(t)
	w.decide = func(in policy.Input) tool.Decision {
		d := allow(in)
		d.Limits.Concurrent = 1
		return d
	}
	running, release := held(w)
	called := make(chan Result)
	go func() { called <- invoke(g, "ssh_run", onWeb1) }()
	eventually(t, "the call runs", func() bool { return running.Load() == 1 })
	id := submit(t, g, onWeb1)
	if s := ask(t, g, "ssh_get_task_status", id, ""); s["status"] != "pending" {
		t.Errorf("beside the call: %v", s)
	}
	close(release)
	<-called
	if s := ask(t, g, "ssh_get_task_result", id, wait); s["status"] != "completed" {
		t.Errorf("after the call: %v", s)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Sixty-four tasks at once, each polled by cursor: every line once, in order,
// and afterwards nothing is left.
func TestTaskOutputByCursor(t *testing.T) {
	w, g := newWorld(t)
	w.decide = func(in policy.Input) tool.Decision {
		d := allow(in)
		d.Limits.OutputBytes = 1 << 20
		return d
	}
	const tasks, most = 64, 3000
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		for i := range most {
			text := fmt.Sprintf("line %d\n", i)
			cut := i % len(text)
			job.Output([]byte(text[:cut]), i%2 == 0)
			job.Output([]byte(text[cut:]), i%2 == 0)
		}
		job.Output([]byte("without end"), false)
		return finished(ctx, job)
	}
	conf := g.config.Load()
	conf.Settings.Tasks.PerHost = tasks
	before := runtime.NumGoroutine()
	var readers sync.WaitGroup
	for range tasks {
		id := submit(t, g, onWeb1)
		readers.Go(func() {
			var lines []string
			for cursor := 0.0; ; {
				m := ask(t, g, "ssh_get_task_output", id, fmt.Sprintf(`,"cursor":%d,"max_lines":200%s`, int(cursor), wait))
				for _, l := range m["output_lines"].([]any) {
					lines = append(lines, l.(string))
				}
				if m["lost_lines"] != 0.0 {
					t.Errorf("lost %v", m["lost_lines"])
				}
				if cursor = m["next_cursor"].(float64); m["has_more"] == false {
					break
				}
			}
			if len(lines) != most+1 || lines[most] != "without end" {
				t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
			}
			for i := range most {
				if lines[i] != fmt.Sprintf("line %d", i) {
					t.Errorf("line %d is %q", i, lines[i])
					break
				}
			}
		})
	}
	readers.Wait()
	for _, task := range tasksOf(g) {
		task.expiry.Reset(0)
	}
	eventually(t, "the tasks are forgotten", func() bool {
		return len(tasksOf(g)) == 0 && len(g.tasks.kept) == 0 && runtime.NumGoroutine() <= before
	})
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What tasks have said is freed when their time is over, and no more than that
// is kept until then: not their arguments, which may be as long as a message.
func TestExpiredTasksAreFreed(t *testing.T) {
	w, g := newWorld(t)
	const tasks, each = 64, 1 << 20
	w.decide = func(in policy.Input) tool.Decision {
		d := allow(in)
		d.Limits.OutputBytes = each
		return d
	}
	w.run = func(_ context.Context, job tool.Job) tool.Report {
		job.Output(bytes.Repeat(append(bytes.Repeat([]byte("x"), 199), '\n'), each/200), false)
		return tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Stdout: tool.Stream{Kept: make([]byte, each)}}}}
	}
	bounds := &g.config.Load().Settings.Tasks
	bounds.PerHost = tasks
	long := fmt.Sprintf(`{"alias":"web1","command":"uptime"%s}`, strings.Repeat(" ", each))
	before := heapInUse()
	for range tasks {
		ask(t, g, "ssh_get_task_status", submit(t, g, long), wait)
	}
	kept := heapInUse() - before
	bounds.KeptBytes = tasks * each
	if r := invoke(g, "ssh_run_async", onWeb1); !r.IsError || !strings.Contains(r.Text, "bytes of output") {
		t.Errorf("one more: %s", r.Text)
	}
	if kept < tasks*2*each || kept > tasks*5/2*each {
		t.Errorf("%d MiB are kept of %d tasks with 2 MiB each", kept>>20, tasks)
	}
	for _, task := range tasksOf(g) {
		task.expiry.Reset(0)
	}
	eventually(t, "the tasks are forgotten", func() bool { return len(tasksOf(g)) == 0 })
	w.jobs, w.inputs = nil, nil
	if left := heapInUse() - before; left > 2*each {
		t.Errorf("%d KiB are left of tasks that are forgotten", left>>10)
	}
	submit(t, g, onWeb1)
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// heapInUse is what is reachable.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what a pool held at the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func tasksOf(g *Gateway) []*task {
	g.tasks.mu.Lock()
	defer g.tasks.mu.Unlock()
	var all []*task
	for _, t := range g.tasks.byID {
		all = append(all, t)
	}
	return all
}

func TestTaskPanics(t *testing.T) {
	w, g := newWorld(t)
	w.run = func(context.Context, tool.Job) tool.Report { panic("broken") }
	id := submit(t, g, onWeb1)
	if s := ask(t, g, "ssh_get_task_result", id, wait); s["status"] != "failed" || s["outcome"] != "unknown" {
		t.Errorf("got %v", s)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if usage, _ := g.usage.begin(agent.Subject, "web1", time.Now()); usage.Running.Subject != 0 {
		t.Errorf("%d still count as running", usage.Running.Subject)
	}
}

func TestShutdownEndsTasks(t *testing.T) {
	w, g := newWorld(t)
	running, _ := held(w)
	g.config.Load().Settings.Tasks.PerHost = 1
	submit(t, g, onWeb1)
	submit(t, g, onWeb1)
	eventually(t, "one runs", func() bool { return running.Load() == 1 })
	if err := g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ends := 0
	for _, e := range w.events {
		if e.Type == audit.Finished && e.Stop == "shutdown" {
			ends++
		}
	}
	if ends != 2 || running.Load() != 0 {
		t.Errorf("%d ends on record, %d running", ends, running.Load())
	}
	if r := invoke(g, "ssh_run_async", onWeb1); !r.IsError || !strings.Contains(r.Text, "shutting_down") {
		t.Errorf("after that: %s", r.Text)
	}
}

// The id by which a call can be cancelled is in the first thing that is said of
// it.
func TestCancelCall(t *testing.T) {
	w, g := newWorld(t)
	running, _ := held(w)
	first := make(chan tool.Progress, 64)
	done := make(chan Result)
	go func() {
		done <- g.Call(context.Background(), agent, "ssh_run", json.RawMessage(onWeb1), func(p tool.Progress) { first <- p })
	}()
	id := (<-first).Task
	eventually(t, "it runs", func() bool { return running.Load() == 1 })
	if m := ask(t, g, "ssh_cancel", id, ""); m["cancelled"] != true || m["message"] != "Cancellation signaled" {
		t.Errorf("cancel: %v", m)
	}
	if m := answerOf(t, <-done); m["status"] != "stopped" || m["cancelled"] != true || m["task_id"] != id {
		t.Errorf("the call: %v", m)
	}
	if m := ask(t, g, "ssh_cancel", id, ""); m["cancelled"] != false || m["message"] != "Task not found" {
		t.Errorf("again: %v", m)
	}
}

func TestLines(t *testing.T) {
	for name, tc := range map[string]struct {
		most   int64
		redact []string
		pieces []string // those that begin with ! are of stderr
		report string
		live   []string
		all    []string
		lost   int64
	}{
		"both streams":  {1000, nil, []string{"a", "!x\n", "b\nc"}, "", []string{"x", "ab"}, []string{"x", "ab", "c"}, 0},
		"too many":      {5, nil, []string{"one\ntwo\nthree\nfour\n"}, "", []string{"four"}, []string{"four"}, 3},
		"as many":       {10, nil, []string{"\n\n\n\n\n", "!\n\n\n\n", "\n\n\n\n\n", "!\n\n\n\n\n\n"}, "", make([]string, 20), make([]string, 20), 0},
		"too long":      {10, nil, []string{"0123456", "789abc", "def\nx\n"}, "", []string{"x"}, []string{"x"}, 1},
		"redacted":      {1000, []string{`secret=\w+`}, []string{"a sec", "ret=b\n"}, "", []string{"a [redacted]"}, []string{"a [redacted]"}, 0},
		"over lines":    {1000, []string{`(?s)KEY.*END`}, []string{"KEY\n1\nEND\n"}, "[redacted]\n", nil, []string{"[redacted]"}, 0},
		"not UTF-8":     {1000, nil, []string{"a\xffb\n"}, "", []string{"a\uFFFDb"}, []string{"a\uFFFDb"}, 0},
		"bad pattern":   {1000, []string{`(`}, []string{"x\n"}, "[redacted]", nil, []string{"[redacted]"}, 0},
		"any but quote": {1000, []string{`"[^"]*"`}, []string{"x\n"}, "x\n", nil, []string{"x"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLines()
			l.permit(tc.most, tc.redact)
			for _, p := range tc.pieces {
				l.write([]byte(strings.TrimPrefix(p, "!")), strings.HasPrefix(p, "!"))
			}
			zero := int64(0)
			live := l.read(&zero, 100)
			l.end(tc.report)
			all := l.read(&zero, 100)
			if !slices.Equal(live.lines, tc.live) || !slices.Equal(all.lines, tc.all) || all.lost != tc.lost {
				t.Errorf("live %q, in the end %q, lost %d", live.lines, all.lines, all.lost)
			}
		})
	}
}

// After the end there are no more lines: a reader was told that it has them all.
func TestLinesAfterTheEnd(t *testing.T) {
	l := newLines()
	l.write([]byte("one\n"), false)
	l.end("")
	l.write([]byte("left behind\n"), false)
	if e := l.read(new(int64), 10); !slices.Equal(e.lines, []string{"one"}) || e.total != 1 {
		t.Errorf("%q of %d", e.lines, e.total)
	}
}

// Empty lines are no way to more memory than is permitted.
func TestEmptyLinesAreBounded(t *testing.T) {
	const most = 1 << 20
	before := heapInUse()
	l := newLines()
	l.permit(most, nil)
	for range 4 {
		l.write(bytes.Repeat([]byte("\n"), most), false)
	}
	if used := heapInUse() - before; used > 4*most {
		t.Errorf("%d KiB for lines of which %d KiB may be kept", used>>10, most>>10)
	}
	if e := l.read(new(int64), 10); e.total != 4*most || e.lost != 4*most-2*most {
		t.Errorf("%d lines, %d lost", e.total, e.lost)
	}
}

// Lines are found by their numbers in whatever block they are.
func TestKeptLines(t *testing.T) {
	var k keptLines
	var all []string
	for i := range 32_000 {
		line := strings.Repeat("x", i%7)
		if i%5000 == 0 {
			line = strings.Repeat("y", 2*blockSize)
		}
		k.add(line)
		all = append(all, line)
	}
	for dropped := range 3 {
		for _, at := range [][2]int64{{0, 0}, {0, 1}, {0, 50}, {4999, 5001}, {12_345, 13_345}, {k.count - 3, k.count}, {0, k.count}} {
			if got := k.slice(at[0], at[1]); !slices.Equal(got, all[at[0]:at[1]]) {
				t.Errorf("after %d dropped: lines %v are %d, want %d", 6000*dropped, at, len(got), at[1]-at[0])
			}
		}
		for range 6000 {
			k.dropFirst()
		}
		all = all[6000:]
	}
	for k.count > 0 {
		k.dropFirst()
	}
	if k.size != 0 || len(k.blocks) != 0 {
		t.Errorf("%d bytes and %d blocks of no lines", k.size, len(k.blocks))
	}
}

// stopsHere takes a call back while the first of two hosts has its turn. The
// other one is not said to have been left out for a failure.
func stopsHere(t *testing.T, w *world, g *Gateway) {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	w.run = func(context.Context, tool.Job) tool.Report {
		stop(tool.StopCancelled)
		return tool.Report{Outcome: tool.Finished, Stop: tool.StopCancelled, Stopped: true}
	}
	r := g.Call(ctx, agent, "ssh_run_on_tag", json.RawMessage(`{"tag":"web","command":"uptime","max_parallel":1}`), nil)
	m := answerOf(t, r)
	left := m["results"].([]any)[1].(map[string]any)
	if left["skipped"] != true || left["cancelled"] != true || left["denied"] != false || left["status"] != "stopped" ||
		left["task_id"] != m["task_id"] || left["hash"] == nil || left["error"].(map[string]any)["code"] != "cancelled" {
		t.Errorf("a host whose turn had not come: %v", left)
	}
}

func TestRunOnTag(t *testing.T) {
	w, g := newWorld(t)
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		if job.Target.Alias == "web1" {
			return tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailAuth, Message: "no"}}
		}
		return finished(ctx, job)
	}
	r := invoke(g, "ssh_run_on_tag", `{"tag":"web","command":"uptime"}`)
	m := answerOf(t, r)
	if d := cmp.Diff(map[string]any{"hosts": 2.0, "succeeded": 1.0, "nonzero": 0.0, "failed": 1.0, "denied": 0.0, "skipped": 0.0}, m["summary"]); d != "" {
		t.Error(d)
	}
	entries := m["results"].([]any)
	bad, good := entries[0].(map[string]any), entries[1].(map[string]any)
	if bad["alias"] != "web1" || bad["exit_code"] != -1.0 || good["exit_code"] != 0.0 || !r.IsError || len(r.DecisionIDs) != 2 {
		t.Errorf("web1 %v, two %v", bad, good)
	}
	r = invoke(g, "ssh_run_on_tag", `{"tag":"web","command":"uptime","max_parallel":1,"fail_fast":true}`)
	if s := answerOf(t, r)["summary"].(map[string]any); s["failed"] != 1.0 || s["skipped"] != 1.0 {
		t.Errorf("fail fast: %v", s)
	}
	stopsHere(t, w, g)
	w.decide = deny("network_blocked")
	r = invoke(g, "ssh_run_on_tag", `{"tag":"web","command":"uptime"}`)
	if e := answerOf(t, r)["results"].([]any)[0].(map[string]any); e["denied"] != true || e["reason"] != "network" || e["detail"] != "no" {
		t.Errorf("denied: %v", e)
	}
	r = invoke(g, "ssh_run_on_tag", `{"tag":"moon","command":"uptime"}`)
	if m := answerOf(t, r); r.IsError || m["note"] != "No hosts matched." || len(m["results"].([]any)) != 0 {
		t.Errorf("no hosts: %v", m)
	}
	if e := w.events[len(w.events)-1]; e.Type != audit.Invalid || e.Failure != "no_hosts" {
		t.Errorf("no hosts is not on record: %+v", e)
	}
}
