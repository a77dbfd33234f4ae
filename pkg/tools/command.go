package tools

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/pkg/tool"
)

func sshPlan() *tool.Tool {
	return tool.New(tool.Spec[planArgs, planResult]{
		Name: "ssh_plan", Set: "fleet", Effect: tool.Observe,
		Doc:    "Show what ssh_run would do with a command, or another tool with its arguments, and the whole decision, without doing it.",
		Plan:   planArgs.plan,
		Format: func(a planArgs, runs []tool.Run) planResult { return planOf(a, runs[0]) },
	})
}

type planArgs struct {
	Alias      string          `json:"alias,omitempty" arg:"max=100" doc:"host alias from the inventory; goes with command"`
	Command    string          `json:"command,omitempty" arg:"text" doc:"command line to plan with ssh_run"`
	MaxSeconds int             `json:"max_seconds,omitempty" arg:"min=1,max=86400" doc:"of the command; policy may allow less"`
	MaxOutput  int             `json:"max_output_bytes,omitempty" arg:"min=1,max=16777216" doc:"of the command; policy may allow less"`
	Tool       string          `json:"tool,omitempty" arg:"max=24" doc:"the tool to plan where it is not ssh_run; instead of alias and command"`
	Arguments  json.RawMessage `json:"arguments,omitempty" doc:"of that tool"`
	Explain    bool            `json:"explain,omitempty" doc:"also show which rules spoke, what failed, and the smallest changes that would be allowed, if policy lets you"`
}

func (a planArgs) plan() (tool.Plan, error) {
	p, err := a.planned()
	p.DryRun, p.Explain = true, a.Explain
	return p, err
}

// planned is the plan of what would be called.
func (a planArgs) planned() (tool.Plan, error) {
	switch {
	case a.Tool != "":
		return a.other()
	case a.Arguments != nil:
		return tool.Plan{}, badArgument("tool", "is required with arguments", "name the tool whose arguments they are")
	case a.Alias == "":
		return tool.Plan{}, badArgument("alias", "is required", "send a host alias from the inventory, or tool and arguments")
	case strings.TrimSpace(a.Command) == "":
		return tool.Plan{}, badArgument("command", "is required", "send a command line, or tool and arguments")
	}
	p := commandArgs{Alias: a.Alias, Command: a.Command, MaxSeconds: a.MaxSeconds, MaxOutput: a.MaxOutput}.plan()
	p.As = "ssh_run"
	return p, nil
}

// other is the plan of another tool. What works on several hosts has a decision for
// each.
func (a planArgs) other() (tool.Plan, error) {
	all := All()
	i := slices.IndexFunc(all, func(t *tool.Tool) bool { return t.Name == a.Tool })
	switch {
	case a.Alias != "" || a.Command != "" || a.MaxSeconds != 0 || a.MaxOutput != 0:
		return tool.Plan{}, badArgument("tool", "is there beside alias, command or a limit", "put all that the tool is given into arguments")
	case i < 0 || a.Tool == "ssh_plan":
		return tool.Plan{}, badArgument("tool", "names no tool that can be planned", "name one of the tools that you have")
	}
	p, err := all[i].Plan(a.Arguments)
	var bad *tool.ArgumentError
	switch {
	case errors.As(err, &bad):
		return p, &tool.ArgumentError{Argument: "arguments", Message: "in arguments, " + bad.Message, Remedy: bad.Remedy}
	case err != nil:
		return p, err
	case p.Scope.Tag != "" || p.Onto != nil:
		return p, badArgument("tool", "works on several hosts", "plan what it would do on each, as with read, write or ssh_run")
	}
	p.As = a.Tool
	return p, nil
}

type planResult struct {
	tool.Status
	Alias     string            `json:"alias,omitempty"`
	Tool      string            `json:"tool,omitempty" doc:"that was planned, where it is not ssh_run"`
	Command   string            `json:"command,omitempty" doc:"as submitted"`
	Canonical string            `json:"canonical,omitempty" doc:"what would be sent"`
	Hash      string            `json:"hash,omitempty" doc:"first 16 hex digits of the command's SHA-256"`
	Digest    string            `json:"plan,omitempty" doc:"digest of the plan, as in both logs"`
	Allowed   bool              `json:"allowed"`
	Why       string            `json:"why,omitempty" doc:"why it would be denied, in short"`
	Denied    string            `json:"denied_command,omitempty" doc:"the first of several commands that would be denied by itself"`
	Hint      string            `json:"hint,omitempty" doc:"what to do about it"`
	Limits    *planLimits       `json:"limits,omitempty" doc:"in force if it ran now"`
	Network   *planNetwork      `json:"network,omitempty"`
	Revisions map[string]string `json:"revisions,omitempty" doc:"bundles that decided"`
	// Explanation was asked for; without it the note says why there is none.
	Explanation *tool.Explanation `json:"explanation,omitempty"`
	Note        string            `json:"note,omitempty"`
}

type planLimits struct {
	MaxSeconds     int   `json:"max_seconds" doc:"0 is none"`
	MaxOutputBytes int64 `json:"max_output_bytes"`
	Concurrent     int   `json:"max_concurrent" doc:"0 is none"`
	KnownHost      bool  `json:"require_known_host" doc:"always"`
	AutoAdd        bool  `json:"host_key_auto_add" doc:"never"`
}

func (l *planLimits) String() string {
	if l == nil {
		return "without limits"
	}
	seconds, bytes := "any time", "all output is kept"
	if l.MaxSeconds > 0 {
		seconds = fmt.Sprintf("at most %d s", l.MaxSeconds)
	}
	if l.MaxOutputBytes > 0 {
		bytes = "of each stream are kept " + tool.Count(l.MaxOutputBytes, "byte")
	}
	return seconds + "; " + bytes
}

type planNetwork struct {
	Hostname  string   `json:"hostname"`
	Port      int      `json:"port"`
	Address   string   `json:"address" doc:"the one that would be dialled"`
	Addresses []string `json:"addresses"`
	Via       []string `json:"via,omitempty"`
}

// planOf is a decision laid open. That a plan is denied is its result, not a
// failure of the planning, so the status stays ok.
func planOf(a planArgs, r tool.Run) planResult {
	p := planResult{
		Status: tool.StatusOf(r), Alias: r.Target.Alias, Tool: a.Tool, Command: a.Command, Hash: r.Hash,
		Digest: r.Digest, Allowed: r.Decision.Allow, Network: networkOf(r.Target), Revisions: r.Decision.Bundles,
		Explanation: r.Explanation,
	}
	if len(r.Unexplained) > 0 {
		p.Note = "there is no explanation for you: " + r.Unexplained[0].Title + "; " + r.Unexplained[0].Remedy
	}
	if doc := r.Plan.Steps[0].Op.Command; doc != nil {
		p.Canonical = doc.Canonical
	}
	if l := r.Decision.Limits; l != (tool.Limits{}) {
		p.Limits = &planLimits{l.Seconds, l.OutputBytes, l.Concurrent, true, false}
	}
	if p.Status.Status == tool.StatusDenied {
		denied := denialOf(a.Command, r)
		p.Status.Status, p.Why, p.Hint = tool.StatusOK, denied.Detail, denied.Hint
		if p.Denied = r.Culprit; p.Denied != "" {
			p.Why = fmt.Sprintf("in %q: %s", p.Denied, p.Why)
		}
	}
	return p
}

func networkOf(t tool.Target) *planNetwork {
	n := &planNetwork{Hostname: t.Hostname, Port: t.Port, Addresses: []string{}}
	if t.Address.IsValid() {
		n.Address = t.Address.String()
	}
	for _, a := range t.Addresses {
		n.Addresses = append(n.Addresses, a.String())
	}
	for _, hop := range t.Via {
		n.Via = append(n.Via, hop.Alias)
	}
	return n
}

func (r planResult) Text() string {
	switch {
	case r.Failed():
		return r.Status.Text()
	case r.Allowed:
		return fmt.Sprintf("Allowed%s: %s\n%s\ndecision %s%s", r.where(), cmp.Or(r.Canonical, r.Tool), r.Limits, r.DecisionID, r.explained())
	}
	denied := r.Status
	denied.Status = tool.StatusDenied
	return "Would be denied" + r.where() + ". " + denied.Text() + r.explained()
}

// where is the host; what the gateway does itself has none.
func (r planResult) where() string {
	if r.Alias == "" {
		return ""
	}
	return " on " + r.Alias
}

// explained is the explanation in short: where the rules that spoke stand, and what
// would be allowed.
func (r planResult) explained() string {
	var b strings.Builder
	if r.Note != "" {
		b.WriteString("\n" + r.Note)
	}
	if r.Explanation == nil {
		return b.String()
	}
	for _, s := range r.Explanation.Spoke {
		fmt.Fprintf(&b, "\nrule %s (%s:%d)", s.Rule, s.File, s.Line)
	}
	for _, c := range r.Explanation.Changes {
		fmt.Fprintf(&b, "\nwould be allowed: %s", c.What)
		if c.Command != "" {
			b.WriteString(": " + c.Command)
		}
	}
	return b.String()
}

func sshRun() *tool.Tool {
	return tool.New(tool.Spec[commandArgs, runResult]{
		Name: "ssh_run", Set: "fleet", Effect: tool.Execute,
		Doc:    "Run a command on one host if policy allows it, and return its output and exit status.",
		Plan:   func(a commandArgs) (tool.Plan, error) { return a.plan(), nil },
		Format: func(a commandArgs, runs []tool.Run) runResult { return runOf(a, runs[0]) },
	})
}

type runResult struct {
	tool.Status
	runFacts
	denial
}

// denial is a refusal in short, for clients that do not read reasons.
type denial struct {
	Reason   string `json:"reason,omitempty" enum:"policy,network" doc:"what denied it"`
	Detail   string `json:"detail,omitempty" doc:"why, in short"`
	Command  string `json:"command,omitempty" doc:"as submitted"`
	Hostname string `json:"hostname,omitempty" doc:"whose address was denied"`
	Hint     string `json:"hint,omitempty" doc:"what to do about it"`
}

func denialOf(command string, r tool.Run) denial {
	if r.Decision.Allow {
		return denial{}
	}
	d := denial{Reason: "policy", Detail: detailOf(r.Decision.Reasons), Command: command, Hint: denialHint}
	if strings.HasPrefix(codeOf(r.Decision.Reasons), "network_") {
		d.Reason, d.Hostname = "network", r.Target.Hostname
	}
	return d
}

func codeOf(reasons []tool.Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	return reasons[0].Code
}

func detailOf(reasons []tool.Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	return strings.TrimSuffix(reasons[0].Title+": "+reasons[0].Detail, ": ")
}

// runFacts is what came of a command on one host.
type runFacts struct {
	TaskID     string          `json:"task_id,omitempty" doc:"id of this call"`
	Alias      string          `json:"alias,omitempty"`
	Hash       string          `json:"hash,omitempty" doc:"first 16 hex digits of the command's SHA-256"`
	Digest     string          `json:"plan,omitempty" doc:"digest of the plan, as in both logs"`
	Outcome    string          `json:"outcome,omitempty" enum:"finished,not_started,unknown" doc:"whether it ran"`
	ExitCode   int             `json:"exit_code" doc:"-1 when there is none, or when it was stopped"`
	Signal     string          `json:"signal,omitempty" doc:"that ended it"`
	DurationMS int64           `json:"duration_ms"`
	Cancelled  bool            `json:"cancelled"`
	Timeout    bool            `json:"timeout"`
	Stop       string          `json:"stop,omitempty" doc:"why it was stopped"`
	Survivors  []tool.Survivor `json:"survivors,omitempty" doc:"remote processes that outlived the stop"`
	TargetIP   string          `json:"target_ip" doc:"empty when none was spoken to"`
	Output     string          `json:"output" doc:"stdout, then stderr; why, when it did not start"`
	Stdout     string          `json:"stdout"`
	Stderr     string          `json:"stderr"`
	BytesOut   int64           `json:"bytes_out" doc:"in all, kept or not"`
	BytesErr   int64           `json:"bytes_err" doc:"in all, kept or not"`
	Truncated  bool            `json:"truncated"`
	missing    bool            // some of what came is not kept
}

const denialHint = "ssh_plan shows the whole decision for a changed command; policy itself is changed by people"

func runOf(a commandArgs, r tool.Run) runResult {
	return runResult{Status: tool.StatusOf(r), runFacts: factsOf(a.Alias, r), denial: denialOf(a.Command, r)}
}

func factsOf(alias string, r tool.Run) runFacts {
	res := runFacts{TaskID: r.CallID, Alias: alias, Hash: r.Hash, Digest: r.Digest, ExitCode: -1}
	if r.Report == nil {
		return res
	}
	report := r.Report
	res.Outcome = string(report.Outcome)
	res.DurationMS = report.Duration.Milliseconds()
	res.TargetIP = report.Address
	res.Stop = string(report.Stop)
	res.Timeout = report.Stop == tool.StopTimeout
	res.Cancelled = report.Stop == tool.StopCancelled || report.Stop == tool.StopDisconnect
	res.Survivors = report.Survivors
	if len(report.Outputs) > 0 {
		res.take(report.Outputs[0])
	}
	if report.Stop != "" {
		res.ExitCode = -1 // whatever the shell made of our own signal
	}
	if report.Err != nil && res.didNotStart() {
		res.Output = report.Err.Message
	}
	return res
}

// didNotStart says that no output can be the command's.
func (r runFacts) didNotStart() bool { return r.Outcome == string(tool.NotStarted) }

// shown is the output for a text that tells of a failure anyway.
func (r runFacts) shown() string {
	if r.didNotStart() {
		return ""
	}
	return r.Output
}

func (r *runFacts) take(o tool.Output) {
	if o.Exit != nil {
		r.ExitCode = *o.Exit
	}
	r.Signal = o.Signal
	r.Stdout, r.Stderr = text(o.Stdout), text(o.Stderr)
	r.BytesOut, r.BytesErr = o.Stdout.Bytes, o.Stderr.Bytes
	r.Truncated = o.Stdout.Truncated || o.Stderr.Truncated
	r.missing = int64(len(o.Stdout.Kept)+len(o.Stderr.Kept)) < r.BytesOut+r.BytesErr
	r.Output = strings.TrimSpace(strings.TrimRight(r.Stdout, "\n") + "\n" + r.Stderr)
}

// text is a stream as a string: what is not UTF-8 becomes the replacement
// character.
func text(s tool.Stream) string { return strings.ToValidUTF8(string(s.Kept), "\uFFFD") }

func (r runResult) Text() string {
	parts := []string{r.shown()}
	switch {
	case r.Failed():
		parts = append(parts, r.Status.Text())
	case r.BytesOut+r.BytesErr == 0:
		parts = append(parts, "(no output)")
	}
	parts = append(parts, r.howItEnded()...)
	return strings.TrimSpace(strings.Join(append(parts, r.Hint), "\n"))
}

// howItEnded is what the output does not show.
func (r runFacts) howItEnded() []string {
	var parts []string
	for _, s := range r.Survivors {
		parts = append(parts, fmt.Sprintf("still running: %d %s", s.PID, s.Command))
	}
	if r.missing {
		parts = append(parts, fmt.Sprintf("[cut: %d bytes of %d are shown]", len(r.Stdout)+len(r.Stderr), r.BytesOut+r.BytesErr))
	}
	switch {
	case r.Signal != "":
		parts = append(parts, fmt.Sprintf("[ended by signal %s]", r.Signal))
	case r.ExitCode > 0:
		parts = append(parts, fmt.Sprintf("[exit status %d]", r.ExitCode))
	}
	return parts
}
