package mcpserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/sallyport/sallyport/pkg/tool"
)

// layer is a step that every request to /mcp passes, whatever its verb.
type layer func(http.Handler) http.Handler

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

// paced gives the request, once its headers are read, and every write of the
// answer a deadline of its own. There is none on the whole: a call may take as
// long as its limits allow.
func (e *endpoint) paced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		c.SetWriteDeadline(time.Time{})
		c.SetReadDeadline(time.Now().Add(e.server.pace))
		next.ServeHTTP(&pacedWriter{w, c, e.server.pace}, r)
	})
}

type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	pace    time.Duration
}

func (w *pacedWriter) Write(b []byte) (int, error) {
	w.control.SetWriteDeadline(time.Now().Add(w.pace))
	return w.ResponseWriter.Write(b)
}

func (w *pacedWriter) Flush() {
	w.control.SetWriteDeadline(time.Now().Add(w.pace))
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
		if err != nil {
			// The deadline stays, so that what is left of the request is not waited for.
			w.Header().Set("Connection", "close")
			e.unfinished(w, r, err)
			return
		}
		// From here on a read only waits for the client to go away.
		http.NewResponseController(w).SetReadDeadline(time.Time{})
		if r.Method != http.MethodPost {
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

func (e *endpoint) unfinished(w http.ResponseWriter, r *http.Request, err error) {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		e.turnAway(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is longer than %d bytes", long.Limit))
		return
	}
	e.turnAway(w, r, http.StatusBadRequest, "the request stops before its end")
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
		if s = e.sessions.open(subject); s != nil {
			e.server.gateway.SessionOpened(r.Context(), s.caller())
		}
		return s, http.StatusTooManyRequests, "too many sessions are in use: end some of yours, or wait"
	}
	id := r.Header.Get(mcp.HeaderSessionID)
	if id == "" {
		return nil, http.StatusBadRequest, "header " + mcp.HeaderSessionID + " is missing: initialize first"
	}
	if s = e.sessions.use(subject, id); s == nil {
		caller := callerFrom(r.Context())
		caller.Session = id
		e.server.gateway.SessionRefused(r.Context(), caller)
	}
	return s, http.StatusNotFound, "no such session: initialize again"
}

// listen serves a GET stream for as long as its session lasts.
func (e *endpoint) listen(w http.ResponseWriter, r *http.Request, s *session, next http.Handler) {
	out := &stream{ResponseWriter: w}
	done, ok := e.sessions.stream(s, out)
	if !ok {
		e.turnAway(w, r, http.StatusTooManyRequests, "this session has too many streams open")
		return
	}
	defer done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	next.ServeHTTP(out, r.WithContext(ctx))
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
	caller.Trace = tool.ParseTrace(r.Header.Get(traceKey))
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
	if s != nil {
		call.later = sessionOutlet{e.sessions, s}
	}
	defer context.AfterFunc(r.Context(), func() { call.stop(tool.StopDisconnect) })()
	if s != nil {
		defer context.AfterFunc(s.ctx, func() { call.stop(context.Cause(s.ctx)) })()
	}
	e.handle(next, out, r.WithContext(withRequest(r.Context(), call)))
	e.inflight.end(scope, call) // before the response, after which the client may use the id again
	out.finish()
}

// handle has mcp-go handle a request.
func (e *endpoint) handle(next http.Handler, out *response, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			m := out.request.msg
			e.log.Error("panic in a request", "method", clip(m.method), "panic", p, "stack", string(debug.Stack()))
			out.request.refusal = fault(m)
		}
	}()
	if out.listens() {
		// Without a flusher mcp-go leaves the stream, and the acknowledgement, to us.
		next.ServeHTTP(struct{ http.ResponseWriter }{out}, r)
		return
	}
	next.ServeHTTP(out, r)
}

func acceptsEvents(r *http.Request) bool {
	accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
	return strings.Contains(accept, "text/event-stream") || strings.Contains(accept, "*/*")
}
