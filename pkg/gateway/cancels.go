package gateway

import (
	"context"
	"fmt"
	"sync"

	"github.com/sallyport/sallyport/pkg/tool"
)

// inFlight counts calls.
type inFlight struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when the last one has ended; nil when nobody waits for that
}

// begin counts one more, unless there are as many as may be.
func (f *inFlight) begin(most int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n >= most {
		return false
	}
	f.n++
	return true
}

func (f *inFlight) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.n == 0 && f.none != nil {
		close(f.none)
		f.none = nil
	}
}

// wait returns when there are none.
func (f *inFlight) wait(ctx context.Context) error {
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return nil
	}
	if f.none == nil {
		f.none = make(chan struct{})
	}
	none := f.none
	f.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("calls did not end in time: %w", ctx.Err())
	}
}

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
