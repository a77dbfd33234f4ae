package gateway

import (
	"context"
	"path"
	"slices"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// half is one end of a copy: a call of its own as far as policy and the records
// are concerned, with the same id.
type half struct {
	*call
	usage  policy.Usage
	judged Judged
}

// onBoth walks the two halves of a plan, each on its own host. Each is judged by
// itself, and neither goes on without the other. The first half's result is the
// first of the two.
func (c *call) onBoth(ctx context.Context, targets []tool.Target) []Judged {
	from, release := c.half(meeting(c.plan, targets[1]), targets[0])
	defer release()
	to, release := c.half(meeting(*c.plan.Onto, targets[0]), targets[1])
	defer release()
	halves := []*half{from, to}
	for i, h := range halves {
		unresolved := h.resolve(ctx, &targets[i])
		h.judged = h.decide(ctx, targets[i], h.usage, unresolved)
	}
	ctx, cancel := c.limitWhole(ctx, shorter(from.judged.Run.Decision.Limits, to.judged.Run.Decision.Limits))
	defer cancel()
	for run(ctx, halves) && c.planOn(ctx, halves) {
	}
	return []Judged{from.judged, to.judged}
}

// half is the call that one end of a copy is. The half of the source alone knows
// what comes next.
func (c *call) half(p tool.Plan, t tool.Target) (*half, func()) {
	own := *c
	p.Onto, p.As, p.DryRun, p.Wish = nil, c.plan.As, c.plan.DryRun, c.plan.Wish
	own.plan = p.In(t.Dir)
	usage, release := c.gateway.usage.begin(c.caller.Subject, t.Alias, c.gateway.now())
	return &half{call: &own, usage: usage}, func() {
		release()
		c.gateway.tasks.room()
	}
}

// meeting is one half of a copy when the other end is known: policy knows that by
// the name of the host, whatever the caller calls the connection to it.
func meeting(p tool.Plan, other tool.Target) tool.Plan {
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		if flow := p.Steps[i].Op.Flow; flow != nil {
			known := *flow
			known.Alias = other.Alias
			if other.Dir != "" && !path.IsAbs(known.Path) {
				known.Path = path.Join(other.Dir, known.Path)
			}
			p.Steps[i].Op.Flow = &known
		}
	}
	return p
}

// shorter is the time limit of two; zero is none.
func shorter(a, b tool.Limits) tool.Limits {
	if a.Seconds == 0 || b.Seconds > 0 && b.Seconds < a.Seconds {
		return b
	}
	return a
}

// run follows the decisions on both halves, and says whether both came to an end
// that something can follow from. When one is refused, nothing runs.
func run(ctx context.Context, halves []*half) bool {
	refused := slices.ContainsFunc(halves, func(h *half) bool { return !h.judged.Run.Decision.Allow })
	switch {
	case halves[0].plan.DryRun:
		return false
	case refused:
		for _, h := range halves {
			if !h.judged.Run.Decision.Allow {
				h.recordRefused(ctx, h.judged.Run)
			}
		}
		return false
	}
	if _, copies := halves[0].plan.Steps[0].Do.(tool.Send); copies {
		copyBetween(ctx, halves[0], halves[1])
		return false
	}
	for _, h := range halves {
		h.judged = h.follow(ctx, h.judged, h.usage, nil)
	}
	return !slices.ContainsFunc(halves, func(h *half) bool {
		r := h.judged.Run.Report
		return r == nil || r.Err != nil || r.Stop != ""
	})
}

// planOn plans what follows from what both hosts said, and has it judged. It is
// false when nothing does.
func (c *call) planOn(ctx context.Context, halves []*half) bool {
	first := halves[0].judged.Run
	if halves[0].plan.Next == nil {
		return false
	}
	next, failure := halves[0].plan.Next(slices.Concat(first.Report.Outputs, halves[1].judged.Run.Report.Outputs))
	if failure != nil {
		first.Report.Err = failure
	}
	if next == nil || next.Onto == nil {
		return false
	}
	for i, plan := range []tool.Plan{*next, *next.Onto} {
		h, before := halves[i], halves[i].judged.Run
		plan.Onto = nil
		h.plan = meeting(plan, halves[1-i].judged.Run.Target).In(before.Target.Dir)
		h.judged = h.decide(ctx, before.Target, h.usage, nil)
		h.judged.Run.Before = &before
	}
	return true
}

// copyBetween has content sent from one host to the other, once both starts are
// on record.
func copyBetween(ctx context.Context, from, to *half) {
	began := []*half{}
	for _, h := range []*half{from, to} {
		if refusal := h.begin(ctx, &h.judged.Run); refusal {
			for _, other := range began {
				other.judged.Run.Report = &tool.Report{Outcome: tool.NotStarted}
				other.recordFinished(ctx, other.judged.Run)
			}
			return
		}
		began = append(began, h)
	}
	from.judged.Run.Report, to.judged.Run.Report = brokenReport(), brokenReport()
	defer func() {
		from.recordFinished(ctx, from.judged.Run)
		to.recordFinished(ctx, to.judged.Run)
	}()
	a, b := from.gateway.runner.Copy(ctx, from.job(from.judged.Run), to.job(to.judged.Run))
	from.judged.Run.Report, to.judged.Run.Report = &a, &b
}
