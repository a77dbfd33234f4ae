package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// at answers the steps for files on a host where /srv/link leads to real.
func at(real string) func(context.Context, tool.Job) tool.Report {
	return func(_ context.Context, job tool.Job) tool.Report {
		var answer any
		switch do := job.Steps[0].Do.(type) {
		case tool.Locate:
			answer = tool.FileFacts{Path: real, Under: tool.Under(real), Exists: true, Type: tool.RegularFile, Bytes: 3}
		case tool.Read:
			answer = tool.FileContent{Bytes: []byte("abc"), Size: 3}
		case tool.Write:
			answer = tool.Written{Path: do.Path}
		}
		return tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Answer: answer}}}
	}
}

// outside refuses what is known to lead there.
func outside(path string) func(policy.Input) tool.Decision {
	return func(in policy.Input) tool.Decision {
		if f := in.Ops[0].File; f != nil && f.Path == path {
			return tool.Decision{ID: "d2", Reasons: []tool.Reason{{Code: "file_not_granted", Title: "no", Detail: f.Path}}}
		}
		return allow(in)
	}
}

// What a host says of a path is judged before any content moves.
func TestFileIsJudgedByItsRealPath(t *testing.T) {
	w, g := newWorld(t)
	w.run, w.decide = at("/etc/shadow"), outside("/etc/shadow")
	r := invoke(g, "read", `{"target":"web1","path":"/srv/link"}`)
	want := []string{"look up web1.internal", "decide run 10.0.0.1", "started", "run 10.0.0.1", "finished", "decide run 10.0.0.1", "refused"}
	if d := cmp.Diff(want, w.trail); d != "" {
		t.Error(d)
	}
	if !r.IsError || !strings.Contains(r.Text, "/etc/shadow") || !slices.Equal(r.DecisionIDs, []string{"d1", "d2"}) {
		t.Errorf("%+v", r)
	}
	if _, located := w.jobs[0].Steps[0].Do.(tool.Locate); len(w.jobs) != 1 || !located {
		t.Errorf("jobs: %+v", w.jobs)
	}
}

func TestFileIsReadByItsRealPath(t *testing.T) {
	w, g := newWorld(t)
	w.run = at("/srv/real")
	r := invoke(g, "read", `{"target":"web1","path":"/srv/link"}`)
	if r.IsError || !strings.Contains(r.Text, "abc") {
		t.Fatalf("%+v", r)
	}
	if read, ok := w.jobs[1].Steps[0].Do.(tool.Read); !ok || read.Path != "/srv/real" {
		t.Errorf("the second job: %+v", w.jobs[1])
	}
	if in := w.inputs[1]; in.Ops[0].Path != "/srv/link" || in.Ops[0].File.Path != "/srv/real" || in.Call.Digest == w.inputs[0].Call.Digest {
		t.Errorf("the second input: %+v", in.Ops)
	}
	if w.events[0].CallID != w.events[3].CallID || w.events[0].Plan == w.events[2].Plan {
		t.Errorf("records: %+v", w.events)
	}
}

// All that follows from a plan shares the time limit of its first decision.
func TestTimeLimitIsThatOfTheWholeCall(t *testing.T) {
	w, g := newWorld(t)
	var ends []time.Time
	w.run = func(ctx context.Context, job tool.Job) tool.Report {
		end, _ := ctx.Deadline()
		ends = append(ends, end)
		return at("/srv/real")(ctx, job)
	}
	invoke(g, "edit", `{"target":"web1","path":"/srv/link","old_text":"a","new_text":"b"}`)
	if len(ends) != 3 || ends[0].IsZero() || !ends[0].Equal(ends[2]) {
		t.Errorf("the steps end at %v", ends)
	}
}

func TestFailureEndsACall(t *testing.T) {
	w, g := newWorld(t)
	w.run = func(context.Context, tool.Job) tool.Report {
		return tool.Report{Outcome: tool.Finished, Err: &tool.Failure{Code: tool.FailPermission, Message: "not allowed there"}}
	}
	if r := invoke(g, "read", `{"target":"web1","path":"/srv/link"}`); !r.IsError || len(w.jobs) != 1 {
		t.Errorf("%+v after %d jobs", r, len(w.jobs))
	}
	w.run = at("/srv/real")
	if r := invoke(g, "edit", `{"target":"web1","path":"/srv/link","old_text":"x","new_text":"b"}`); !r.IsError || !strings.Contains(r.Text, "edit_no_match") {
		t.Errorf("%+v", r)
	}
	if len(w.jobs) != 3 { // none of them writes
		t.Errorf("%d jobs", len(w.jobs))
	}
}

const copyArgs = `{"source_node":"web1","source_path":"/srv/link","dest_node":"two","dest_path":"/srv/link"}`

// A copy is two plans with two decisions; content moves when both allow it by
// the real paths.
func TestCopyIsJudgedAtBothEnds(t *testing.T) {
	w, g := newWorld(t)
	w.run = at("/srv/real")
	r := invoke(g, "sync", copyArgs)
	want := []string{
		"look up web1.internal", "decide run 10.0.0.1", "look up two.internal", "decide run 10.0.0.1",
		"started", "run 10.0.0.1", "finished", "started", "run 10.0.0.1", "finished",
		"decide run 10.0.0.1", "decide run 10.0.0.1", "started", "started", "copy web1 two", "finished", "finished",
	}
	if d := cmp.Diff(want, w.trail); d != "" {
		t.Error(d)
	}
	if r.IsError || len(r.DecisionIDs) != 4 || !strings.Contains(r.Text, "from web1:/srv/real to two:/srv/real") {
		t.Errorf("%+v", r)
	}
	if op := w.inputs[3].Ops[0]; w.inputs[3].Host.Alias != "two" || op.Action != tool.FileWrite || op.Content.Bytes != 3 || op.Flow.Alias != "web1" {
		t.Errorf("the last input: %+v", op)
	}
}

func TestCopyNeedsBothEnds(t *testing.T) {
	for _, alias := range []string{"web1", "two"} {
		w, g := newWorld(t)
		w.run = at("/srv/real")
		w.decide = func(in policy.Input) tool.Decision {
			if in.Host.Alias == alias {
				return deny("file_not_granted")(in)
			}
			return allow(in)
		}
		r := invoke(g, "sync", copyArgs)
		if !r.IsError || !strings.Contains(r.Text, "file_not_granted") || len(w.jobs) != 0 || w.events[0].Alias != alias {
			t.Errorf("%s: %+v, %d jobs, %+v", alias, r, len(w.jobs), w.events)
		}
	}
}

func TestCopyWhoseStartIsNotOnRecord(t *testing.T) {
	w, g := newWorld(t)
	w.run = at("/srv/real")
	starts := 0
	w.write = func(e audit.Event) error {
		if e.Type == audit.Started {
			starts++
		}
		if starts == 4 {
			starts++
			return errors.New("no space left")
		}
		return nil
	}
	if r := invoke(g, "sync", copyArgs); !r.IsError || !strings.Contains(r.Text, "audit_unwritable") {
		t.Errorf("%+v", r)
	}
	if slices.Contains(w.trail, "copy web1 two") {
		t.Error("content moved")
	}
	if last := w.events[len(w.events)-1]; last.Type != "finished" || last.Outcome != "not_started" || last.Alias != "web1" {
		t.Errorf("the other half is left open: %+v", last)
	}
}
