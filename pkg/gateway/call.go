package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"

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
		Remedy: "did you mean " + c.gateway.similar(c.name, c.gateway.view(c.caller).tools()),
	}
}

// onEach walks the plan on every target, side by side under a bound; one
// host's failure stops nobody.
func (c *call) onEach(ctx context.Context, targets []tool.Target) []Judged {
	if len(targets) == 1 {
		return []Judged{c.walk(ctx, targets[0])}
	}
	walked := make([]Judged, len(targets))
	slots := make(chan struct{}, c.gateway.config.Load().Settings.Limits.ParallelHosts)
	var wg sync.WaitGroup
	for i, t := range targets {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			walked[i] = c.walk(ctx, t)
		})
	}
	wg.Wait()
	return walked
}

// walk takes the plan to one host: judge, then refuse or run. The name is
// resolved once; each address it has is judged on its own, and the next one is
// tried only when it is certain that nothing ran at this one. A dry run ends
// after the decision.
func (c *call) walk(ctx context.Context, t tool.Target) Judged {
	usage, release := c.gateway.usage.begin(c.caller.Subject, t.Alias, c.gateway.now())
	defer release()
	unresolved := c.resolve(ctx, &t)
	for {
		judged := c.decide(ctx, t, usage, unresolved)
		switch run := &judged.Run; {
		case c.plan.DryRun:
		case run.Decision.Allow:
			*run = c.start(ctx, *run)
		default:
			c.recordRefused(ctx, *run)
		}
		next, ok := nextAddress(judged.Run)
		if !ok || ctx.Err() != nil {
			return judged
		}
		t.Address = next
	}
}

// decide builds the input and has it judged.
func (c *call) decide(ctx context.Context, t tool.Target, usage policy.Usage, unresolved *tool.Failure) Judged {
	run := tool.Run{CallID: c.id, Target: t, Plan: c.plan, Digest: tool.Digest(t, c.plan.Steps), Hash: c.hash()}
	in := policy.NewInput(policy.Facts{
		CallID: c.id, Tool: c.judged, Caller: c.caller, Plan: c.plan, Target: t,
		Digest: run.Digest, Usage: usage, Now: c.gateway.now(),
	})
	run.Decision = c.gateway.decider.Decide(ctx, in, policy.Mark{Mode: c.mode(), Digest: run.Digest})
	if unresolved != nil {
		explainUnresolved(&run.Decision, unresolved)
	}
	return Judged{Input: in, Run: run}
}

// hash names the command in both records and results; empty without one.
func (c *call) hash() string {
	if doc := c.plan.Steps[0].Op.Command; doc != nil {
		return audit.CommandHash(doc.Text)
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
	for i, r := range d.Reasons {
		if strings.HasPrefix(r.Code, "network_") {
			d.Reasons[i].Detail = f.Message
			d.Reasons[i].Remedy = f.Remedy
		}
	}
}

// start records that the run begins, runs it, and records how it ended, even
// when the caller has gone by then. What cannot be recorded does not start.
func (c *call) start(ctx context.Context, run tool.Run) tool.Run {
	if err := c.recordStarted(ctx, run); err != nil {
		c.gateway.log.Error("call refused: its start cannot be recorded", "call", c.id, "problem", err)
		run.Decision.Allow = false
		run.Decision.Reasons = []tool.Reason{{
			Code: "audit_unwritable", Title: "the audit stream cannot be written",
			Remedy: "an operator must make room or repair the file; calls work again as soon as it can be written",
		}}
		return run
	}
	report := tool.Report{Outcome: tool.Unknown, Err: &tool.Failure{Code: tool.FailInternal, Message: "the gateway itself failed"}}
	run.Report = &report
	defer func() { c.recordFinished(ctx, run) }()
	report = c.execute(ctx, run)
	redact(&report, run.Decision.Redact)
	return run
}

func (c *call) execute(ctx context.Context, run tool.Run) tool.Report {
	if ask, ok := c.plan.Steps[0].Do.(tool.Ask); ok {
		return c.answer(ctx, ask, run)
	}
	return c.gateway.runner.Run(ctx, tool.Job{
		CallID: c.id, DecisionID: run.Decision.ID, Subject: c.caller.Subject, Digest: run.Digest,
		Target: run.Target, Steps: c.plan.Steps, Limits: run.Decision.Limits, Progress: c.progress,
	})
}

// nextAddress is the address to try after this one, if there is one and it is
// certain that nothing has run.
func nextAddress(run tool.Run) (netip.Addr, bool) {
	var none netip.Addr
	switch {
	case !run.Decision.Allow && !onlyNetwork(run.Decision.Reasons):
		return none, false
	case run.Decision.Allow && !unreachable(run.Report):
		return none, false
	}
	for i, a := range run.Target.Addresses {
		if a == run.Target.Address && i+1 < len(run.Target.Addresses) {
			return run.Target.Addresses[i+1], true
		}
	}
	return none, false
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
// result. A pattern that does not compile hides everything: the bundle's gate
// should have refused it.
func redact(report *tool.Report, patterns []string) {
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			re = regexp.MustCompile(`(?s).+`)
		}
		for i := range report.Outputs {
			o := &report.Outputs[i]
			o.Stdout.Kept = re.ReplaceAll(o.Stdout.Kept, []byte("[redacted]"))
			o.Stderr.Kept = re.ReplaceAll(o.Stderr.Kept, []byte("[redacted]"))
		}
	}
}

// result formats what happened on each host.
func (c *call) result(walked []Judged) Result {
	var runs []tool.Run
	var r Result
	for _, j := range walked {
		runs = append(runs, j.Run)
		r.DecisionIDs = append(r.DecisionIDs, j.Run.Decision.ID)
	}
	formatted := c.tool.Format(c.args, runs)
	r.Structured, r.Text, r.IsError = formatted, formatted.Text(), formatted.Failed()
	return r
}

// invalid answers a call that never got as far as a decision, and records it.
func (c *call) invalid(ctx context.Context, p *tool.Problem) Result {
	c.recordInvalid(ctx, p)
	s := tool.Status{Status: tool.StatusInvalid, Error: p}
	return Result{Structured: s, Text: s.Text(), IsError: true}
}

// targets looks the hosts of the plan up in the inventory. A plan without a
// host runs in the gateway itself.
func (c *call) targets() ([]tool.Target, *tool.Problem) {
	conf := c.gateway.config.Load()
	scope := c.plan.Scope
	switch {
	case scope.Alias != "":
		t, problem := targetOf(conf, scope.Alias)
		return []tool.Target{t}, problem
	case scope.Tag != "":
		var targets []tool.Target
		for _, h := range conf.HostsByTag(scope.Tag) {
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

// resolve finds the addresses of a target and of every hop on its way, once.
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
	t.Addresses = addresses
	if len(addresses) > 0 {
		t.Address = addresses[0]
	}
	if first == nil {
		first = failure
	}
	return first
}
