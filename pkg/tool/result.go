package tool

import (
	"fmt"
	"strings"
)

// Status is how every result begins. Its words are few: ok, denied, failed,
// stopped, invalid.
type Status struct {
	Status string `json:"status" arg:"required" enum:"ok,denied,failed,stopped,invalid" doc:"what became of the call"`
	Grounds
}

// Grounds are what a status rests on, also where a tool has words of its own for
// it.
type Grounds struct {
	DecisionID string   `json:"decision_id,omitempty" doc:"entry in the decision log"`
	Reasons    []Reason `json:"reasons,omitempty" doc:"why it was denied: rule, culprit, remedy"`
	Error      *Problem `json:"error,omitempty" doc:"why it failed"`
}

// Problem is a failure as an agent sees it: a stable code, a sentence, a way out.
type Problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

const (
	StatusOK      = "ok"
	StatusDenied  = "denied"
	StatusFailed  = "failed"
	StatusStopped = "stopped"
	StatusInvalid = "invalid"
)

// StatusOf says how a run ended.
func StatusOf(r Run) Status {
	s := Status{Status: StatusOK, Grounds: Grounds{DecisionID: r.Decision.ID}}
	switch {
	case !r.Decision.Allow:
		s.Status, s.Reasons = StatusDenied, r.Decision.Reasons
	case r.Report == nil:
	case r.Report.Stop != "":
		s.Status = StatusStopped
		s.Error = &Problem{Code: string(r.Report.Stop), Message: r.Report.Stop.describe(r.Decision.Limits)}
	case r.Report.Err != nil:
		s.Status, s.Error = StatusFailed, ProblemOf(r.Report.Err)
	}
	return s
}

// ProblemOf is a failure without its cause, which is for the log.
func ProblemOf(f *Failure) *Problem {
	return &Problem{Code: string(f.Code), Message: f.Message, Remedy: f.Remedy}
}

func (s Stop) describe(l Limits) string {
	switch s {
	case StopTimeout:
		return fmt.Sprintf("stopped at the time limit of %d s", l.Seconds)
	case StopOutput:
		return "stopped because it wrote far more output than is kept"
	case StopCancelled:
		return "stopped because the call was cancelled"
	case StopDisconnect:
		return "stopped because the caller went away"
	}
	return "stopped because the gateway is shutting down"
}

// Failed implements [Result].
func (s Status) Failed() bool { return s.Status != StatusOK }

// Text implements [Result] for results that say no more than their status.
func (s Status) Text() string {
	var b strings.Builder
	switch s.Status {
	case StatusDenied:
		b.WriteString("Denied by policy.")
	case StatusInvalid, StatusFailed, StatusStopped:
		b.WriteString(strings.ToUpper(s.Status[:1]) + s.Status[1:] + ".")
	}
	for _, r := range s.Reasons {
		fmt.Fprintf(&b, "\n- %s [%s]", r.Title, r.Code)
		if r.Detail != "" {
			fmt.Fprintf(&b, ": %s", r.Detail)
		}
		if r.Remedy != "" {
			fmt.Fprintf(&b, " (%s)", r.Remedy)
		}
	}
	if s.Error != nil {
		fmt.Fprintf(&b, "\n%s [%s]", s.Error.Message, s.Error.Code)
		if s.Error.Remedy != "" {
			fmt.Fprintf(&b, ". %s", s.Error.Remedy)
		}
	}
	if s.DecisionID != "" {
		fmt.Fprintf(&b, "\ndecision %s", s.DecisionID)
	}
	return strings.TrimSpace(b.String())
}
