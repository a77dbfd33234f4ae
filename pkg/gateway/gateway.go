// Package gateway is the walk: the one road from a tool call to a host.
//
// [Gateway.Call] reads like the list in which it is promised: find the tool and
// plan, look up the host and resolve its name once, build the input document,
// decide and log, refuse or record the start, run exactly that plan, record the
// end, format. A dry run is the same function up to the decision, so a plan
// cannot disagree with a run. Several hosts are one plan, one input and one
// decision each, side by side under a bound.
//
// The package is the only place where the parts meet. It declares the narrow
// interfaces that it needs, a [Decider] and a [Runner] among them, and is given
// them; it never sees OPA, SSH or MCP itself.
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// Decider judges an input and has logged its decision before it returns. It
// never fails: what cannot be judged is refused.
type Decider interface {
	Decide(ctx context.Context, in policy.Input, m policy.Mark) tool.Decision
	// Would judges without a record, for lists of what could be used; HostFacts
	// are the fields of a host that its answer depends on, beside the classes and
	// the kind of the host.
	Would(ctx context.Context, in policy.Input) bool
	HostFacts() []string
	// Explain says why a document is judged as it is, and which changes to the
	// call, other hosts among them, would be allowed.
	Explain(ctx context.Context, d policy.Document, others []tool.Target) (tool.Explanation, error)
	Revisions() map[string]string
	Ready() error
}

// Runner runs an allowed job and tells the truth about how it ended.
type Runner interface {
	Run(ctx context.Context, job tool.Job) tool.Report
	// Copy runs two jobs that are the halves of one copy.
	Copy(ctx context.Context, from, to tool.Job) (tool.Report, tool.Report)
	// Disconnect ends what belongs to connections that were kept open, in this
	// order, and returns when it is gone. Nothing runs on them.
	Disconnect(conns []string)
	// Forget ends what is kept for a subject in case of another call.
	Forget(subject string)
}

// Identities keeps a key for each subject.
type Identities interface {
	// Identity is the subject's key, made when it is asked for first.
	Identity(subject string) (tool.Identity, error)
}

// Recorder takes what happened. An error means that it is not on record.
type Recorder interface {
	Write(ctx context.Context, e audit.Event) error
}

// Options are the parts. All but Reload and Logger are required.
type Options struct {
	Tools []*tool.Tool
	// Resources can be read by URI.
	Resources []*tool.Resource
	// Profiles are the names that a rule of policy.yml can grant, for guides.
	Profiles []string
	Config   *config.Config
	Decider  Decider
	Runner   Runner
	Audit    Recorder
	// Identities may be nil where no tool asks for one.
	Identities Identities
	Lookup     Lookup // default: the system's resolver
	// Reload builds everything anew from the configuration files and swaps it
	// in, or changes nothing. Nil: there is nothing to reload.
	Reload func(ctx context.Context) (*config.Config, error)
	Logger *slog.Logger
	Now    func() time.Time
}

// Gateway makes calls. It is safe for concurrent use.
type Gateway struct {
	tools map[string]*tool.Tool // those of resources, too
	names []string              // of those that are listed
	reads []*tool.Resource
	views views
	// profileNames are all that there are.
	profileNames []string
	config       atomic.Pointer[config.Config]
	decider      Decider
	runner       Runner
	audit        Recorder
	resolver     resolver
	usage        usage
	tasks        *tasks
	links        *links
	identities   Identities
	cancels      cancels
	calls        inFlight
	reload       func(ctx context.Context) (*config.Config, error)
	reloads      sync.Mutex
	unsaved      atomic.Int64 // outcomes that could not be recorded
	log          *slog.Logger
	now          func() time.Time
}

// New puts the parts together.
func New(o Options) *Gateway {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver
	}
	g := &Gateway{
		tools: map[string]*tool.Tool{}, decider: o.Decider, runner: o.Runner, audit: o.Audit,
		identities: o.Identities, profileNames: o.Profiles, reload: o.Reload, log: o.Logger, now: o.Now,
	}
	for _, t := range o.Tools {
		g.tools[t.Name] = t
		g.names = append(g.names, t.Name)
	}
	slices.Sort(g.names)
	for _, r := range o.Resources {
		g.tools[r.Tool.Name] = r.Tool
		g.reads = append(g.reads, r)
	}
	g.config.Store(o.Config)
	g.tasks, g.links = newTasks(g), newLinks(g)
	resolving := o.Config.Settings.Resolver
	g.resolver = resolver{lookup: o.Lookup, timeout: resolving.Timeout, keep: resolving.Cache, now: o.Now}
	return g
}

// Tool is the tool of a name; nil when none is switched on.
func (g *Gateway) Tool(name string) *tool.Tool {
	if !slices.Contains(g.names, name) {
		return nil
	}
	return g.tools[name]
}

// NoTool puts a call to a tool that does not exist on record.
func (g *Gateway) NoTool(ctx context.Context, caller tool.Caller, name string) {
	c := &call{gateway: g, id: newID(g.now()), caller: caller, name: name}
	c.recordInvalid(ctx, c.unknownTool())
}

// Ready says why calls would be refused whatever they ask for; nil when they
// would not.
func (g *Gateway) Ready(_ context.Context) error { return g.decider.Ready() }

// Call makes one tool call for a caller. Progress may be nil. Cancelling ctx,
// with a [tool.Stop] as its cause, stops what runs.
func (g *Gateway) Call(ctx context.Context, caller tool.Caller, name string, args json.RawMessage, progress func(tool.Progress)) Result {
	c := &call{gateway: g, id: newID(g.now()), caller: caller, name: name, args: args, progress: progress}
	release, problem := g.admit()
	if problem != nil {
		return c.invalid(ctx, problem)
	}
	defer release()
	if problem := c.planIt(); problem != nil {
		return c.invalid(ctx, problem)
	}
	defer c.letGo()
	targets, problem := c.targets()
	if problem != nil {
		return c.invalid(ctx, problem)
	}
	if len(targets) == 0 {
		c.recordInvalid(ctx, &tool.Problem{Code: "no_hosts", Message: fmt.Sprintf("no host has the tag %q", c.plan.Scope.Tag)})
	}
	ctx, ended := g.cancels.begin(ctx, c)
	defer ended()
	if c.plan.Scope != (tool.Scope{}) {
		c.tell(tool.Progress{Phase: "waiting"})
	}
	return c.result(c.onEach(ctx, targets))
}

// Close stops the tasks that run, as a shutdown, waits until each of them and each
// call has been recorded, and closes what callers keep open. What runs for a call
// is stopped by the end of the call's context. When ctx ends first, Close can be
// called again.
func (g *Gateway) Close(ctx context.Context) error {
	return errors.Join(g.tasks.close(ctx), g.calls.wait(ctx), g.links.close(ctx))
}

// Judged is one plan on one host with what was decided from.
type Judged struct {
	Input policy.Input
	Run   tool.Run
}

// Plan makes a call as far as its decisions and no further, whatever the tool.
func (g *Gateway) Plan(ctx context.Context, caller tool.Caller, name string, args json.RawMessage) ([]Judged, *tool.Problem) {
	c := &call{gateway: g, id: newID(g.now()), caller: caller, name: name, args: args}
	if problem := c.planIt(); problem != nil {
		return nil, problem
	}
	c.plan.DryRun = true
	defer c.letGo()
	targets, problem := c.targets()
	if problem != nil {
		return nil, problem
	}
	return c.onEach(ctx, targets), nil
}

// admit bounds the calls in flight, whoever makes them.
func (g *Gateway) admit() (release func(), problem *tool.Problem) {
	if !g.calls.begin(g.config.Load().Settings.Limits.Calls) {
		return nil, &tool.Problem{
			Code: "busy", Message: "the gateway is at its limit of calls in flight",
			Remedy: "try again when others have finished; limits.calls in sallyport.yml sets the bound",
		}
	}
	return g.calls.end, nil
}

// Reload loads the configuration again for whoever asks: an agent that policy
// lets, a signal, a changed file. A configuration that does not load changes
// nothing; either way it is on record.
func (g *Gateway) Reload(ctx context.Context, by string) (map[string]string, error) {
	g.reloads.Lock()
	defer g.reloads.Unlock()
	if g.reload == nil {
		return g.decider.Revisions(), nil
	}
	next, err := g.reload(ctx)
	if err != nil && ctx.Err() != nil { // what it was at is not at fault
		err = fmt.Errorf("the load was broken off: %w", context.Cause(ctx))
	}
	event := audit.Event{Type: audit.Reload, Subject: by}
	if err != nil {
		event.Failure, event.Detail = "reload", err.Error()
		g.log.Error("configuration not loaded; the last good one stays", "by", by, "problem", err)
	} else {
		event.Detail = next.Warned()
		g.config.Store(next)
		g.log.Info("configuration loaded", "by", by, "revisions", g.decider.Revisions())
	}
	if werr := g.audit.Write(context.WithoutCancel(ctx), event); werr != nil {
		g.log.Error("reload not on record", "problem", werr)
	}
	return g.decider.Revisions(), err
}

// instead names the tool that a name was probably meant for, or those there are.
func instead(name string, tools []*tool.Tool) string {
	var names []string
	for _, t := range tools {
		names = append(names, t.Name)
	}
	near := config.Nearest(name, names)
	if i := slices.IndexFunc(names, func(n string) bool { return strings.Contains(n, name) || strings.Contains(name, n) }); near == "" && i >= 0 {
		near = names[i]
	}
	if near != "" {
		return "did you mean " + near + "?"
	}
	return "there are " + strings.Join(names, ", ")
}

// newID is the id of a call, and so of a task: in the order of time, and beyond
// guessing.
func newID(now time.Time) string {
	return ulid.MustNew(ulid.Timestamp(now), rand.Reader).String()
}
