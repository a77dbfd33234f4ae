package mcpserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/tool"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// site is the gateway of these tests: a handful of tools on one host, and a
// record of every call. What a command does is in its words:
//
//	uptime       runs
//	uptime; id   is refused, as whatever holds a semicolon
//	sleep N      shows a sign of progress and runs until it is stopped, or for N seconds
//	tick N       shows N signs of progress, without a pause, and ends
//	detach N     ends, and shows N signs of progress of what it left running when goOn is closed
//	panic        panics
type site struct {
	mu       sync.Mutex
	calls    []visit
	missed   []string      // subject and name of calls to tools that there are not
	sessions []string      // what it was told of sessions
	changed  chan struct{} // closed and replaced when calls changes
	broken   error         // what Ready answers
	lost     bool          // Tools panics
	stubborn chan struct{} // what does not end before this is closed, when set
	goOn     chan struct{}
}

// visit is one call that reached the gateway.
type visit struct {
	caller tool.Caller
	tool   string
	args   string
	done   bool
	cause  error // of the end of its context, if that ended first
}

func (g *site) SessionOpened(_ context.Context, caller tool.Caller) { g.told("opened", caller, "") }

func (g *site) SessionClosed(_ context.Context, caller tool.Caller, why tool.Stop) {
	g.told("closed", caller, why)
}

func (g *site) SessionRefused(_ context.Context, caller tool.Caller) { g.told("refused", caller, "") }

func (g *site) told(what string, caller tool.Caller, why tool.Stop) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions = append(g.sessions, strings.TrimSpace(what+" "+caller.Subject+" "+string(why)))
}

func (g *site) NoTool(_ context.Context, caller tool.Caller, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.missed = append(g.missed, caller.Subject+" "+name)
}

func newSite() *site { return &site{changed: make(chan struct{})} }

type noArgs struct{}

type commandArgs struct {
	Alias   string `json:"alias" arg:"required,max=100" doc:"host"`
	Command string `json:"command" arg:"required,text" doc:"command line"`
}

type answer struct {
	tool.Status
	Alias   string   `json:"alias,omitempty"`
	Hosts   []string `json:"hosts,omitempty"`
	Allowed bool     `json:"allowed,omitempty"`
	Stdout  string   `json:"stdout,omitempty"`
}

func define[A any](name string, effect tool.Effect, doc string) *tool.Tool {
	return tool.New(tool.Spec[A, answer]{
		Name: name, Set: "test", Effect: effect, Doc: doc,
		Plan: func(A) (tool.Plan, error) {
			return tool.Plan{Steps: []tool.Step{tool.AskGateway(tool.GatewayRead, tool.AskPing, "")}}, nil
		},
		Format: func(A, []tool.Run) answer { return answer{} },
	})
}

// hidden is a tool that only the group ops sees.
const hidden = "ssh_reload_config"

var tools = []*tool.Tool{
	define[noArgs]("ssh_list_hosts", tool.Observe, "List the hosts."),
	define[noArgs]("ssh_ping", tool.Observe, "Check that the gateway answers."),
	define[commandArgs]("ssh_plan", tool.Observe, "Show what ssh_run would do."),
	define[noArgs](hidden, tool.Change, "Load the configuration again."),
	define[commandArgs]("ssh_run", tool.Execute, "Run a command."),
}

func (g *site) Tools(_ context.Context, caller tool.Caller) []*tool.Tool {
	if g.lost {
		panic("a secret that must not reach the client")
	}
	if slices.Contains(caller.Groups, "ops") {
		return tools
	}
	return slices.DeleteFunc(slices.Clone(tools), func(t *tool.Tool) bool { return t.Name == hidden })
}

func (g *site) Tool(name string) *tool.Tool {
	if g.lost {
		panic("a secret that must not reach the client")
	}
	return quick{}.Tool(name)
}

// resources are a list, a template, bytes and one that only the group ops sees.
var resources = []*tool.Resource{
	{URI: "ssh://hosts", Title: "Hosts", Doc: "All hosts.", MIME: "application/json", Tool: define[noArgs]("read_hosts", tool.Observe, "Read.")},
	{URI: "ssh://host/{alias}", Title: "Host", Doc: "One host.", MIME: "application/json", Tool: define[noArgs]("read_host", tool.Observe, "Read.")},
	{URI: "ssh://key", Title: "Key", Doc: "Bytes.", MIME: "application/octet-stream", Tool: define[noArgs]("read_key", tool.Observe, "Read.")},
	{URI: "ssh://ops", Title: "Ops", Doc: "For ops.", MIME: "text/plain", Tool: define[noArgs]("read_ops", tool.Observe, "Read.")},
}

func (g *site) Resources(_ context.Context, caller tool.Caller) []*tool.Resource {
	if slices.Contains(caller.Groups, "ops") {
		return resources
	}
	return resources[:3]
}

// Read finds what is in resources; of all hosts there is only web1, and whatever
// is locked is refused.
func (g *site) Read(ctx context.Context, caller tool.Caller, uri string) gateway.Reading {
	at := g.enter(visit{caller: caller, tool: "read", args: uri})
	defer func() { g.leave(at, context.Cause(ctx)) }()
	read := func(i int, contents any) gateway.Reading {
		return gateway.Reading{Resource: resources[i], Contents: contents, DecisionIDs: []string{"01JTESTDECISION"}}
	}
	switch uri {
	case "ssh://hosts":
		return read(0, map[string]any{"count": 1})
	case "ssh://host/web1":
		return read(1, map[string]any{"alias": "web1"})
	case "ssh://host/locked":
		return gateway.Reading{Resource: resources[1], Text: "Denied by policy.", DecisionIDs: []string{"01JTESTDECISION"}}
	case "ssh://host/panic":
		panic("a secret that must not reach the client")
	case "ssh://key":
		return read(2, []byte{0, 255})
	}
	return gateway.Reading{Missing: true, Text: "there is no resource " + uri}
}

func (g *site) Prompts() []gateway.Prompt {
	return []gateway.Prompt{{Name: "ssh_usage", Title: "Usage", Doc: "How to use it."}}
}

func (g *site) Prompt(_ context.Context, caller tool.Caller, name string) (string, bool) {
	return "Hello " + caller.Subject + ", this is " + name, true
}

func (g *site) Ready(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.broken
}

func (g *site) Call(ctx context.Context, caller tool.Caller, name string, args json.RawMessage, progress func(tool.Progress)) gateway.Result {
	at := g.enter(visit{caller: caller, tool: name, args: string(args)})
	defer func() { g.leave(at, context.Cause(ctx)) }()
	i := slices.IndexFunc(tools, func(t *tool.Tool) bool { return t.Name == name })
	if _, err := tools[i].Plan(args); err != nil {
		return failed(tool.StatusInvalid, "bad_arguments", err.Error())
	}
	switch name {
	case "ssh_plan", "ssh_run":
		return g.command(ctx, name, args, progress)
	}
	return gateway.Result{Structured: answer{Status: tool.Status{Status: "ok"}, Hosts: []string{"web1"}}, Text: "web1"}
}

func failed(status, code, message string) gateway.Result {
	s := answer{Status: tool.Status{Status: status, Grounds: tool.Grounds{DecisionID: "01JTESTDECISION", Error: &tool.Problem{Code: code, Message: message}}}}
	return gateway.Result{Structured: s, Text: message, IsError: true, DecisionIDs: []string{"01JTESTDECISION"}}
}

func (g *site) command(ctx context.Context, name string, raw json.RawMessage, progress func(tool.Progress)) gateway.Result {
	var args commandArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return failed(tool.StatusInvalid, "bad_arguments", err.Error())
	}
	allowed := !strings.Contains(args.Command, ";")
	ok := answer{
		Status: tool.Status{Status: "ok", Grounds: tool.Grounds{DecisionID: "01JTESTDECISION"}}, Alias: args.Alias,
		Allowed: allowed, Stdout: "ran " + args.Command,
	}
	switch {
	case args.Alias != "web1":
		return failed(tool.StatusInvalid, "unknown_host", fmt.Sprintf("the inventory has no host %q", args.Alias))
	case name == "ssh_plan":
		ok.Stdout = ""
	case !allowed:
		return failed(tool.StatusDenied, "command_denied", "Denied by policy.")
	case strings.HasPrefix(args.Command, "detach "):
		return gateway.Result{Structured: ok, Running: g.detach(args.Command, progress)}
	default:
		if err := g.run(ctx, args.Command, progress); err != nil {
			return failed(tool.StatusStopped, err.Error(), "stopped: "+err.Error())
		}
	}
	return gateway.Result{Structured: ok, Text: ok.Stdout, DecisionIDs: []string{"01JTESTDECISION"}}
}

func (g *site) detach(command string, progress func(tool.Progress)) <-chan struct{} {
	running := make(chan struct{})
	go func() {
		defer close(running)
		<-g.goOn
		_ = g.run(context.Background(), strings.Replace(command, "detach", "tick", 1), progress)
	}()
	return running
}

func (g *site) run(ctx context.Context, command string, progress func(tool.Progress)) error {
	word, n := command, 0
	fmt.Sscanf(command, "%s %d", &word, &n)
	switch word {
	case "panic":
		panic("a secret that must not reach the client")
	case "tick":
		for i := range n {
			if progress != nil {
				progress(tool.Progress{Phase: "running", Bytes: int64(i + 1)})
			}
		}
	case "sleep":
		if progress != nil {
			progress(tool.Progress{Phase: "running"})
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(n) * time.Second):
		}
		if g.stubborn != nil {
			<-g.stubborn
		}
		return context.Cause(ctx)
	}
	return nil
}

func (g *site) enter(v visit) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, v)
	g.wake()
	return len(g.calls) - 1
}

func (g *site) leave(at int, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls[at].done, g.calls[at].cause = true, cause
	g.wake()
}

func (g *site) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// seen waits until the calls so far are as they should be, and returns them.
func (g *site) seen(t *testing.T, what string, ok func([]visit) bool) []visit {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		g.mu.Lock()
		calls, changed := slices.Clone(g.calls), g.changed
		g.mu.Unlock()
		if ok(calls) {
			return calls
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("waited for %s; calls so far: %+v", what, calls)
		}
	}
}

// started waits until n calls have been made.
func (g *site) started(t *testing.T, n int) []visit {
	t.Helper()
	return g.seen(t, fmt.Sprintf("%d calls", n), func(c []visit) bool { return len(c) >= n })
}

// stopped waits until the n-th call, from 0, has ended, and wants its cause.
func (g *site) stopped(t *testing.T, n int, want tool.Stop) {
	t.Helper()
	calls := g.seen(t, fmt.Sprintf("the end of call %d", n), func(c []visit) bool { return len(c) > n && c[n].done })
	if got := calls[n].cause; !errors.Is(got, want) {
		t.Errorf("call %d ended with cause %v, want %v", n, got, want)
	}
}

func newServer(t *testing.T, g Gateway) *Server {
	t.Helper()
	return New(Options{Name: "sallyport", Version: "test", Gateway: g, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

// quick is a gateway that costs nothing.
type quick struct{}

func (quick) Call(context.Context, tool.Caller, string, json.RawMessage, func(tool.Progress)) gateway.Result {
	return gateway.Result{Structured: answer{Status: tool.Status{Status: "ok"}}, Text: "done"}
}

func (quick) Tools(context.Context, tool.Caller) []*tool.Tool { return tools }

func (quick) Tool(name string) *tool.Tool {
	for _, t := range tools {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func (quick) Resources(context.Context, tool.Caller) []*tool.Resource { return nil }

func (quick) Read(context.Context, tool.Caller, string) gateway.Reading { return gateway.Reading{} }

func (quick) Prompts() []gateway.Prompt { return nil }

func (quick) Prompt(context.Context, tool.Caller, string) (string, bool) { return "", false }

func (quick) NoTool(context.Context, tool.Caller, string) {}

func (quick) SessionOpened(context.Context, tool.Caller) {}

func (quick) SessionClosed(context.Context, tool.Caller, tool.Stop) {}

func (quick) SessionRefused(context.Context, tool.Caller) {}

func (quick) Ready(context.Context) error { return nil }
