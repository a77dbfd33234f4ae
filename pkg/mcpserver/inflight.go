package mcpserver

import (
	"context"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

// request is one request on its way: who sent it, and how to stop it. Its
// context ends only with a [tool.Stop] as the cause, so that the gateway always
// knows why, whatever mcp-go and net/http do to theirs.
type request struct {
	msg    *message
	caller tool.Caller
	ctx    context.Context
	stop   context.CancelCauseFunc
	out    outlet
	// later takes what belongs to the request after its answer; nil when there
	// is no way to the client then.
	later outlet
	// tool is the one that this caller may call with this request; nil until
	// it was looked up.
	tool *tool.Tool
	// refusal, when set, is answered in place of what mcp-go says.
	refusal *refusal
}

// outlet is the way back to the client while a request is being worked on.
type outlet interface {
	// notify sends a notification that belongs to the request.
	notify(method string, params map[string]any) error
	// keepAlive shows whatever sits in between that the request is not dead.
	keepAlive() error
}

type requestKey struct{}

func withRequest(ctx context.Context, r *request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// requestFrom is nil when the context did not come from one of our transports.
func requestFrom(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// cancelled says that the client itself took the request back.
func (r *request) cancelled() bool { return context.Cause(r.ctx) == tool.StopCancelled }

// mostInFlight bounds the requests that one transport works on at a time. It
// protects the memory of this process; how many calls a subject may make is
// policy's to say.
const mostInFlight = 4096

// address finds a request in flight: its id means something only within the
// connection or session that it came from.
type address struct{ scope, id string }

// inflight is the requests that a transport works on.
type inflight struct {
	mu      sync.Mutex
	all     map[*request]struct{}
	named   map[address]*request
	stopped error // why no more are taken; nil while they are
}

func newInflight() *inflight {
	return &inflight{all: map[*request]struct{}{}, named: map[address]*request{}}
}

// begin takes a request, or refuses it. Without a scope nothing but its end and
// a shutdown can stop it.
func (f *inflight) begin(ctx context.Context, scope string, m *message, caller tool.Caller, out outlet) (*request, *refusal) {
	if m.trace.ID != "" {
		caller.Trace = m.trace
	}
	r := &request{msg: m, caller: caller, out: out}
	r.ctx, r.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	r.ctx = withRequest(r.ctx, r)
	f.mu.Lock()
	defer f.mu.Unlock()
	at := address{scope, string(m.id)}
	switch {
	case f.stopped != nil:
		return nil, &refusal{id: m.id, code: codeShutdown, message: "the server is shutting down"}
	case len(f.all) >= mostInFlight:
		return nil, &refusal{id: m.id, code: codeBusy, message: "too many requests are in flight: wait for some to finish"}
	case scope != "" && f.named[at] != nil:
		return nil, &refusal{id: m.id, code: mcp.INVALID_REQUEST, message: "a request with this id is still in flight"}
	}
	f.all[r] = struct{}{}
	if scope != "" {
		f.named[at] = r
	}
	return r, nil
}

// end forgets a request, which releases its context. It may be called twice.
func (f *inflight) end(scope string, r *request) {
	f.mu.Lock()
	delete(f.all, r)
	if at := (address{scope, string(r.msg.id)}); f.named[at] == r {
		delete(f.named, at)
	}
	f.mu.Unlock()
	r.stop(nil)
}

// cancel stops the request with an id in a scope, if there is one.
func (f *inflight) cancel(scope, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.named[address{scope, id}]; r != nil {
		r.stop(tool.StopCancelled)
	}
}

// stopAll stops what is in flight and takes no more.
func (f *inflight) stopAll(cause tool.Stop) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = cause
	for r := range f.all {
		r.stop(cause)
	}
}

func (f *inflight) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all)
}
