// Package mcpserver speaks MCP: it turns requests of either protocol era, over
// stdio or streamable HTTP, into calls of a [Gateway], and results into
// answers. It decides nothing.
//
// [New] makes a [Server] around a gateway. [Server.ServeStdio] serves the one
// client at the other end of a pipe; [Server.ListenAndServe] serves HTTP with
// one endpoint, /mcp, for protocol 2026-07-28 without sessions and for
// 2025-11-25 and older with them, besides /healthz and /readyz.
package mcpserver

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/tool"
)

// Gateway is what this package needs of the gateway. Call returns when nothing
// of the call runs any more, also after its context was cancelled, which
// happens with a [tool.Stop] as the cause.
type Gateway interface {
	// Tools lists, by name, the tools that a caller could ever use.
	Tools(ctx context.Context, caller tool.Caller) []*tool.Tool
	Call(ctx context.Context, caller tool.Caller, name string, args json.RawMessage, progress func(tool.Progress)) gateway.Result
	// Ready says why calls would fail; nil when they would not.
	Ready(ctx context.Context) error
}

// Options are the parts of a server. Gateway is required.
type Options struct {
	Name    string // what the server calls itself
	Version string
	Gateway Gateway
	Logger  *slog.Logger     // default: none
	Now     func() time.Time // default: time.Now
}

// Server is an MCP server. It is safe for concurrent use.
type Server struct {
	gateway Gateway
	log     *slog.Logger
	now     func() time.Time
}

// New makes a server; it serves nothing yet.
func New(o Options) *Server {
	return &Server{gateway: o.Gateway, log: o.Logger, now: o.Now}
}

// Token is a bearer token: what calls with it are known as, and its SHA-256.
type Token struct {
	ID     string // the subject
	SHA256 [32]byte
	Groups []string
}

// HTTPOptions are how HTTP is served.
type HTTPOptions struct {
	Listen                string // host:port; off loopback only with Tokens
	Tokens                []Token
	AllowedHosts          []string
	AllowedOrigins        []string
	MaxBodyBytes          int64
	SessionTTL            time.Duration
	MaxSessionsPerSubject int
	ShutdownTimeout       time.Duration
}

// ServeStdio serves one client over a pair of streams.
func (s *Server) ServeStdio(ctx context.Context, subject tool.Caller, in io.Reader, out io.Writer) error {
	<-ctx.Done()
	return nil
}

// Handler serves /mcp, /healthz and /readyz.
func (s *Server) Handler(o HTTPOptions) (http.Handler, error) {
	return http.NotFoundHandler(), nil
}

// ListenAndServe serves HTTP until ctx is done.
func (s *Server) ListenAndServe(ctx context.Context, o HTTPOptions, ready func(addr net.Addr)) error {
	<-ctx.Done()
	return nil
}
