package gateway

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// What a caller sees is asked of the policy that judges its calls, with the same
// input document, so that a list cannot hold more than calls would allow:
//
//   - a host is in a list if policy would let the caller ask about it;
//   - a tool that needs no arguments, if its very plan would be allowed;
//   - another one, if there is such a host, and nothing objects to that tool
//     there, whatever its arguments.
//
// Hosts that policy cannot tell apart are judged once.

// Tools lists, by name, the tools that a caller could ever use.
func (g *Gateway) Tools(_ context.Context, caller tool.Caller) []*tool.Tool {
	return g.view(caller).tools()
}

// Resources lists the resources that a caller could ever read.
func (g *Gateway) Resources(_ context.Context, caller tool.Caller) []*tool.Resource {
	v := g.view(caller)
	var all []*tool.Resource
	for _, r := range g.reads {
		if v.could(r.Tool) {
			all = append(all, r)
		}
	}
	return all
}

// view is what one caller sees for a moment.
type view struct {
	gateway *Gateway
	caller  tool.Caller
	config  *config.Config
	facts   []string // by which policy tells hosts of a class apart
	until   time.Time

	mu    sync.Mutex
	known map[string]bool // by kind of host
	able  map[*tool.Tool]bool
}

// viewTime is how long an answer is kept. A change of configuration or policy
// counts at once; only rules that look at the clock are late by this much.
const viewTime = 5 * time.Second

// views are the ones that are still fresh.
type views struct {
	mu  sync.Mutex
	all map[string]*view
}

// manyViews is when the stale ones are forgotten; twice as many, and all are. A
// caller can have any number, by calling its client other names.
const manyViews = 64

// view is what a caller sees now.
func (g *Gateway) view(caller tool.Caller) *view {
	conf, now := g.config.Load(), g.now()
	key := viewKey(caller, conf, g.decider.Revisions())
	g.views.mu.Lock()
	defer g.views.mu.Unlock()
	if v := g.views.all[key]; v != nil && v.config == conf && now.Before(v.until) {
		return v
	}
	g.views.tidy(now)
	v := &view{
		gateway: g, caller: caller, config: conf,
		facts: g.decider.HostFacts(), until: now.Add(viewTime),
		known: map[string]bool{}, able: map[*tool.Tool]bool{},
	}
	g.views.all[key] = v
	return v
}

func (vs *views) tidy(now time.Time) {
	if len(vs.all) >= manyViews {
		maps.DeleteFunc(vs.all, func(_ string, v *view) bool { return !now.Before(v.until) })
	}
	if vs.all == nil || len(vs.all) >= 2*manyViews {
		vs.all = map[string]*view{}
	}
}

// viewKey is all that the answers depend on, but for the time and for what the
// caller does at the moment.
func viewKey(caller tool.Caller, conf *config.Config, revisions map[string]string) string {
	caller.Session = "" // policy does not see it
	return marshalled(struct {
		Caller    tool.Caller
		Config    string
		Revisions map[string]string
	}{caller, conf.Digest(), revisions})
}

func marshalled(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("gateway: a key that cannot be marshalled: " + err.Error())
	}
	return string(b)
}

// hosts are those that the caller may know of, in file order.
func (v *view) hosts() []config.Host {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(v.config.Hosts), func(h config.Host) bool { return !v.mayAsk(h) })
}

// knows says that there is a host of this name for the caller.
func (v *view) knows(alias string) bool {
	h, ok := v.config.Host(alias)
	v.mu.Lock()
	defer v.mu.Unlock()
	return ok && v.mayAsk(h)
}

// tools are those that the caller could ever use.
func (v *view) tools() []*tool.Tool {
	var all []*tool.Tool
	for _, name := range v.gateway.names {
		if t := v.gateway.tools[name]; v.could(t) {
			all = append(all, t)
		}
	}
	return all
}

// could says that the caller could ever use a tool.
func (v *view) could(t *tool.Tool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	able, judged := v.able[t]
	if !judged {
		able = v.judge(t)
		v.able[t] = able
	}
	return able
}

func (v *view) judge(t *tool.Tool) bool {
	plan, err := t.Plan(json.RawMessage(`{}`))
	if err == nil && plan.Scope == (tool.Scope{}) {
		return v.would(t, plan, tool.Target{Source: "gateway"})
	}
	tried := map[string]bool{}
	for _, h := range v.config.Hosts {
		kind := v.kindOf(h)
		if tried[kind] {
			continue
		}
		tried[kind] = true
		if v.mayAsk(h) && v.about(t, h) {
			return true
		}
	}
	return false
}

// anyTool stands for whatever tool a question about a host comes from.
var anyTool = &tool.Tool{Effect: tool.Observe}

// mayAsk says that the caller may ask about a host. Its caller holds mu.
func (v *view) mayAsk(h config.Host) bool {
	kind := v.kindOf(h)
	known, judged := v.known[kind]
	if !judged {
		known = v.about(anyTool, h)
		v.known[kind] = known
	}
	return known
}

// about judges a question about a host that comes from a tool.
func (v *view) about(t *tool.Tool, h config.Host) bool {
	target, problem := targetOf(v.config, h.Alias)
	if problem != nil {
		return false
	}
	return v.would(t, tool.Plan{Steps: []tool.Step{tool.AskGateway(tool.GatewayRead, tool.AskHost, "")}}, target)
}

// would asks on nobody's context: the view outlives the call that was first.
func (v *view) would(t *tool.Tool, plan tool.Plan, target tool.Target) bool {
	return v.gateway.decider.Would(context.Background(), policy.NewInput(policy.Facts{
		Tool: t, Caller: v.caller, Plan: plan, Target: target, Now: v.gateway.now(),
	}))
}

// kindOf is the same for hosts that policy cannot tell apart. The shipped rules
// look at the class and the kind of a host and at the classes of its jump hosts.
func (v *view) kindOf(h config.Host) string {
	site := v.config.Site()
	kind := site.Hosts[h.Alias].Class + " " + h.Kind
	for _, hop := range h.Via {
		kind += " " + site.Hosts[hop].Class
	}
	for _, fact := range v.facts {
		switch fact {
		case "tags":
			kind += " " + marshalled(h.Tags)
		case "user":
			kind += " " + h.User
		case "kind", "source": // told apart, and the same for all
		default:
			return h.Alias
		}
	}
	return kind
}
