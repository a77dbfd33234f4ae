package mcpserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
)

// response is the answer to one request over HTTP: a JSON document, or, from
// the moment that something is to be said before the result, a stream of
// events. It stands between mcp-go and the client, so that what we send while a
// call runs is on the call's own response, in order, and before the result; and
// so that a [refusal] can take the place of what mcp-go answers.
type response struct {
	request *request
	to      http.ResponseWriter
	modern  bool
	events  bool // the client takes a stream

	mu      sync.Mutex
	started bool // the stream has
	theirs  bool // mcp-go began it, and frames its events itself
	status  int
	body    bytes.Buffer // mcp-go's answer, until it is complete
}

var errNoStream = errors.New("the client takes no event stream")

func (w *response) Header() http.Header { return w.to.Header() }

func (w *response) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
	if strings.HasPrefix(w.to.Header().Get("Content-Type"), "text/event-stream") && !w.theirs {
		w.theirs = true
		w.start()
	}
}

func (w *response) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.theirs {
		return w.to.Write(b)
	}
	return w.body.Write(b)
}

func (w *response) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.theirs {
		w.flush()
	}
}

func (w *response) Unwrap() http.ResponseWriter { return w.to }

func (w *response) notify(method string, params map[string]any) error {
	return w.emit(func() error { return w.event(encodeNotification(method, params)) })
}

// keepAlive sends a comment, which clients skip.
func (w *response) keepAlive() error {
	return w.emit(func() error {
		_, err := w.to.Write([]byte(": still running\n\n"))
		return err
	})
}

func (w *response) emit(write func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.events {
		return errNoStream
	}
	w.start()
	err := write()
	w.flush()
	return err
}

// start begins the stream if it has not begun. Its caller holds mu.
func (w *response) start() {
	if w.started {
		return
	}
	w.started = true
	h := w.to.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.to.WriteHeader(http.StatusOK)
}

func (w *response) event(m []byte) error {
	return writeEvent(w.to, m)
}

// writeEvent writes a message as an event of a stream.
func writeEvent(to io.Writer, m []byte) error {
	_, err := fmt.Fprintf(to, "event: message\ndata: %s\n\n", bytes.TrimSpace(m))
	return err
}

func (w *response) flush() { flush(w.to) }

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// finish sends the answer once mcp-go has given it.
func (w *response) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	body := w.body.Bytes()
	if refused := w.request.refusal; refused != nil {
		w.to.Header().Set("Content-Type", "application/json")
		body = append(refused.encode(), '\n')
		w.status = statusOf(refused.code, w.modern)
	}
	w.acknowledge(body)
	switch {
	case w.theirs, w.status == 0 && len(body) == 0:
	case w.started && len(body) > 0:
		_ = w.event(body) // a client that has gone needs no answer
		w.flush()
	case !w.started:
		w.to.WriteHeader(cmp.Or(w.status, http.StatusOK))
		_, _ = w.to.Write(body)
	}
}

// listens says that the request is a subscription, which ends at once because
// there is nothing to subscribe to.
func (w *response) listens() bool {
	return !changes && w.request.msg.method == string(mcp.MethodSubscriptionsListen)
}

// acknowledge sends the acknowledgement of a subscription that ends at once:
// mcp-go, which emits it right before the result, often loses it. Its caller
// holds mu.
func (w *response) acknowledge(answer []byte) {
	var a struct{ Result json.RawMessage }
	if !w.listens() || !w.events || json.Unmarshal(answer, &a) != nil || a.Result == nil {
		return
	}
	w.start()
	_ = w.event(encodeNotification(mcp.MethodNotificationSubscriptionsAcknowledged, map[string]any{
		"_meta": map[string]any{mcp.MetaKeySubscriptionID: w.request.msg.id}, "notifications": map[string]any{},
	}))
}

// statusOf is the HTTP status that goes with a JSON-RPC error: the new era maps
// the codes, the old one answers 200 but for our own.
func statusOf(code int, modern bool) int {
	switch code {
	case codeBusy:
		return http.StatusTooManyRequests
	case codeShutdown:
		return http.StatusServiceUnavailable
	}
	if !modern {
		return http.StatusOK
	}
	switch code {
	case mcp.METHOD_NOT_FOUND:
		return http.StatusNotFound
	case mcp.PARSE_ERROR, mcp.INVALID_REQUEST, mcp.INVALID_PARAMS, mcp.HEADER_MISMATCH,
		mcp.MISSING_REQUIRED_CLIENT_CAPABILITY, mcp.UNSUPPORTED_PROTOCOL_VERSION:
		return http.StatusBadRequest
	}
	return http.StatusOK
}
