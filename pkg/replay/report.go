package replay

import (
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// ReportVersion is the version of the report's JSON. Its shape is closed: every
// field is always there.
const ReportVersion = 1

// Report tells what a replay found.
type Report struct {
	Version int        `json:"version"`
	Bundles []Bundle   `json:"bundles"` // by name
	Logs    []Log      `json:"logs"`    // in the order of reading
	From    *time.Time `json:"from"`    // of the first decision; null: there is none
	To      *time.Time `json:"to"`

	Decisions int `json:"decisions"` // all that there are in the logs
	Judged    int `json:"judged"`
	Unchanged int `json:"unchanged"`
	// JudgedInPart were judged although something is missing in their records:
	// no rule looks at it, so it makes no difference.
	JudgedInPart int         `json:"judged_in_part"`
	Changed      Counts      `json:"changed"`
	NotJudged    []NotJudged `json:"not_judged"` // those of most decisions first

	Examples []Example `json:"examples"` // of each kind of change

	// Groups of decisions, those with most changes first. A decision at which
	// several rules are at work is in the group of each.
	Rules    []Group `json:"rules"`
	Hosts    []Group `json:"hosts"`
	Subjects []Group `json:"subjects"`
	Tools    []Group `json:"tools"`

	Timeline Timeline `json:"timeline"`

	// Problems are the first lines that could not be read; all of them are
	// counted in NotJudged.
	Problems []Problem `json:"problems"`

	Unused *Unused `json:"unused"` // null: nobody asked
}

// Bundle says by what decisions were made, and by what they are judged now.
type Bundle struct {
	Name string     `json:"name"`
	Now  string     `json:"now"` // empty: it is not there any more
	Then []Revision `json:"then"`
}

// Revision is one by which decisions on record were made.
type Revision struct {
	Revision  string `json:"revision"` // empty: it was not there
	Decisions int    `json:"decisions"`
}

// Log is one of the logs that were read.
type Log struct {
	Name  string `json:"name"`
	Lines int    `json:"lines"`
}

// Counts are changed decisions by the kind of change.
type Counts struct {
	All          int `json:"all"`
	NewlyDenied  int `json:"newly_denied"`
	NewlyAllowed int `json:"newly_allowed"`
	Limits       int `json:"limits"`
	Reasons      int `json:"reasons"`
	Other        int `json:"other"`
}

// Of is the number of one kind.
func (c Counts) Of(change policy.Change) int { return *c.of(change) }

func (c *Counts) of(change policy.Change) *int {
	switch change {
	case policy.NewlyDenied:
		return &c.NewlyDenied
	case policy.NewlyAllowed:
		return &c.NewlyAllowed
	case policy.LimitsChange:
		return &c.Limits
	case policy.ReasonChange:
		return &c.Reasons
	}
	return &c.Other
}

func (c *Counts) add(change policy.Change) {
	c.All++
	*c.of(change)++
}

func (c *Counts) merge(o Counts) {
	c.All += o.All
	c.NewlyDenied += o.NewlyDenied
	c.NewlyAllowed += o.NewlyAllowed
	c.Limits += o.Limits
	c.Reasons += o.Reasons
	c.Other += o.Other
}

// NotJudged counts decisions that could not be judged again.
type NotJudged struct {
	Status    policy.Status `json:"status"`
	Cause     string        `json:"cause"` // a place in the record, a code, a version
	Decisions int           `json:"decisions"`
}

// Group is the decisions of a rule, host, subject or tool.
type Group struct {
	Name     string    `json:"name"`
	Judged   int       `json:"judged"` // of a rule: those that changed
	Changed  Counts    `json:"changed"`
	Examples []Example `json:"examples"`
}

// Example is a decision that would be another.
type Example struct {
	Change     policy.Change  `json:"change"`
	DecisionID string         `json:"decision_id"`
	Time       time.Time      `json:"time"`
	Log        string         `json:"log"`
	Line       int            `json:"line"`
	Subject    string         `json:"subject"`
	Host       string         `json:"host"` // empty: the gateway itself
	Tool       string         `json:"tool"`
	Does       string         `json:"does"` // the command, or what else the call was
	Rules      []string       `json:"rules"`
	Then       policy.Verdict `json:"then"`
	Now        policy.Verdict `json:"now"`
}

// Timeline is when changed decisions were made.
type Timeline struct {
	StepSeconds int64  `json:"step_seconds"`
	Steps       []Step `json:"steps"` // those in which anything was decided
}

// Step is a stretch of time.
type Step struct {
	From    time.Time `json:"from"`
	Judged  int       `json:"judged"`
	Changed Counts    `json:"changed"`
}

// Problem is a line that could not be read. It is an error too, for a log that
// cannot be read any further.
type Problem struct {
	Log     string `json:"log"`
	Line    int    `json:"line"`
	Problem string `json:"problem"`
}

func (p Problem) Error() string { return p.Problem }

// Others is the name of the group of all that are too many to be told apart.
const Others = "(others)"

func exampleOf(log string, d decision) Example {
	return Example{
		Change: d.Change, DecisionID: d.ID, Time: d.Time, Log: log, Line: d.line, Subject: d.Subject, Host: d.Host,
		Tool: d.Tool, Does: d.Does, Rules: list(d.Rules), Then: filled(d.Then), Now: filled(d.Now),
	}
}

func filled(v policy.Verdict) policy.Verdict {
	if v.Reasons == nil {
		v.Reasons = []tool.Reason{}
	}
	return v
}

// list is never nil: JSON has a list where the shape says so.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
