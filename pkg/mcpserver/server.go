// Package mcpserver speaks MCP: it turns requests of either protocol era, over
// stdio or streamable HTTP, into calls of a [Gateway], and results into
// answers. It decides nothing, and it is the only package that knows mcp-go.
//
// [New] makes a [Server] around a gateway. [Server.ServeStdio] serves the one
// client at the other end of a pipe; [Server.ListenAndServe] serves HTTP with
// one endpoint, /mcp, for protocol 2026-07-28, which has no sessions, and for
// 2025-11-25 and older, which have, besides /healthz and /readyz.
//
// It promises the gateway four things. The arguments of a call are the bytes
// that the client sent, and a message with two readings (a duplicate key, a key
// in other letters) never arrives. The subject is the one that the transport
// verified; what a client says of itself, its session included, is only ever a
// fact beside it. The lists that a caller gets, of tools, resources and prompts,
// are the gateway's for this caller. And when the context of a call ends, its
// cause is the [tool.Stop] that says why: cancelled by the client, disconnected,
// shut down.
//
// mcp-go is the protocol engine below. Where it was measured to be too trusting
// for a gateway, this package stands in front of it: it reads every message
// before mcp-go does, owns the session ids, checks host, origin and token on
// every verb, keeps its own register of requests in flight, and writes progress
// itself. mcp-go's task tools are not used.
package mcpserver

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/tool"
)

// Gateway is what this package needs of the gateway. Call returns when nothing
// of the call runs any more, also after its context was cancelled.
type Gateway interface {
	// Tools lists, by name, the tools that a caller could ever use.
	Tools(ctx context.Context, caller tool.Caller) []*tool.Tool
	Call(ctx context.Context, caller tool.Caller, name string, args json.RawMessage, progress func(tool.Progress)) gateway.Result
	// Resources lists the resources that a caller could ever read.
	Resources(ctx context.Context, caller tool.Caller) []*tool.Resource
	// Read reads one, which is a call like any other.
	Read(ctx context.Context, caller tool.Caller, uri string) gateway.Reading
	// Prompts lists the guides that there are, and Prompt is one as written for
	// a caller.
	Prompts() []gateway.Prompt
	Prompt(ctx context.Context, caller tool.Caller, name string) (text string, ok bool)
	// Tool is the tool of a name; nil when none is switched on. Whether a caller
	// may use it is for the decision on its call.
	Tool(name string) *tool.Tool
	// NoTool is told of a call to a tool that there is not, so that
	// it is on record.
	NoTool(ctx context.Context, caller tool.Caller, name string)
	// SessionOpened, SessionClosed and SessionRefused are told of the sessions of
	// the old era, so that they are on record: their begin, their end, and a
	// session named that the subject does not have.
	SessionOpened(ctx context.Context, caller tool.Caller)
	SessionClosed(ctx context.Context, caller tool.Caller, why tool.Stop)
	SessionRefused(ctx context.Context, caller tool.Caller)
	// Ready says why calls would be refused whatever they ask for; nil when
	// they would not.
	Ready(ctx context.Context) error
}

// Options are the parts of a server. Gateway is required.
type Options struct {
	Name    string // what the server calls itself
	Version string
	Gateway Gateway
	Logger  *slog.Logger     // default: none
	Now     func() time.Time // default: time.Now
	// Behind names the bundles of which the last good revision decides, and says
	// why, for /readyz to tell; default: none.
	Behind func() map[string]string
}

// Server is an MCP server. It is safe for concurrent use.
type Server struct {
	gateway Gateway
	mcp     *server.MCPServer
	log     *slog.Logger
	now     func() time.Time
	behind  func() map[string]string

	heartbeat time.Duration // between signs of life from a silent call
	pace      time.Duration // for a client to send a request, or to take a piece of an answer
	grace     time.Duration // for calls in flight when stdin ends: enough for a plan, and short against the 2 s in which a stop must be through
	patience  time.Duration // for the gateway to return from calls that were stopped

	endpoint atomic.Pointer[endpoint] // over HTTP

	mu         sync.Mutex
	registered map[string]*tool.Tool // with mcp-go
}

// New makes a server; it serves nothing yet.
func New(o Options) *Server {
	s := &Server{
		gateway: o.Gateway, log: o.Logger, now: o.Now, behind: o.Behind,
		heartbeat: 10 * time.Second, pace: 30 * time.Second, grace: 300 * time.Millisecond, patience: 10 * time.Second,
		registered: map[string]*tool.Tool{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.behind == nil {
		s.behind = func() map[string]string { return nil }
	}
	s.mcp = s.newMCP(o.Name, o.Version)
	return s
}
