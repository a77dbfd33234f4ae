package tool

import "time"

// TaskState is where a task stands. The first two are on the way, the others
// are final.
type TaskState string

const (
	TaskPending   TaskState = "pending"   // waits for its turn
	TaskRunning   TaskState = "running"   // has been started
	TaskCompleted TaskState = "completed" // ended with exit status 0
	TaskFailed    TaskState = "failed"    // ended otherwise, or could not run
	TaskCancelled TaskState = "cancelled"
	TaskTimedOut  TaskState = "timed_out"
)

// Final reports whether nothing more will happen.
func (s TaskState) Final() bool { return s != TaskPending && s != TaskRunning }

// StateOf is the final state of a task by how its run ended.
func StateOf(r Run) TaskState {
	switch {
	case !r.Decision.Allow || r.Report == nil:
		return TaskFailed
	case r.Report.Stop == StopTimeout:
		return TaskTimedOut
	case r.Report.Stop == StopOutput:
		return TaskFailed
	case r.Report.Stop != "":
		return TaskCancelled
	case r.Report.Err == nil && exitOf(*r.Report) == 0:
		return TaskCompleted
	}
	return TaskFailed
}

// exitOf is the exit status of the last step; -1 when there is none.
func exitOf(r Report) int {
	if n := len(r.Outputs); n > 0 && r.Outputs[n-1].Exit != nil {
		return *r.Outputs[n-1].Exit
	}
	return -1
}

// TaskFacts is what a task says of itself to its owner.
type TaskFacts struct {
	ID       string
	State    TaskState
	Command  string // as submitted
	Ahead    int    // tasks before it in the queue
	Elapsed  time.Duration
	Limit    time.Duration // 0 for none
	Bytes    int64         // of output so far
	Lines    int64         // complete lines so far
	Interval time.Duration // between two looks that make sense
	TTL      time.Duration // for which the result is kept after the end
	Run      Run           // as far as it is known: the report at the end
}

// TaskLines is some of a task's output.
type TaskLines struct {
	ID    string
	State TaskState
	Lines []string
	Total int64 // lines so far
	Next  int64 // cursor behind Lines
	Lost  int64 // lines between the cursor that was asked for and the first that is still there
	More  bool  // there are lines behind these
	// Withheld says that there are no lines before the end, because what must be
	// redacted can only be found in the whole.
	Withheld bool
}

// Cancellation is what came of asking for a run to be cancelled.
type Cancellation struct {
	ID    string
	Found bool
}
