package mcpserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
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
	MaxSessionsPerSubject int           // 64; one more pushes out the one that was idle longest
	ShutdownTimeout       time.Duration // for stopped calls to return; 15 seconds
}

func (o HTTPOptions) withDefaults() HTTPOptions {
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = 4 << 20
	}
	if o.SessionTTL == 0 {
		o.SessionTTL = 30 * time.Minute
	}
	if o.MaxSessionsPerSubject == 0 {
		o.MaxSessionsPerSubject = 64
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = 15 * time.Second
	}
	return o
}

// pace is how long one read of a request or one write of an answer may take. A
// call may take as long as its limits allow, so there is no limit on the whole.
const pace = 30 * time.Second

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
		sessions: newSessions(s.now, o.SessionTTL, o.MaxSessionsPerSubject),
	}
	e.mcp = server.NewStreamableHTTPServer(s.mcp,
		server.WithSessionIdManagerResolver(resolver{}),
		server.WithDisableLocalhostProtection(true), // guard.host does it
		server.WithStreamableHTTPLogger(s.log),
	)
	e.sessions.forget = e.forget
	return e, nil
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

// Handler serves /mcp, /healthz and /readyz. Listen is not bound, but must be
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
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", e.ready)
	layers := e.layers()
	handler := http.Handler(e.mcp)
	for i := len(layers) - 1; i >= 0; i-- {
		handler = layers[i](handler)
	}
	mux.Handle("/mcp", handler)
	return mux
}

// layers is the way of a request to mcp-go, the outermost first.
func (e *endpoint) layers() []layer {
	return []layer{
		e.surviving,
		e.paced,
		e.forUs,
		e.authenticated,
		e.wellFormed,
		e.understood,
		e.inSession,
		e.answered,
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
}

func (e *endpoint) surviving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				e.log.Error("panic in a request", "method", r.Method, "panic", p, "stack", string(debug.Stack()))
				http.Error(w, "internal fault", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// paced gives every read of the request and every write of the answer a
// deadline of its own.
func (e *endpoint) paced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		c.SetWriteDeadline(time.Time{})
		c.SetReadDeadline(time.Now().Add(pace))
		next.ServeHTTP(&pacedWriter{w, c}, r)
	})
}

type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w *pacedWriter) Write(b []byte) (int, error) {
	w.control.SetWriteDeadline(time.Now().Add(pace))
	return w.ResponseWriter.Write(b)
}

func (w *pacedWriter) Flush() {
	w.control.SetWriteDeadline(time.Now().Add(pace))
	w.control.Flush()
}

func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// once are the headers that someone in between may read otherwise than we do if
// they come twice.
var once = []string{
	mcp.HeaderProtocolVersion, mcp.HeaderSessionID, mcp.HeaderMethod, mcp.HeaderName, "Content-Type", sessionKey,
}

// sessionKey is a header that names a namespace inside a subject.
const sessionKey = "X-Session-Key"

func (e *endpoint) wellFormed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost, http.MethodGet, http.MethodDelete:
		default:
			w.Header().Set("Allow", "POST, GET, DELETE")
			e.turnAway(w, r, http.StatusMethodNotAllowed, "only POST, GET and DELETE mean something here")
			return
		}
		for _, name := range once {
			if len(r.Header.Values(name)) > 1 {
				e.turnAway(w, r, http.StatusBadRequest, "header "+name+" is sent twice")
				return
			}
		}
		if len(r.Header.Get(sessionKey)) > 128 {
			e.turnAway(w, r, http.StatusBadRequest, "header "+sessionKey+" is longer than 128 bytes")
			return
		}
		next.ServeHTTP(w, r)
	})
}

type messageKey struct{}

// messageFrom is nil for a GET or a DELETE.
func messageFrom(ctx context.Context) *message {
	m, _ := ctx.Value(messageKey{}).(*message)
	return m
}

// understood reads the message of a POST, and refuses one with two readings.
func (e *endpoint) understood(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, e.options.MaxBodyBytes))
		// From here on a read only waits for the client to go away.
		http.NewResponseController(w).SetReadDeadline(time.Time{})
		var long *http.MaxBytesError
		switch {
		case errors.As(err, &long):
			e.turnAway(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is longer than %d bytes", long.Limit))
			return
		case err != nil:
			e.turnAway(w, r, http.StatusBadRequest, "the request ends before its end")
			return
		case r.Method != http.MethodPost:
			next.ServeHTTP(w, r)
			return
		}
		m, refused := readMessage(body)
		if refused != nil {
			e.log.Warn("message refused", "transport", "http", "subject", callerFrom(r.Context()).Subject, "reason", refused.message)
			writeRefusal(w, refused, http.StatusBadRequest)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), messageKey{}, m))
		r.Body = io.NopCloser(bytes.NewReader(m.raw))
		next.ServeHTTP(w, r)
	})
}

func writeRefusal(w http.ResponseWriter, refused *refusal, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(refused.encode(), '\n'))
}

// isModern says that a request is of 2026-07-28 or later and has no session. It
// must agree with mcp-go, and where it would not, [resolver] refuses.
func isModern(r *http.Request, m *message) bool {
	return mcp.IsModernProtocol(r.Header.Get(mcp.HeaderProtocolVersion)) || m != nil && mcp.IsModernProtocol(m.protocol)
}

type sessionContextKey struct{}

// sessionFrom is nil for a request without a session.
func sessionFrom(ctx context.Context) *session {
	s, _ := ctx.Value(sessionContextKey{}).(*session)
	return s
}

// inSession binds every verb of the old era to a session of the subject that
// sends it. A session of somebody else is answered like one that never was.
func (e *endpoint) inSession(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := messageFrom(r.Context())
		if isModern(r, m) {
			next.ServeHTTP(w, r)
			return
		}
		s, status, why := e.sessionOf(r, m)
		if s == nil {
			e.turnAway(w, r, status, why)
			return
		}
		defer e.sessions.release(s)
		r = r.WithContext(context.WithValue(r.Context(), sessionContextKey{}, s))
		switch r.Method {
		case http.MethodGet:
			e.listen(w, r, s, next)
		case http.MethodDelete:
			e.sessions.close(s, tool.StopDisconnect)
			w.WriteHeader(http.StatusOK)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (e *endpoint) sessionOf(r *http.Request, m *message) (s *session, status int, why string) {
	subject := callerFrom(r.Context()).Subject
	if m != nil && m.isRequest() && m.method == string(mcp.MethodInitialize) {
		return e.sessions.open(subject), http.StatusTooManyRequests, "this subject has too many sessions in use: end some"
	}
	id := r.Header.Get(mcp.HeaderSessionID)
	if id == "" {
		return nil, http.StatusBadRequest, "header " + mcp.HeaderSessionID + " is missing: initialize first"
	}
	return e.sessions.use(subject, id), http.StatusNotFound, "no such session: initialize again"
}

// listen serves a GET stream for as long as its session lasts.
func (e *endpoint) listen(w http.ResponseWriter, r *http.Request, s *session, next http.Handler) {
	done, ok := e.sessions.stream(s)
	if !ok {
		e.turnAway(w, r, http.StatusTooManyRequests, "this session has too many streams open")
		return
	}
	defer done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	next.ServeHTTP(w, r.WithContext(ctx))
}

// resolver gives mcp-go the session that a request is bound to, and no other.
type resolver struct{}

func (resolver) ResolveSessionIdManager(r *http.Request) server.SessionIdManager {
	if r == nil {
		return bound{}
	}
	return bound{sessionFrom(r.Context())}
}

type bound struct{ session *session }

func (b bound) Generate() string {
	if b.session == nil {
		return ""
	}
	return b.session.id
}

func (b bound) Validate(id string) (terminated bool, err error) {
	if b.session == nil || id != b.session.id {
		return false, errors.New("not the session of this request")
	}
	return false, nil
}

// Terminate has nothing to do: mcp-go is told when a session has ended, it does
// not end any.
func (b bound) Terminate(string) (notAllowed bool, err error) { return false, nil }

// forget has mcp-go drop what it keeps for a session, which it does on DELETE.
func (e *endpoint) forget(id string) {
	header := http.Header{}
	header.Set(mcp.HeaderSessionID, id)
	e.mcp.Handle(discard{http.Header{}}, &server.HTTPRequest{
		Method: http.MethodDelete, Header: header, Context: context.Background(),
	})
}

// discard is a response that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) Flush()                      {}
func (d discard) CanStream() bool             { return false }

// answered keeps the register of requests, carries out cancellations, and owns
// the response.
func (e *endpoint) answered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, s := messageFrom(r.Context()), sessionFrom(r.Context())
		switch {
		case m == nil || m.method == "":
			next.ServeHTTP(w, r)
		case m.method == string(mcp.MethodNotificationCancelled):
			// The new era cancels by closing the stream. There a request id
			// belongs to nobody, and might be that of somebody else's call.
			if s != nil {
				e.inflight.cancel(s.id, string(m.cancels))
			}
			w.WriteHeader(http.StatusAccepted)
		case !m.isRequest():
			next.ServeHTTP(w, r)
		default:
			e.serve(w, r, m, s, next)
		}
	})
}

func (e *endpoint) serve(w http.ResponseWriter, r *http.Request, m *message, s *session, next http.Handler) {
	caller, scope := callerFrom(r.Context()), ""
	if s != nil {
		caller.Session, scope = s.id, s.id
	}
	if key := r.Header.Get(sessionKey); key != "" {
		caller.Session = key
	}
	out := &response{to: w, modern: isModern(r, m), events: acceptsEvents(r)}
	call, refused := e.inflight.begin(r.Context(), scope, m, caller, out)
	if refused != nil {
		writeRefusal(w, refused, statusOf(refused.code, out.modern))
		return
	}
	defer e.inflight.end(scope, call)
	out.request = call
	defer context.AfterFunc(r.Context(), func() { call.stop(tool.StopDisconnect) })()
	if s != nil {
		defer context.AfterFunc(s.ctx, func() { call.stop(context.Cause(s.ctx)) })()
	}
	next.ServeHTTP(out, r.WithContext(withRequest(r.Context(), call)))
	e.inflight.end(scope, call) // before the response, after which the client may use the id again
	out.finish()
}

func acceptsEvents(r *http.Request) bool {
	accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
	return strings.Contains(accept, "text/event-stream") || strings.Contains(accept, "*/*")
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
		return err
	}
	web := &http.Server{
		Handler:           e.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      pace, // of what is not paced
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

func (e *endpoint) shutdown(web *http.Server) error {
	e.draining.Store(true)
	e.inflight.stopAll(tool.StopShutdown)
	e.sessions.closeAll(tool.StopShutdown)
	ctx, cancel := context.WithTimeout(context.Background(), e.options.ShutdownTimeout)
	defer cancel()
	if err := web.Shutdown(ctx); err != nil {
		web.Close()
		return fmt.Errorf("%d calls did not end within %s of being stopped", e.inflight.count(), e.options.ShutdownTimeout)
	}
	return nil
}
