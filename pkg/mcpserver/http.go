package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/sallyport/sallyport/pkg/tool"
)

// HTTPOptions are how HTTP is served. Zero fields have the defaults that are
// named with them.
type HTTPOptions struct {
	Listen string // host:port; off loopback only with Tokens
	Tokens []Token
	// AllowedHosts are further names, with or without a port, under which the
	// server may be called. On loopback its own names are always among them;
	// elsewhere an empty list allows any.
	AllowedHosts []string
	// AllowedOrigins may call from a web page: https://host[:port].
	AllowedOrigins        []string
	MaxBodyBytes          int64         // 4 MiB
	SessionTTL            time.Duration // of idleness; 30 minutes
	SessionLifetime       time.Duration // 24 hours
	MaxSessionsPerSubject int           // 64; one more pushes out the one that was idle longest
	MaxSessions           int           // 4096
	ShutdownTimeout       time.Duration // for stopped calls to return; 15 seconds
	// Metrics is served at /metrics to whoever may call; nil serves none.
	Metrics http.Handler
}

func (o HTTPOptions) withDefaults() HTTPOptions {
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 4 << 20
	}
	if o.SessionTTL == 0 {
		o.SessionTTL = 30 * time.Minute
	}
	if o.SessionLifetime == 0 {
		o.SessionLifetime = 24 * time.Hour
	}
	if o.MaxSessionsPerSubject == 0 {
		o.MaxSessionsPerSubject = 64
	}
	if o.MaxSessions == 0 {
		o.MaxSessions = 4096
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = 15 * time.Second
	}
	return o
}

// endpoint is one HTTP server.
type endpoint struct {
	server   *Server
	log      *slog.Logger
	options  HTTPOptions
	guard    *guard
	sessions *sessions
	inflight *inflight
	mcp      *server.StreamableHTTPServer
	draining atomic.Bool
}

func (s *Server) newEndpoint(o HTTPOptions) (*endpoint, error) {
	o = o.withDefaults()
	if err := safeToListen(o); err != nil {
		return nil, err
	}
	g, err := newGuard(o)
	if err != nil {
		return nil, err
	}
	e := &endpoint{
		server: s, log: s.log, options: o, guard: g, inflight: newInflight(),
		sessions: newSessions(s.now, sessionBounds{o.SessionTTL, o.SessionLifetime, o.MaxSessionsPerSubject, o.MaxSessions}),
	}
	e.mcp = server.NewStreamableHTTPServer(s.mcp,
		server.WithSessionIdManagerResolver(resolver{}),
		server.WithDisableLocalhostProtection(true), // guard.host does it
		server.WithStreamableHTTPLogger(s.log),
	)
	e.sessions.ended = func(s *session, why tool.Stop) {
		e.forget(s.id)
		e.server.gateway.SessionClosed(s.ctx, s.caller(), why)
	}
	s.endpoint.Store(e)
	return e, nil
}

// SetTokens has the HTTP transport, if it serves, take these tokens and no
// others from now on. Sessions of a subject that is left without one end with
// their next request. The error says why it goes on with those that it has.
func (s *Server) SetTokens(tokens []Token) error {
	e := s.endpoint.Load()
	if e == nil {
		return nil
	}
	o := e.options
	o.Tokens = tokens
	if err := safeToListen(o); err != nil {
		return err
	}
	if len(tokens) == 0 && len(*e.guard.tokens.Load()) > 0 {
		return errors.New("no tokens are left, which would let everyone in: keep one, or restart")
	}
	return e.guard.setTokens(tokens)
}

// safeToListen refuses to be reachable from elsewhere without authentication.
func safeToListen(o HTTPOptions) error {
	if len(o.Tokens) > 0 {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("listen address %q: %v", o.Listen, err)
	}
	if !isLoopback(host) {
		return fmt.Errorf("listen address %q is not loopback and there are no tokens: configure tokens, or listen on 127.0.0.1", o.Listen)
	}
	return nil
}

// Handler serves /mcp, /healthz, /readyz and, if there are any, /metrics. Listen is not bound, but must be
// where the handler will be served.
func (s *Server) Handler(o HTTPOptions) (http.Handler, error) {
	e, err := s.newEndpoint(o)
	if err != nil {
		return nil, err
	}
	return e.handler(), nil
}

func (e *endpoint) handler() http.Handler {
	mux := http.NewServeMux()
	// Probes come by whatever address they know, so any host will do; web pages
	// have no business here.
	mux.HandleFunc("GET /healthz", noPages(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") }))
	mux.HandleFunc("GET /readyz", noPages(e.ready))
	if e.options.Metrics != nil {
		mux.HandleFunc("GET /metrics", noPages(within(e.options.Metrics, e.surviving, e.authenticated).ServeHTTP))
	}
	mux.Handle("/mcp", within(e.mcp, e.layers()...))
	return mux
}

// within is a handler with layers around it, the outermost first.
func within(handler http.Handler, layers ...layer) http.Handler {
	for _, around := range slices.Backward(layers) {
		handler = around(handler)
	}
	return handler
}

func noPages(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" {
			http.Error(w, "not for web pages", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// ready tells whoever balances load; the reasons are for the log.
func (e *endpoint) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	err := e.server.gateway.Ready(ctx)
	if e.draining.Load() {
		err = tool.StopShutdown
	}
	if err != nil {
		e.log.Warn("not ready", "reason", err)
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
	behind := e.server.behind()
	for _, name := range slices.Sorted(maps.Keys(behind)) {
		fmt.Fprintf(w, "bundle %s: the last good revision decides (%s)\n", name, behind[name])
	}
}

// ListenAndServe serves HTTP until ctx is done. Then it takes no more requests,
// stops the calls that are running, and returns when the gateway has returned
// from them. Ready is told the address, which matters when the port is 0.
func (s *Server) ListenAndServe(ctx context.Context, o HTTPOptions, ready func(addr net.Addr)) error {
	e, err := s.newEndpoint(o)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return cannotListen(o.Listen, err)
	}
	web := &http.Server{
		Handler:           e.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      s.pace, // of what is not paced
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	if ready != nil {
		ready(listener.Addr())
	}
	select {
	case err := <-served:
		return errors.Join(err, e.shutdown(web))
	case <-ctx.Done():
		err := e.shutdown(web)
		<-served
		return err
	}
}

// cannotListen says why there is no listening at an address, and what to do.
func cannotListen(at string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("another process listens at %s; end it, or set another http.listen", at)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine has no address such as %s; set another http.listen", at)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("this user may not listen at %s; set another http.listen, with a port from 1024", at)
	}
	return fmt.Errorf("http.listen %s: %w", at, err)
}

func (e *endpoint) shutdown(web *http.Server) error {
	e.draining.Store(true)
	e.inflight.stopAll(tool.StopShutdown)
	e.sessions.closeAll(tool.StopShutdown)
	ctx, cancel := context.WithTimeout(context.Background(), e.options.ShutdownTimeout)
	defer cancel()
	if err := web.Shutdown(ctx); err != nil {
		web.Close()
		return fmt.Errorf("%s did not end within %s of being stopped", tool.Count(e.inflight.count(), "call"), e.options.ShutdownTimeout)
	}
	return nil
}
