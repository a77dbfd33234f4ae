package tools

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/pkg/tool"
)

type tagArgs struct {
	Tag         string `json:"tag" arg:"required,max=50" doc:"tag that the hosts have"`
	Command     string `json:"command" arg:"required,text" doc:"command line to run on each host"`
	MaxSeconds  int    `json:"max_seconds,omitempty" arg:"min=1,max=86400" doc:"stop after this many seconds on each host; policy may allow less"`
	MaxOutput   int    `json:"max_output_bytes,omitempty" arg:"min=1,max=16777216" doc:"keep this much of each stream of each host (default 65536); policy may allow less"`
	MaxParallel int    `json:"max_parallel,omitempty" arg:"min=1,max=1000" doc:"hosts at once; the gateway may allow fewer"`
	FailFast    bool   `json:"fail_fast,omitempty" doc:"when a host fails, leave out those whose turn has not come"`
}

// outputPerHost keeps the answer for many hosts readable.
const outputPerHost = 64 << 10

func (a tagArgs) plan() tool.Plan {
	p := commandArgs{Command: a.Command, MaxSeconds: a.MaxSeconds, MaxOutput: a.MaxOutput}.plan()
	p.Scope = tool.Scope{Tag: a.Tag, Parallel: a.MaxParallel, FailFast: a.FailFast}
	p.As = "ssh_run"
	if a.MaxOutput == 0 {
		p.Wish.OutputBytes = outputPerHost
	}
	return p
}

func sshRunOnTag() *tool.Tool {
	return tool.New(tool.Spec[tagArgs, tagResult]{
		Name: "ssh_run_on_tag", Set: "fleet", Effect: tool.Execute,
		Doc:    "Run a command on every host that has a tag, side by side, each judged for itself.",
		Plan:   func(a tagArgs) (tool.Plan, error) { return a.plan(), nil },
		Format: tagResultOf,
	})
}

// tagResult is ok when the command ended on every host, whatever its exit status.
type tagResult struct {
	tool.Status
	Tag     string     `json:"tag"`
	TaskID  string     `json:"task_id,omitempty" doc:"id of this call"`
	Results []tagEntry `json:"results" doc:"one for each host, in file order"`
	Summary tagSummary `json:"summary"`
	Note    string     `json:"note,omitempty"`
}

type tagEntry struct {
	runResult
	Denied  bool `json:"denied"`
	Skipped bool `json:"skipped" doc:"its turn had not come when another host failed or the call was stopped"`
}

// tagSummary counts hosts. Each is in one of the last five.
type tagSummary struct {
	Hosts     int `json:"hosts"`
	Succeeded int `json:"succeeded" doc:"exit status 0"`
	NonZero   int `json:"nonzero" doc:"another exit status"`
	Failed    int `json:"failed" doc:"not reached, stopped, or ended by a signal"`
	Denied    int `json:"denied"`
	Skipped   int `json:"skipped"`
}

func tagResultOf(a tagArgs, runs []tool.Run) tagResult {
	r := tagResult{Status: tool.Status{Status: tool.StatusOK}, Tag: a.Tag, Results: []tagEntry{}}
	for _, run := range runs {
		e := entryOf(a, run)
		r.Summary.count(e)
		r.Results = append(r.Results, e)
		if r.TaskID == "" {
			r.TaskID = run.CallID
		}
	}
	switch s := r.Summary; {
	case s.Hosts == 0:
		r.Note = "No hosts matched."
	case s.Succeeded+s.NonZero < s.Hosts:
		r.Status.Status = tool.StatusFailed
	}
	return r
}

func entryOf(a tagArgs, run tool.Run) tagEntry {
	args := commandArgs{Alias: run.Target.Alias, Command: a.Command}
	if run.Skipped {
		return tagEntry{runResult: runResult{Status: skippedStatus(run), runFacts: factsOf(args.Alias, run)}, Skipped: true}
	}
	e := tagEntry{runResult: runOf(args, run), Denied: !run.Decision.Allow}
	e.Command = "" // the same for all of them
	return e
}

// skippedStatus is the status of a host whose turn did not come. No decision was
// made, so it is not denied either.
func skippedStatus(run tool.Run) tool.Status {
	if run.Report != nil {
		run.Decision.Allow = true
		return tool.StatusOf(run)
	}
	return tool.Status{Status: tool.StatusFailed, Grounds: tool.Grounds{Error: &tool.Problem{
		Code: "skipped", Message: "left out because another host had failed", Remedy: "call again for this host",
	}}}
}

func (s *tagSummary) count(e tagEntry) {
	s.Hosts++
	switch {
	case e.Skipped:
		s.Skipped++
	case e.Denied:
		s.Denied++
	case e.runResult.Failed() || e.ExitCode < 0:
		s.Failed++
	case e.ExitCode == 0:
		s.Succeeded++
	default:
		s.NonZero++
	}
}

// Text is the summary and what each host said.
func (r tagResult) Text() string {
	if r.Note != "" {
		return fmt.Sprintf("tag %s: %s", r.Tag, r.Note)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tag %s: %s\n", r.Tag, r.Summary)
	for _, e := range r.Results {
		fmt.Fprintf(&b, "\n== %s\n%s\n", e.Alias, e.Text())
	}
	return strings.TrimSpace(b.String())
}

func (s tagSummary) String() string {
	text := fmt.Sprintf("%d of %s succeeded", s.Succeeded, tool.Count(s.Hosts, "host"))
	for _, more := range []struct {
		n    int
		what string
	}{{s.NonZero, "with another exit status"}, {s.Failed, "failed"}, {s.Denied, "denied"}, {s.Skipped, "skipped"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}
