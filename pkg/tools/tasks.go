package tools

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/pkg/tool"
)

// taskStatus is [tool.Status] for the tools that tell of a task: status is the
// task's own state, unless there is nothing to tell.
type taskStatus struct {
	Status string `json:"status" arg:"required" enum:"pending,running,completed,failed,cancelled,timed_out,denied,stopped,invalid" doc:"where the task stands, or why that is not told"`
	tool.Grounds
}

// stateOf is the status of a call that tells of a task. A task that there is not
// makes the call invalid.
func stateOf(r tool.Run, state tool.TaskState, told bool) taskStatus {
	s := taskStatus(tool.StatusOf(r))
	switch {
	case s.Status == tool.StatusOK && told:
		s.Status = string(state)
	case s.Status == tool.StatusFailed:
		s.Status = tool.StatusInvalid
	}
	return s
}

// Failed implements [tool.Result]: that a task has failed is not a failure to
// tell of it.
func (s taskStatus) Failed() bool {
	switch s.Status {
	case tool.StatusDenied, tool.StatusStopped, tool.StatusInvalid:
		return true
	}
	return false
}

// Text implements [tool.Result].
func (s taskStatus) Text() string { return tool.Status(s).Text() }

type taskArgs struct {
	TaskID string `json:"task_id" arg:"required,max=200" doc:"id that the task was given"`
}

type taskWaitArgs struct {
	TaskID string `json:"task_id" arg:"required,max=200" doc:"id that the task was given"`
	Wait   int    `json:"wait_seconds,omitempty" arg:"min=0,max=300" doc:"wait up to this long for the task to end"`
}

type taskOutputArgs struct {
	TaskID   string `json:"task_id" arg:"required,max=200" doc:"id that the task was given"`
	MaxLines int    `json:"max_lines,omitempty" arg:"min=1,max=1000" doc:"lines to give (default 50)"`
	Cursor   *int64 `json:"cursor,omitempty" arg:"min=0" doc:"give the lines from here on: 0, then next_cursor of the last answer; without it, the last lines"`
	Wait     int    `json:"wait_seconds,omitempty" arg:"min=0,max=300" doc:"wait up to this long for a line behind cursor"`
}

const defaultLines = 50

func sshRunAsync() *tool.Tool {
	return tool.New(tool.Spec[commandArgs, asyncResult]{
		Name: "ssh_run_async", Set: "fleet", Effect: tool.Execute,
		Doc: "Start a command on one host as a task if policy allows it, and return the task's id at once.",
		Plan: func(a commandArgs) (tool.Plan, error) {
			p := a.plan()
			p.As, p.Detach = "ssh_run", true
			return p, nil
		},
		Format: func(a commandArgs, runs []tool.Run) asyncResult { return asyncOf(a, runs[0]) },
	})
}

type asyncResult struct {
	taskStatus
	TaskID        string `json:"task_id,omitempty"`
	KeepAlive     int    `json:"keepAlive,omitempty" doc:"seconds for which the result is kept after the end"`
	PollFrequency int    `json:"pollFrequency,omitempty" doc:"seconds between two looks that make sense"`
	Alias         string `json:"alias,omitempty"`
	Hash          string `json:"hash,omitempty" doc:"first 16 hex digits of the command's SHA-256"`
	Digest        string `json:"plan,omitempty" doc:"digest of the plan, as in both logs"`
	MaxSeconds    int    `json:"max_seconds,omitempty" doc:"0 is none"`
	Ahead         int    `json:"queued_ahead" doc:"tasks that are before it in the queue"`
	denial
}

func asyncOf(a commandArgs, r tool.Run) asyncResult {
	f, ok := answer[tool.TaskFacts](r)
	res := asyncResult{taskStatus: stateOf(r, tool.TaskPending, ok), Alias: a.Alias, Hash: r.Hash, Digest: r.Digest, denial: denialOf(a.Command, r)}
	if ok {
		res.TaskID, res.Command, res.Ahead = f.ID, a.Command, f.Ahead
		res.KeepAlive, res.PollFrequency, res.MaxSeconds = int(f.TTL.Seconds()), int(f.Interval.Seconds()), int(f.Limit.Seconds())
	}
	return res
}

func (r asyncResult) Text() string {
	if r.Failed() {
		return strings.TrimSpace(r.taskStatus.Text() + "\n" + r.Hint)
	}
	text := fmt.Sprintf("Task %s started on %s.", r.TaskID, r.Alias)
	if r.Ahead > 0 {
		text = fmt.Sprintf("Task %s waits for its turn on %s, behind %s.", r.TaskID, r.Alias, tool.Count(r.Ahead, "other"))
	}
	return text + fmt.Sprintf("\nssh_get_task_output shows what it says, ssh_get_task_result how it ended, for %d s after its end\ndecision %s", r.KeepAlive, r.DecisionID)
}

func sshGetTaskStatus() *tool.Tool {
	return tool.New(tool.Spec[taskWaitArgs, taskStatusResult]{
		Name: "ssh_get_task_status", Set: "fleet", Effect: tool.Observe,
		Doc: "Show where a task of yours stands; with wait_seconds, when it has ended or the time is up.",
		Plan: func(a taskWaitArgs) (tool.Plan, error) {
			return askTask(tool.TaskRead, tool.Ask{Question: tool.AskTask, Subject: a.TaskID, Wait: a.Wait}), nil
		},
		Format: func(_ taskWaitArgs, runs []tool.Run) taskStatusResult { return taskStatusOf(runs[0]) },
	})
}

// askTask is a plan to ask the gateway about a task.
func askTask(action tool.Action, a tool.Ask) tool.Plan {
	return tool.Plan{Steps: []tool.Step{{
		Op: tool.Op{Action: action, Effect: action.Effect(), Operation: string(a.Question)}, Do: a,
	}}}
}

type taskStatusResult struct {
	taskStatus
	TaskID        string `json:"task_id,omitempty"`
	KeepAlive     int    `json:"keepAlive,omitempty" doc:"seconds for which the result is kept after the end"`
	PollFrequency int    `json:"pollFrequency,omitempty" doc:"seconds between two looks that make sense"`
	Progress      int    `json:"progress_percent" doc:"of the time that it may take; 100 when it has ended"`
	ElapsedMS     int64  `json:"elapsed_ms"`
	BytesRead     int64  `json:"bytes_read" doc:"of both streams so far"`
	Lines         int64  `json:"output_lines_available" doc:"complete lines so far"`
	Ahead         int    `json:"queued_ahead" doc:"tasks that are before it in the queue"`
	Alias         string `json:"alias,omitempty"`
	Hash          string `json:"hash,omitempty" doc:"first 16 hex digits of the command's SHA-256"`
}

func taskStatusOf(r tool.Run) taskStatusResult {
	f, ok := answer[tool.TaskFacts](r)
	res := taskStatusResult{taskStatus: stateOf(r, f.State, ok)}
	if !ok {
		return res
	}
	res.TaskID, res.Alias, res.Hash, res.Ahead = f.ID, f.Run.Target.Alias, f.Run.Hash, f.Ahead
	res.KeepAlive, res.PollFrequency = int(f.TTL.Seconds()), int(f.Interval.Seconds())
	res.ElapsedMS, res.BytesRead, res.Lines = f.Elapsed.Milliseconds(), f.Bytes, f.Lines
	res.Progress = percent(f)
	return res
}

// percent is how much of its time a task has used.
func percent(f tool.TaskFacts) int {
	switch {
	case f.State.Final():
		return 100
	case f.Limit == 0:
		return 0
	}
	return min(99, int(100*f.Elapsed/f.Limit))
}

func (r taskStatusResult) Text() string {
	if r.Failed() {
		return r.taskStatus.Text()
	}
	text := fmt.Sprintf("Task %s on %s: %s after %.1f s, %s and %s of output so far",
		r.TaskID, r.Alias, r.Status, float64(r.ElapsedMS)/1000, tool.Count(r.BytesRead, "byte"), tool.Count(r.Lines, "line"))
	if r.Status == string(tool.TaskPending) {
		text += fmt.Sprintf(", %d before it", r.Ahead)
	}
	return text
}

func sshGetTaskResult() *tool.Tool {
	return tool.New(tool.Spec[taskWaitArgs, taskResult]{
		Name: "ssh_get_task_result", Set: "fleet", Effect: tool.Observe,
		Doc: "Show how a task of yours ended; with wait_seconds, wait for that.",
		Plan: func(a taskWaitArgs) (tool.Plan, error) {
			return askTask(tool.TaskRead, tool.Ask{Question: tool.AskTaskResult, Subject: a.TaskID, Wait: a.Wait}), nil
		},
		Format: func(_ taskWaitArgs, runs []tool.Run) taskResult { return taskResultOf(runs[0]) },
	})
}

type taskResult struct {
	taskStatus
	runFacts
	MaxSeconds int `json:"max_seconds" doc:"0 is none"`
}

func taskResultOf(r tool.Run) taskResult {
	f, ok := answer[tool.TaskFacts](r)
	res := taskResult{taskStatus: stateOf(r, f.State, ok), runFacts: runFacts{ExitCode: -1}}
	switch {
	case !ok:
	case f.State.Final():
		ended := tool.StatusOf(f.Run)
		res.DecisionID, res.Reasons, res.Error = ended.DecisionID, ended.Reasons, ended.Error
		res.runFacts, res.MaxSeconds = factsOf(f.Run.Target.Alias, f.Run), int(f.Limit.Seconds())
	default:
		res.Status = tool.StatusInvalid
		res.Error = &tool.Problem{
			Code: "task_not_ended", Message: fmt.Sprintf("task %s has not ended: it is %s", f.ID, f.State),
			Remedy: "ask again later, or with wait_seconds",
		}
	}
	return res
}

func (r taskResult) Text() string {
	if r.Failed() {
		return r.taskStatus.Text()
	}
	parts := []string{fmt.Sprintf("Task %s on %s: %s", r.TaskID, r.Alias, r.Status), r.shown()}
	if r.Error != nil || len(r.Reasons) > 0 {
		parts = append(parts, r.taskStatus.Text())
	}
	return strings.TrimSpace(strings.Join(append(parts, r.howItEnded()...), "\n"))
}

func sshGetTaskOutput() *tool.Tool {
	return tool.New(tool.Spec[taskOutputArgs, taskOutputResult]{
		Name: "ssh_get_task_output", Set: "fleet", Effect: tool.Observe,
		Doc: "Show what a task of yours has said so far: the last lines, or from a cursor on, line by line without loss.",
		Plan: func(a taskOutputArgs) (tool.Plan, error) {
			page := tool.Page{Lines: cmp.Or(a.MaxLines, defaultLines), Cursor: a.Cursor}
			return askTask(tool.TaskRead, tool.Ask{Question: tool.AskTaskOutput, Subject: a.TaskID, Page: page, Wait: a.Wait}), nil
		},
		Format: func(_ taskOutputArgs, runs []tool.Run) taskOutputResult { return taskOutputOf(runs[0]) },
	})
}

type taskOutputResult struct {
	taskStatus
	TaskID string   `json:"task_id,omitempty"`
	Lines  []string `json:"output_lines"`
	Total  int64    `json:"total_lines" doc:"lines so far"`
	More   bool     `json:"has_more" doc:"there are lines behind these, or there may be"`
	Next   int64    `json:"next_cursor" doc:"cursor for the lines behind these"`
	Lost   int64    `json:"lost_lines" doc:"lines behind the cursor that are no longer kept"`
	Note   string   `json:"note,omitempty"`
}

func taskOutputOf(r tool.Run) taskOutputResult {
	l, ok := answer[tool.TaskLines](r)
	res := taskOutputResult{taskStatus: stateOf(r, l.State, ok), Lines: []string{}}
	if !ok {
		return res
	}
	res.TaskID, res.Total, res.Next, res.Lost, res.More = l.ID, l.Total, l.Next, l.Lost, l.More
	res.Lines = append(res.Lines, l.Lines...)
	if l.Withheld {
		res.Note = "the lines are shown when the task has ended: what must be redacted can only be found in the whole"
	}
	return res
}

func (r taskOutputResult) Text() string {
	if r.Failed() {
		return r.taskStatus.Text()
	}
	parts := []string{strings.Join(r.Lines, "\n")}
	if r.Lost > 0 {
		parts = append([]string{fmt.Sprintf("[no longer kept: %s]", tool.Count(r.Lost, "line"))}, parts...)
	}
	return strings.TrimSpace(strings.Join(append(parts, r.Note,
		fmt.Sprintf("[%s; %s so far; next_cursor %d]", r.Status, tool.Count(r.Total, "line"), r.Next)), "\n"))
}

func sshCancel() *tool.Tool {
	return cancelTool("ssh_cancel", "Stop a call of yours that is running, by the id in its progress, or a task.", "Task not found")
}

func sshCancelAsyncTask() *tool.Tool {
	return cancelTool("ssh_cancel_async_task", "Stop a task of yours that is waiting or running.", "Task not found or not cancellable")
}

func cancelTool(name, doc, notFound string) *tool.Tool {
	return tool.New(tool.Spec[taskArgs, cancelResult]{
		Name: name, Set: "fleet", Effect: tool.Change, Doc: doc,
		Plan: func(a taskArgs) (tool.Plan, error) {
			return askTask(tool.TaskControl, tool.Ask{Question: tool.AskCancel, Subject: a.TaskID}), nil
		},
		Format: func(_ taskArgs, runs []tool.Run) cancelResult {
			c, ok := answer[tool.Cancellation](runs[0])
			r := cancelResult{Status: tool.StatusOf(runs[0]), TaskID: c.ID, Cancelled: c.Found}
			switch {
			case c.Found:
				r.Message = "Cancellation signaled"
			case ok:
				r.Message = notFound
			}
			return r
		},
	})
}

type cancelResult struct {
	tool.Status
	TaskID    string `json:"task_id,omitempty"`
	Cancelled bool   `json:"cancelled" doc:"there was something to stop"`
	Message   string `json:"message,omitempty"`
}

func (r cancelResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	return r.Message + ": " + r.TaskID
}
