package gateway

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// explain has a dry run that asks for it say why it is decided as it is. The
// rules are the operator's, so whether the caller may see them is a question of
// its own, judged and on record like any other.
func (c *call) explain(ctx context.Context, judged *Judged) {
	if !c.plan.Explain || !c.plan.DryRun {
		return
	}
	if refusal := c.mayKnow(ctx); refusal != nil {
		judged.Run.Unexplained = refusal
		return
	}
	g := c.gateway
	others := g.Elsewhere(ctx, c.caller, judged.Run.Target.Alias)
	x, err := g.decider.Explain(ctx, judged.Input.Document(), others)
	if err != nil {
		g.log.Warn("dry run not explained", "call", c.id, "problem", err)
		judged.Run.Unexplained = []tool.Reason{{
			Code: "explain_failed", Title: "the explanation was not ready in time", Remedy: "ask for a shorter command, or without it",
		}}
		return
	}
	judged.Run.Explanation = withoutPlaces(x)
}

// culprit is, for a tool that plans another one's call, the first command of a
// denied line that would be denied by itself, where it is the commands that are at
// fault.
func (c *call) culprit(ctx context.Context, run tool.Run) string {
	if c.plan.As == "" || run.Decision.Allow || slices.ContainsFunc(run.Decision.Reasons, ofNoCommand) {
		return ""
	}
	members := c.plan.Steps[0].Members()
	if len(members) < 2 {
		return ""
	}
	for _, member := range members {
		alone := c.plan
		alone.Steps = []tool.Step{member}
		facts := policy.Facts{CallID: c.id, Tool: c.judged, Caller: c.caller, Plan: alone, Target: run.Target, Now: c.gateway.now()}
		if !c.gateway.decider.Would(ctx, policy.NewInput(facts)) {
			return member.Op.Command.Text
		}
	}
	return ""
}

// ofNoCommand says that a reason would stand whatever the command.
func ofNoCommand(r tool.Reason) bool {
	return slices.ContainsFunc([]string{"host_", "network_", "limit_"}, func(prefix string) bool { return strings.HasPrefix(r.Code, prefix) })
}

// mayKnow asks whether the caller may see the rules; it gives the reasons why
// not.
func (c *call) mayKnow(ctx context.Context) []tool.Reason {
	ask := *c
	ask.plan = tool.Plan{Steps: []tool.Step{tool.AskGateway(tool.GatewayExplain, tool.AskRules, "")}, DryRun: true}
	ask.judged = c.tool
	d := ask.decide(ctx, tool.Target{Source: "gateway"}, policy.Usage{}, nil).Run.Decision
	if d.Allow {
		return nil
	}
	return d.Reasons
}

// withoutPlaces leaves out where on the gateway's disk a team's bundles are.
func withoutPlaces(x tool.Explanation) *tool.Explanation {
	for i := range x.Spoke {
		x.Spoke[i].File = inBundle(x.Spoke[i].File)
	}
	for i := range x.Failed {
		x.Failed[i].File = inBundle(x.Failed[i].File)
	}
	return &x
}

func inBundle(file string) string {
	for _, root := range []string{"/custom/", "/sallyport/"} {
		if i := strings.LastIndex(file, root); i >= 0 {
			return file[i+1:]
		}
	}
	return file
}

// maxElsewhere is how many other hosts are looked up for an explanation.
const maxElsewhere = 8

// Elsewhere are hosts that a caller may know of, with their addresses, other than
// one; those that are most like it first.
func (g *Gateway) Elsewhere(ctx context.Context, caller tool.Caller, alias string) []tool.Target {
	conf := g.config.Load()
	here, _ := conf.Host(alias)
	hosts := slices.DeleteFunc(g.view(caller).hosts(), func(h config.Host) bool { return h.Alias == alias })
	slices.SortStableFunc(hosts, func(a, b config.Host) int { return cmp.Compare(common(b.Tags, here.Tags), common(a.Tags, here.Tags)) })
	var targets []tool.Target
	for _, h := range hosts[:min(len(hosts), maxElsewhere)] {
		t, problem := targetOf(conf, h.Alias)
		if problem != nil {
			continue
		}
		c := &call{gateway: g, caller: caller, plan: tool.Plan{Steps: []tool.Step{{}}}}
		if c.resolve(ctx, &t) == nil {
			targets = append(targets, t)
		}
	}
	return targets
}

// common counts the words that are in both lists.
func common(a, b []string) int {
	n := 0
	for _, word := range a {
		if slices.Contains(b, word) {
			n++
		}
	}
	return n
}
