package gateway

import (
	"context"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/tool"
)

// recordStarted puts the start of a run on record. Its error refuses the run.
func (c *call) recordStarted(ctx context.Context, run tool.Run) error {
	return c.gateway.audit.Write(context.WithoutCancel(ctx), c.event(audit.Started, run))
}

// recordRefused puts a refusal on record. The decision log has it already, so a
// failure here is told and refuses nothing more.
func (c *call) recordRefused(ctx context.Context, run tool.Run) {
	e := c.event(audit.Refused, run)
	if len(run.Decision.Reasons) > 0 {
		e.Failure = run.Decision.Reasons[0].Code
	}
	c.save(ctx, e)
}

// recordInvalid puts a call on record that never got as far as a decision.
func (c *call) recordInvalid(ctx context.Context, p *tool.Problem) {
	e := c.event(audit.Invalid, tool.Run{})
	e.Failure, e.Detail = p.Code, p.Message
	c.save(ctx, e)
}

// recordFinished puts the end of a run on record, whoever has gone by then.
func (c *call) recordFinished(ctx context.Context, run tool.Run) {
	e, r := c.event(audit.Finished, run), run.Report
	e.Outcome = string(r.Outcome)
	e.DurationMS = r.Duration.Milliseconds()
	e.Stop = string(r.Stop)
	e.Timeout = r.Stop == tool.StopTimeout
	e.Cancelled = r.Stop == tool.StopCancelled || r.Stop == tool.StopDisconnect
	e.Survivors = len(r.Survivors)
	if r.Stop != "" {
		e.Stopped = &r.Stopped
	}
	if r.Address != "" {
		e.TargetIP = r.Address
	}
	if r.Err != nil {
		e.Failure, e.Detail = string(r.Err.Code), r.Err.Error()
	}
	for _, o := range r.Outputs {
		e.BytesOut += o.Stdout.Bytes
		e.BytesErr += o.Stderr.Bytes
		e.Truncated = e.Truncated || o.Stdout.Truncated || o.Stderr.Truncated
		e.ExitCode, e.Signal = o.Exit, o.Signal
	}
	c.save(ctx, e)
}

// event is what every record of a call begins with.
func (c *call) event(kind audit.Type, run tool.Run) audit.Event {
	e := audit.Event{
		Type: kind, CallID: c.id, DecisionID: run.Decision.ID, TraceID: c.caller.Trace.ID, Plan: run.Digest,
		Subject: c.caller.Subject, Client: c.caller.Client.Name, Tool: c.name,
		Alias: run.Target.Alias, Hash: run.Hash,
	}
	if c.caller.Session != "" {
		e.Session = audit.Fingerprint(c.caller.Session)
	}
	if run.Target.Address.IsValid() {
		e.TargetIP = run.Target.Address.String()
	}
	return e
}

// SessionOpened puts the begin of an MCP session on record.
func (g *Gateway) SessionOpened(ctx context.Context, caller tool.Caller) {
	c := &call{gateway: g, caller: caller}
	c.save(ctx, c.event(audit.SessionOpen, tool.Run{}))
	g.links.sessionOpened(caller)
}

// SessionClosed puts the end of an MCP session on record, and why it ended, and
// closes what was open in it.
func (g *Gateway) SessionClosed(ctx context.Context, caller tool.Caller, why tool.Stop) {
	c := &call{gateway: g, caller: caller}
	e := c.event(audit.SessionClose, tool.Run{})
	e.Detail = string(why)
	c.save(ctx, e)
	g.links.sessionClosed(caller)
}

// SessionRefused puts on record that a subject named a session that it does not
// have, its own or anybody's.
func (g *Gateway) SessionRefused(ctx context.Context, caller tool.Caller) {
	c := &call{gateway: g, caller: caller}
	c.recordInvalid(ctx, &tool.Problem{Code: "no_session", Message: "the subject has no session of this id"})
}

// save writes a record that nothing waits for. What cannot be saved is counted
// and told: the next call will be refused at its start.
func (c *call) save(ctx context.Context, e audit.Event) {
	if err := c.gateway.audit.Write(context.WithoutCancel(ctx), e); err != nil {
		c.gateway.unsaved.Add(1)
		c.gateway.log.Error("not on record", "call", c.id, "type", e.Type, "problem", err)
	}
}
