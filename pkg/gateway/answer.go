package gateway

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tool"
)

// answer gives what the gateway itself was asked. It is judged, recorded and
// formatted like a run on a host.
func (c *call) answer(ctx context.Context, ask tool.Ask, run tool.Run) tool.Report {
	g := c.gateway
	begun := g.now()
	var value any
	var failure *tool.Failure
	switch ask.Question {
	case tool.AskPing:
		value = "pong"
	case tool.AskHosts:
		value = aliasesOf(g.view(c.caller).hosts())
	case tool.AskInventory:
		value = g.inventory(c.caller)
	case tool.AskHost:
		value, failure = g.describe(ask.Subject, c.caller)
	case tool.AskCapabilities:
		value = c.capabilities(ctx, run)
	case tool.AskReload:
		value, failure = c.reload(ctx)
	case tool.AskTask, tool.AskTaskResult:
		value, failure = c.taskFacts(ctx, ask)
	case tool.AskTaskOutput:
		value, failure = c.taskLines(ctx, ask)
	case tool.AskCancel:
		value = c.cancel(ctx, ask.Subject)
	case tool.AskDisconnect:
		value, failure = g.links.disconnect(g.links.spaceOf(c.caller), ask.Subject)
	case tool.AskIdentity:
		value, failure = c.identity()
	}
	return reportOf(value, failure, g.now().Sub(begun))
}

func reportOf(value any, failure *tool.Failure, took time.Duration) tool.Report {
	if failure != nil {
		return tool.Report{Outcome: tool.Finished, Duration: took, Err: failure}
	}
	return tool.Report{Outcome: tool.Finished, Duration: took, Outputs: []tool.Output{{Answer: value}}}
}

func aliasesOf(hosts []config.Host) []string {
	aliases := []string{}
	for _, h := range hosts {
		aliases = append(aliases, h.Alias)
	}
	return aliases
}

func (g *Gateway) inventory(caller tool.Caller) []tool.HostFacts {
	facts := []tool.HostFacts{}
	for _, h := range g.view(caller).hosts() {
		facts = append(facts, g.factsOf(h, caller))
	}
	return facts
}

func (g *Gateway) describe(alias string, caller tool.Caller) (any, *tool.Failure) {
	conf := g.config.Load()
	h, ok := conf.Host(alias)
	if !ok {
		return nil, failureOf(unknownHost(alias))
	}
	return g.factsOf(h, caller), nil
}

func (g *Gateway) factsOf(h config.Host, caller tool.Caller) tool.HostFacts {
	return tool.HostFacts{
		Alias: h.Alias, Host: h.Hostname, Port: h.Port, User: h.User, Kind: h.Kind, Tags: h.Tags,
		Description: h.Description, Via: h.Via, HasCredentials: h.Credentials != "",
		Profiles: g.profiles(h.Alias, caller),
	}
}

// profiles are the command profiles that policy.yml grants a caller on a host.
func (g *Gateway) profiles(alias string, caller tool.Caller) []string {
	site := g.config.Load().Site()
	grants := site.Classes[site.Hosts[alias].Class].Allow
	names := map[string]bool{}
	for profile := range grants.Any {
		names[profile] = true
	}
	for profile := range grants.Subjects[caller.Subject] {
		names[profile] = true
	}
	for _, group := range caller.Groups {
		for profile := range grants.Groups[group] {
			names[profile] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func failureOf(p *tool.Problem) *tool.Failure {
	return &tool.Failure{Code: tool.FailureCode(p.Code), Message: p.Message, Remedy: p.Remedy}
}

// taskFacts waits, as long as it was asked to, until a task has ended, and says
// how it stands.
func (c *call) taskFacts(ctx context.Context, ask tool.Ask) (any, *tool.Failure) {
	t, failure := c.ownTask(ask.Subject)
	if failure != nil {
		return nil, failure
	}
	c.await(ctx, t, ask.Wait, t.done)
	return c.gateway.tasks.facts(t), nil
}

// taskLines waits, as long as it was asked to, until a task has said more or
// has ended, and gives the next or the last of its lines.
func (c *call) taskLines(ctx context.Context, ask tool.Ask) (any, *tool.Failure) {
	t, failure := c.ownTask(ask.Subject)
	if failure != nil {
		return nil, failure
	}
	c.await(ctx, t, ask.Wait, t.output.more(ask.Page.Cursor))
	state := c.gateway.tasks.facts(t).State
	e := t.output.read(ask.Page.Cursor, ask.Page.Lines)
	return tool.TaskLines{
		ID: t.id(), State: state, Lines: e.lines, Total: e.total, Next: e.next, Lost: e.lost,
		More: e.next < e.total || !state.Final(), Withheld: e.withheld,
	}, nil
}

// await waits for an event of a task, and tells how the task stands meanwhile.
func (c *call) await(ctx context.Context, t *task, seconds int, event <-chan struct{}) {
	if seconds == 0 {
		return
	}
	late := time.NewTimer(time.Duration(seconds) * time.Second)
	defer late.Stop()
	beat := time.NewTicker(t.interval)
	defer beat.Stop()
	for {
		select {
		case <-event:
			return
		case <-late.C:
			return
		case <-ctx.Done():
			return
		case <-beat.C:
			facts := c.gateway.tasks.facts(t)
			c.tell(tool.Progress{Alias: t.alias(), Phase: string(facts.State), Bytes: facts.Bytes})
		}
	}
}

func (c *call) ownTask(id string) (*task, *tool.Failure) {
	t := c.gateway.tasks.find(c.caller.Subject, id)
	if t == nil {
		return nil, &tool.Failure{
			Code: "unknown_task", Message: fmt.Sprintf("there is no task %q of yours, or it has expired", id),
			Remedy: "ssh_run_async gives the id of each task; its result is kept for keepAlive seconds",
		}
	}
	return t, nil
}

// cancel asks a task or another call of the same subject to end. The id may be
// that of both, a task and the call that is about to submit it: the call comes
// first, see [call.detach].
func (c *call) cancel(ctx context.Context, id string) tool.Cancellation {
	call := id != c.id && c.gateway.cancels.cancel(c.caller.Subject, id)
	task := c.gateway.tasks.cancel(ctx, c.caller.Subject, id, tool.StopCancelled)
	return tool.Cancellation{ID: id, Found: call || task}
}

func (c *call) reload(ctx context.Context) (any, *tool.Failure) {
	revisions, err := c.gateway.Reload(ctx, c.caller.Subject)
	if err != nil {
		// Where the directory is, is not the caller's business.
		problems := strings.ReplaceAll(err.Error(), c.gateway.config.Load().Dir+string(filepath.Separator), "")
		return nil, &tool.Failure{
			Code: "reload", Message: "the configuration does not load; the last good one stays: " + problems,
			Remedy: "an operator can see every problem with: sallyport validate",
		}
	}
	return revisions, nil
}
