package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// call is one tool call on its way.
type call struct {
	gateway  *Gateway
	id       string
	caller   tool.Caller
	name     string
	args     json.RawMessage
	progress func(tool.Progress)

	tool   *tool.Tool // the one that was called
	judged *tool.Tool // the one in whose place it is judged
	plan   tool.Plan

	task *task   // the task that this is the run of, or that it submitted
	held []*link // connections that stay open while it goes on
}

// planIt finds the tool and turns its arguments into a plan, without any I/O.
func (c *call) planIt() *tool.Problem {
	g := c.gateway
	if c.tool = g.tools[c.name]; c.tool == nil {
		return c.unknownTool()
	}
	plan, err := c.tool.Plan(c.args)
	var bad *tool.ArgumentError
	switch {
	case errors.As(err, &bad):
		return &tool.Problem{Code: "bad_arguments", Message: bad.Message, Remedy: bad.Remedy}
	case err != nil:
		return &tool.Problem{Code: "bad_arguments", Message: err.Error()}
	}
	c.plan, c.judged = plan, c.tool
	if plan.As != "" {
		if c.judged = g.tools[plan.As]; c.judged == nil {
			return &tool.Problem{Code: "unknown_tool", Message: plan.As + " is switched off"}
		}
	}
	return nil
}

func (c *call) unknownTool() *tool.Problem {
	return &tool.Problem{
		Code: "unknown_tool", Message: fmt.Sprintf("there is no tool %q", c.name),
		Remedy: instead(c.name, c.gateway.view(c.caller).tools()),
	}
}

// onEach walks the plan on every target, side by side under a bound; one
// host's failure stops nobody, unless the caller wants it to.
func (c *call) onEach(ctx context.Context, targets []tool.Target) []Judged {
	switch {
	case c.plan.Onto != nil:
		return c.onBoth(ctx, targets)
	case len(targets) == 1:
		return []Judged{c.walk(ctx, targets[0])}
	}
	walked := make([]Judged, len(targets))
	var next atomic.Int64
	var enough atomic.Bool
	var workers sync.WaitGroup
	var broken atomic.Value
	for range min(len(targets), c.parallel()) {
		workers.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					broken.Store(fmt.Sprintf("%v\n%s", p, debug.Stack()))
				}
			}()
			deepen()
			for i := next.Add(1) - 1; i < int64(len(targets)); i = next.Add(1) - 1 {
				if enough.Load() || ctx.Err() != nil {
					walked[i].Run = c.skipped(ctx, targets[i])
					continue
				}
				walked[i] = c.walk(ctx, targets[i])
				if c.plan.Scope.FailFast && tool.StateOf(walked[i].Run) != tool.TaskCompleted {
					enough.Store(true)
				}
			}
		})
	}
	workers.Wait()
	if p := broken.Load(); p != nil {
		panic(p) // where whoever made the call can catch it
	}
	return walked
}

// skipped is the run on a host whose turn does not come any more: because the
// call was stopped, or else because another host has failed.
func (c *call) skipped(ctx context.Context, t tool.Target) tool.Run {
	run := tool.Run{CallID: c.id, Target: t, Plan: c.plan, Hash: c.hash(), Skipped: true}
	if ctx.Err() != nil {
		run.Report = &tool.Report{Outcome: tool.NotStarted, Stop: stopOf(ctx), Stopped: true}
	}
	return run
}

// deepen makes room on the stack of a new goroutine for a decision, to which it
// would grow in six steps and be copied at each.
//
//go:noinline
func deepen() {
	var room [128 << 10]byte
	runtime.KeepAlive(&room)
}

// parallel is on how many hosts at once the call may be.
func (c *call) parallel() int {
	most := c.gateway.config.Load().Settings.Limits.ParallelHosts
	if wanted := c.plan.Scope.Parallel; wanted > 0 {
		return min(wanted, most)
	}
	return most
}

// walk takes the plan to one host, and there to the working directory. What the
// gateway answers itself is not
// counted as running, and a task not until it does.
func (c *call) walk(ctx context.Context, t tool.Target) Judged {
	counts := &c.gateway.usage
	if t.Dir != "" {
		there := *c
		there.plan = c.plan.In(t.Dir)
		c = &there
	}
	if _, asks := c.plan.Steps[0].Do.(tool.Ask); asks || c.plan.Detach {
		return c.judgeAndRun(ctx, t, counts.note(c.caller.Subject, t.Alias, c.gateway.now()))
	}
	usage, release := counts.begin(c.caller.Subject, t.Alias, c.gateway.now())
	defer func() {
		release()
		c.gateway.tasks.room()
	}()
	return c.judgeAndRun(ctx, t, usage)
}

// judgeAndRun resolves the name, once, has the plan judged and then follows the
// decision.
func (c *call) judgeAndRun(ctx context.Context, t tool.Target, usage policy.Usage) Judged {
	unresolved := c.resolve(ctx, &t)
	judged := c.decide(ctx, t, usage, unresolved)
	c.explain(ctx, &judged)
	judged.Run.Culprit = c.culprit(ctx, judged.Run)
	ctx, cancel := c.limitWhole(ctx, judged.Run.Decision.Limits)
	defer cancel()
	return c.goOn(ctx, c.follow(ctx, judged, usage, unresolved), usage)
}

// limitWhole puts the time limit of the first decision on all that follows from
// its plan.
func (c *call) limitWhole(ctx context.Context, l tool.Limits) (context.Context, context.CancelFunc) {
	if c.plan.Next == nil || l.Seconds <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, time.Duration(l.Seconds)*time.Second, tool.StopTimeout)
}

// goOn plans what follows from what a host has said, and has that judged and run
// likewise, at the address that answered.
func (c *call) goOn(ctx context.Context, judged Judged, usage policy.Usage) Judged {
	for {
		before := judged.Run
		if before.Plan.Next == nil || before.Report == nil || before.Report.Err != nil || before.Report.Stop != "" {
			return judged
		}
		next, failure := before.Plan.Next(before.Report.Outputs)
		switch {
		case failure != nil:
			judged.Run.Report.Err = failure
			return judged
		case next == nil:
			return judged
		}
		then := *c
		then.plan = next.In(before.Target.Dir)
		judged = then.follow(ctx, then.decide(ctx, before.Target, usage, nil), usage, nil)
		judged.Run.Before = &before
	}
}

// follow does what was decided: refuse, run, or hand over to a task. Each
// address that a name has is judged on its own, and the next one, its own or a
// jump host's, is tried only when it is certain that nothing ran at this one. A
// dry run ends with the decision.
func (c *call) follow(ctx context.Context, judged Judged, usage policy.Usage, unresolved *tool.Failure) Judged {
	for {
		switch run := &judged.Run; {
		case c.plan.DryRun:
		case !run.Decision.Allow:
			c.recordRefused(ctx, *run)
		case c.plan.Detach:
			*run = c.detach(ctx, judged)
		default:
			*run = c.start(ctx, *run)
		}
		next, ok := nextTarget(judged.Run)
		if !ok || ctx.Err() != nil {
			return judged
		}
		judged = c.decide(ctx, next, usage, unresolved)
	}
}

// detach hands an allowed run over to a task. What cannot be one is refused.
func (c *call) detach(ctx context.Context, judged Judged) tool.Run {
	run := judged.Run
	t, refusal := c.gateway.tasks.submit(c, judged)
	if refusal != nil {
		run.Decision.Allow, run.Decision.Reasons = false, []tool.Reason{*refusal}
		c.recordRefused(ctx, run)
		return run
	}
	c.task = t
	if ctx.Err() != nil { // whoever took the call back does not know of a task
		c.gateway.tasks.cancel(ctx, c.caller.Subject, t.id(), stopOf(ctx))
	}
	run.Report = &tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Answer: c.gateway.tasks.facts(t)}}}
	return run
}

// stopOf is why a context has ended.
func stopOf(ctx context.Context) tool.Stop {
	if why, ok := context.Cause(ctx).(tool.Stop); ok {
		return why
	}
	return tool.StopCancelled
}

// tell gives whoever called a sign of life.
func (c *call) tell(p tool.Progress) {
	if c.progress != nil {
		p.Task = c.id
		c.progress(p)
	}
}

// decide builds the input and has it judged.
func (c *call) decide(ctx context.Context, t tool.Target, usage policy.Usage, unresolved *tool.Failure) Judged {
	run := tool.Run{CallID: c.id, Target: t, Plan: c.plan, Digest: tool.Digest(t, c.plan.Steps), Hash: c.hash()}
	in := policy.NewInput(policy.Facts{
		CallID: c.id, Tool: c.judged, Caller: c.caller, Plan: c.plan, Target: t,
		Digest: run.Digest, Usage: usage, Now: c.gateway.now(),
	})
	run.Decision = c.gateway.decider.Decide(ctx, in, c.mark(run, unresolved))
	if unresolved != nil {
		explainUnresolved(&run.Decision, unresolved)
	}
	return Judged{Input: in, Run: run}
}

// mark is what the record of a decision says beside it.
func (c *call) mark(run tool.Run, unresolved *tool.Failure) policy.Mark {
	m := policy.Mark{Mode: c.mode(), Digest: run.Digest, Trace: c.caller.Trace, Custom: map[string]any{}}
	if run.Hash != "" {
		m.Custom["hash"] = run.Hash
	}
	if unresolved != nil {
		m.Custom["resolver"] = string(unresolved.Code)
	}
	return m
}

// hash names the command in both records and results; empty without one. Blanks
// around it are no part of it.
func (c *call) hash() string {
	if doc := c.plan.Steps[0].Op.Command; doc != nil {
		return audit.CommandHash(strings.TrimSpace(doc.Text))
	}
	return ""
}

func (c *call) mode() string {
	if c.plan.DryRun {
		return "plan"
	}
	return "run"
}

// explainUnresolved puts the resolver's own words where policy could only see
// that there is no address.
func explainUnresolved(d *tool.Decision, f *tool.Failure) {
	for i := range d.Reasons {
		r := &d.Reasons[i]
		if r.Code != "network_unresolved" {
			continue
		}
		r.Detail, r.Remedy = f.Message, f.Remedy
		if f.Code == tool.FailLookups {
			r.Code, r.Title = "network_lookup_limit", "The name is looked up too often"
		}
	}
}

// start records that the run begins, runs it, and records how it ended, even
// when the caller has gone by then. What cannot be recorded does not start.
func (c *call) start(ctx context.Context, run tool.Run) tool.Run {
	if refused := c.begin(ctx, &run); refused {
		return run
	}
	report := brokenReport()
	run.Report = report
	defer func() { c.recordFinished(ctx, run) }()
	*report = c.execute(ctx, run)
	redact(report, run.Decision.Redact)
	return run
}

// brokenReport is what is known of a run in which the gateway panicked.
func brokenReport() *tool.Report {
	return &tool.Report{Outcome: tool.Unknown, Err: &tool.Failure{Code: tool.FailInternal, Message: "the gateway itself failed"}}
}

func (c *call) execute(ctx context.Context, run tool.Run) tool.Report {
	switch do := c.plan.Steps[0].Do.(type) {
	case tool.Ask:
		return c.answer(ctx, do, run)
	case tool.Connect:
		return c.connect(ctx, run)
	case tool.Enter:
		return c.enter(ctx, do, run)
	}
	report := c.gateway.runner.Run(ctx, c.job(run))
	if l := c.heldFor(run.Target); l != nil {
		c.gateway.links.reached(l, report.Address)
	}
	return report
}

// job is an allowed run as the runner gets it.
func (c *call) job(run tool.Run) tool.Job {
	job := tool.Job{
		CallID: c.id, DecisionID: run.Decision.ID, Subject: c.caller.Subject, Digest: run.Digest,
		Target: run.Target, Steps: c.plan.Steps, Limits: run.Decision.Limits,
	}
	switch {
	case c.task != nil:
		c.task.watch(&job, run.Decision)
	case c.progress != nil:
		job.Progress = func(p tool.Progress) {
			p.Alias = run.Target.Alias
			c.tell(p)
		}
	}
	return job
}

// begin puts the start of a run on record, or refuses it because that cannot be.
func (c *call) begin(ctx context.Context, run *tool.Run) (refused bool) {
	err := c.recordStarted(ctx, *run)
	if err == nil {
		return false
	}
	c.gateway.log.Error("call refused: its start cannot be recorded", "call", c.id, "problem", err)
	run.Decision.Allow = false
	run.Decision.Reasons = []tool.Reason{{
		Code: "audit_unwritable", Title: "the audit stream cannot be written",
		Remedy: "an operator must make room or repair the file; calls work again as soon as it can be written",
	}}
	return true
}

// nextTarget is where to try after this, if there is somewhere and it is certain
// that nothing has run: the next address of the host itself, when this one is
// refused, or of whatever on the way to it, when this one cannot be reached.
// Policy judges all addresses of jump hosts at once.
func nextTarget(run tool.Run) (tool.Target, bool) {
	t := run.Target
	switch {
	case run.Decision.Allow && unreachable(run.Report):
		return t, advance(&t)
	case !run.Decision.Allow && onlyNetwork(run.Decision.Reasons):
		return t, advanceOne(&t)
	}
	return t, false
}

// advance moves a target to its next combination of addresses: its own one
// changes first, then that of the last jump host, that of the first one last.
func advance(t *tool.Target) bool {
	if advanceOne(t) {
		return true
	}
	t.Via = slices.Clone(t.Via)
	for i := range slices.Backward(t.Via) {
		if advanceOne(&t.Via[i]) {
			return true
		}
	}
	return false
}

// advanceOne moves one host to its next address, or back to its first.
func advanceOne(t *tool.Target) bool {
	next := slices.Index(t.Addresses, t.Address) + 1
	if len(t.Addresses) == 0 {
		return false
	}
	t.Address = t.Addresses[next%len(t.Addresses)]
	return next < len(t.Addresses)
}

func onlyNetwork(reasons []tool.Reason) bool {
	for _, r := range reasons {
		if !strings.HasPrefix(r.Code, "network_") {
			return false
		}
	}
	return len(reasons) > 0
}

func unreachable(r *tool.Report) bool {
	if r == nil || r.Outcome != tool.NotStarted || r.Err == nil {
		return false
	}
	switch r.Err.Code {
	case tool.FailRefused, tool.FailUnreachable, tool.FailConnectTimeout:
		return true
	}
	return false
}

// redact takes out of the kept output what the decision says must not reach a
// result.
func redact(report *tool.Report, patterns []string) {
	for _, p := range patterns {
		re := redaction(p)
		for i := range report.Outputs {
			o := &report.Outputs[i]
			o.Stdout.Kept = re.ReplaceAll(o.Stdout.Kept, []byte(redacted))
			o.Stderr.Kept = re.ReplaceAll(o.Stderr.Kept, []byte(redacted))
		}
	}
}

// decisionsOf are the decisions that a run is the outcome of, the first one first.
func decisionsOf(r tool.Run) []string {
	var ids []string
	if r.Before != nil {
		ids = decisionsOf(*r.Before)
	}
	if r.Decision.ID != "" {
		ids = append(ids, r.Decision.ID)
	}
	return ids
}

// result formats what happened on each host.
func (c *call) result(walked []Judged) Result {
	var runs []tool.Run
	var r Result
	for _, j := range walked {
		runs = append(runs, j.Run)
		r.DecisionIDs = append(r.DecisionIDs, decisionsOf(j.Run)...)
	}
	if c.task != nil {
		r.Running = c.task.done
	}
	formatted := c.plan.Result(runs)
	r.Structured, r.Text, r.IsError = formatted, formatted.Text(), formatted.Failed()
	return r
}

// invalid answers a call that never got as far as a decision, and records it.
func (c *call) invalid(ctx context.Context, p *tool.Problem) Result {
	c.recordInvalid(ctx, p)
	s := tool.Status{Status: tool.StatusInvalid, Grounds: tool.Grounds{Error: p}}
	return Result{Structured: s, Text: s.Text(), IsError: true}
}

// targets looks the hosts of the plan up in the inventory and among the
// connections that the caller has open. A plan without a host runs in the gateway
// itself.
func (c *call) targets() ([]tool.Target, *tool.Problem) {
	targets, problem := c.targetsIn(c.plan.Scope)
	if c.plan.Onto == nil || problem != nil {
		return targets, problem
	}
	onto, problem := c.targetsIn(c.plan.Onto.Scope)
	return append(targets, onto...), problem
}

func (c *call) targetsIn(scope tool.Scope) ([]tool.Target, *tool.Problem) {
	conf := c.gateway.config.Load()
	switch {
	case scope.Opening != nil, scope.Open:
		t, problem := c.linked(conf, scope)
		return []tool.Target{t}, problem
	case scope.Alias != "":
		t, problem := targetOf(conf, scope.Alias)
		return []tool.Target{t}, problem
	case scope.Tag != "":
		var targets []tool.Target
		mine := c.gateway.view(c.caller)
		for _, h := range conf.HostsByTag(scope.Tag) {
			if !mine.knows(h.Alias) {
				continue // a result would name a host that no list does
			}
			t, problem := targetOf(conf, h.Alias)
			if problem != nil {
				return nil, problem
			}
			targets = append(targets, t)
		}
		return targets, nil
	}
	return []tool.Target{{Source: "gateway"}}, nil
}

func targetOf(conf *config.Config, alias string) (tool.Target, *tool.Problem) {
	h, ok := conf.Host(alias)
	if !ok {
		return tool.Target{}, unknownHost(alias)
	}
	t := tool.Target{
		Alias: h.Alias, Hostname: h.Hostname, Port: h.Port, User: h.User, Kind: h.Kind, Tags: h.Tags,
		Source: "inventory", Auth: h.Auth, Credentials: h.Credentials, Description: h.Description,
	}
	for _, hop := range h.Via {
		v, problem := targetOf(conf, hop)
		if problem != nil {
			return t, problem
		}
		v.Via = nil // h.Via is the whole way
		t.Via = append(t.Via, v)
	}
	return t, nil
}

func unknownHost(alias string) *tool.Problem {
	return &tool.Problem{
		Code: "unknown_host", Message: fmt.Sprintf("the inventory has no host %q", alias),
		Remedy: "ssh_list_hosts lists the aliases",
	}
}

// resolve finds the addresses of a target and of every hop on its way, once. The
// address that a target has already is preferred.
func (c *call) resolve(ctx context.Context, t *tool.Target) *tool.Failure {
	if _, asks := c.plan.Steps[0].Do.(tool.Ask); asks || t.Hostname == "" {
		return nil
	}
	var first *tool.Failure
	for i := range t.Via {
		if f := c.resolve(ctx, &t.Via[i]); f != nil && first == nil {
			first = f
		}
	}
	addresses, failure := c.gateway.resolver.resolve(ctx, t.Hostname)
	t.Addresses, t.Address = preferred(addresses, t.Address)
	if first == nil {
		first = failure
	}
	return first
}

// preferred puts one of some addresses first, if it is among them, and gives the
// first.
func preferred(addresses []netip.Addr, one netip.Addr) ([]netip.Addr, netip.Addr) {
	if i := slices.Index(addresses, one); i > 0 {
		addresses = slices.Concat([]netip.Addr{one}, addresses[:i], addresses[i+1:])
	}
	if len(addresses) == 0 {
		return nil, netip.Addr{}
	}
	return addresses, addresses[0]
}
