package gateway

import (
	"context"
	"sync"

	"github.com/sallyport/sallyport/pkg/tool"
)

// cancels is the calls under way, each to be stopped by its id, by its own
// subject.
type cancels struct {
	mu    sync.Mutex
	calls map[string]cancellable
}

type cancellable struct {
	subject string
	stop    context.CancelCauseFunc
}

// begin makes a call one that can be cancelled, until ended is called.
func (cs *cancels) begin(ctx context.Context, c *call) (_ context.Context, ended func()) {
	ctx, stop := context.WithCancelCause(ctx)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.calls == nil {
		cs.calls = map[string]cancellable{}
	}
	cs.calls[c.id] = cancellable{c.caller.Subject, stop}
	return ctx, func() {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		delete(cs.calls, c.id)
		stop(nil)
	}
}

// cancel asks a subject's call to end, and reports whether there is one.
func (cs *cancels) cancel(subject, id string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, ok := cs.calls[id]
	if !ok || c.subject != subject {
		return false
	}
	c.stop(tool.StopCancelled)
	return true
}
