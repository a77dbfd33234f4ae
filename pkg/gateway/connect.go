package gateway

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tool"
)

// linked is the target of a plan for a connection: the one that it asks to be kept
// open, or one that the caller has. A host of the inventory needs none.
func (c *call) linked(conf *config.Config, scope tool.Scope) (t tool.Target, problem *tool.Problem) {
	ls := c.gateway.links
	var l *link
	if scope.Opening != nil {
		l, problem = ls.open(c, scope)
	} else {
		l = ls.use(ls.spaceOf(c.caller), scope.Alias)
	}
	switch {
	case problem != nil:
		return t, problem
	case l != nil:
		c.held = append(c.held, l)
		t, problem = ls.target(conf, l)
	case scope.Alias == "" || scope.Alias == standardAlias:
		return t, ls.noDefault(ls.spaceOf(c.caller))
	default:
		if t, problem = targetOf(conf, scope.Alias); problem != nil {
			return t, noTarget(scope.Alias)
		}
	}
	if scope.Dir == tool.Home && l != nil {
		scope.Dir = l.start
	}
	if problem == nil {
		t.Dir, problem = workingDirectory(t, scope.Dir)
	}
	return t, problem
}

// workingDirectory is where a call works that asks for a directory of its own.
func workingDirectory(t tool.Target, asked string) (string, *tool.Problem) {
	switch {
	case asked == "":
		return t.Dir, nil
	case path.IsAbs(asked):
		return path.Clean(asked), nil
	case t.Dir == "":
		return "", &tool.Problem{
			Code: "bad_arguments", Message: fmt.Sprintf("%q is relative, and where it begins on %s is not known", asked, t.Alias),
			Remedy: "write the directory from the root, or connect first",
		}
	}
	return path.Join(t.Dir, asked), nil
}

// letGo ends the call's hold on connections. A password that came with it and is
// not that of a connection which is open now is wiped.
func (c *call) letGo() {
	owned := false
	o := c.plan.Scope.Opening
	for _, l := range c.held {
		owned = owned || o != nil && l.adhoc == o.AdHoc
		c.gateway.links.release(l)
	}
	if o != nil && o.AdHoc != nil && !owned {
		o.AdHoc.Password.Wipe()
	}
}

// heldFor is the connection that a target is reached by; nil for none.
func (c *call) heldFor(t tool.Target) *link {
	i := slices.IndexFunc(c.held, func(l *link) bool { return l.id == t.Conn.ID })
	if i < 0 {
		return nil
	}
	return c.held[i]
}

// connect has the runner make sure of a connection, and keeps it open.
func (c *call) connect(ctx context.Context, run tool.Run) tool.Report {
	l, ls := c.heldFor(run.Target), c.gateway.links
	ls.dialling(l)
	report := c.gateway.runner.Run(ctx, c.job(run))
	if len(report.Outputs) == 1 {
		if made, ok := report.Outputs[0].Answer.(tool.Connected); ok && report.Err == nil {
			report.Outputs[0].Answer = ls.opened(ctx, l, made)
		}
	}
	return report
}

// enter has the runner try a directory, and the connection's calls work in it from
// now on.
func (c *call) enter(ctx context.Context, do tool.Enter, run tool.Run) tool.Report {
	l := c.heldFor(run.Target)
	if l == nil {
		return reportOf(nil, &tool.Failure{
			Code: "no_connection", Message: fmt.Sprintf("no connection to %s is open that could keep a working directory", run.Target.Alias),
			Remedy: "connect first, or send cwd with each call",
		}, 0)
	}
	report := c.gateway.runner.Run(ctx, c.job(run))
	if report.Err == nil && report.Stop == "" {
		c.gateway.links.enter(l, do.Path)
	}
	return report
}

// identity is the caller's own key.
func (c *call) identity() (any, *tool.Failure) {
	id, err := c.gateway.identities.Identity(c.caller.Subject)
	if err != nil {
		return nil, &tool.Failure{
			Code: tool.FailCredentials, Message: "the caller's key cannot be kept or read", Cause: err,
			Remedy: "an operator finds the reason in the audit stream; state_dir in sallyport.yml says where keys are kept",
		}
	}
	return id, nil
}
