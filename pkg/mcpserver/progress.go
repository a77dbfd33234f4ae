package mcpserver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

// report passes the progress of a call on to a client that asked for it; without
// one that did, progress is nil. Either way the client sees every
// [Server.heartbeat] that the call is not dead: proxies and clients give up on
// silence. Progress never blocks; done waits until everything is with the client.
// What the call started and left running goes on being reported, where there is a
// way to the client; done is told of it. A notification is written by us, on the
// response that it belongs to and before the result, because mcp-go loses those
// that are emitted shortly before the handler returns.
func (s *Server) report(r *request) (progress func(tool.Progress), done func(running <-chan struct{})) {
	if r.msg.progress == nil {
		p := newPulse(r, s.heartbeat)
		return nil, func(<-chan struct{}) { p.stop() }
	}
	p := &reporter{
		request: r, ctx: r.ctx, out: r.out, begun: s.now(), now: s.now, every: s.heartbeat,
		updates: make(chan tool.Progress, 64), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	go p.run()
	return p.update, func(running <-chan struct{}) {
		p.stop()
		if running != nil && r.later != nil {
			go p.goOn(r.later, running)
		}
	}
}

// pulse is the signs of life from a call that nobody asked progress of. Most calls
// end before the first: until then it is no more than a timer.
type pulse struct {
	request *request
	every   time.Duration

	mu   sync.Mutex // one sign at a time, and none after the end
	next *time.Timer
	over bool
}

func newPulse(r *request, every time.Duration) *pulse {
	p := &pulse{request: r, every: every}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = time.AfterFunc(every, p.beat)
	return p
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over && p.request.ctx.Err() == nil && p.request.out.keepAlive() == nil {
		p.next.Reset(p.every)
	}
}

// stop waits for a sign that is being given.
func (p *pulse) stop() {
	p.next.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// reporter is the progress of a call on its way to the client.
type reporter struct {
	request *request
	ctx     context.Context // for as long as anybody waits
	out     outlet
	begun   time.Time
	now     func() time.Time
	every   time.Duration
	updates chan tool.Progress
	quit    chan struct{}
	gone    chan struct{}

	latest tool.Progress
	sent   int64 // milliseconds; a progress must be greater than the last
	broken bool  // the client cannot be reached any more
}

// update drops the oldest of what a slow client has no room for: the latest says
// more, and how it ended is said last.
func (p *reporter) update(u tool.Progress) {
	for {
		select {
		case p.updates <- u:
			return
		default:
		}
		select {
		case <-p.updates:
		default:
		}
	}
}

func (p *reporter) stop() {
	close(p.quit)
	<-p.gone
}

// goOn reports after the answer, until what is running has ended.
func (p *reporter) goOn(later outlet, running <-chan struct{}) {
	p.ctx, p.out = context.WithoutCancel(p.ctx), later
	p.quit, p.gone = make(chan struct{}), make(chan struct{})
	go p.run()
	<-running
	p.stop()
}

func (p *reporter) run() {
	defer close(p.gone)
	beat := time.NewTicker(p.every)
	defer beat.Stop()
	for {
		select {
		case p.latest = <-p.updates:
			p.send()
			beat.Reset(p.every)
		case <-beat.C:
			p.send()
		case <-p.quit:
			p.drain()
			return
		}
	}
}

func (p *reporter) drain() {
	for {
		select {
		case p.latest = <-p.updates:
			p.send()
		default:
			return
		}
	}
}

// send says nothing more of a call that was stopped: nobody waits for it.
func (p *reporter) send() {
	if p.broken || p.ctx.Err() != nil {
		return
	}
	p.broken = p.out.notify(string(mcp.MethodNotificationProgress), p.params()) != nil
}

// params counts progress in milliseconds since the call began: the one measure
// that every call has and that always grows.
func (p *reporter) params() map[string]any {
	p.sent = max(p.sent+1, p.now().Sub(p.begun).Milliseconds())
	return map[string]any{
		"progressToken": p.request.msg.progress,
		"progress":      p.sent,
		"message":       describeProgress(p.latest),
	}
}

func encodeNotification(method string, params map[string]any) []byte {
	b, err := json.Marshal(map[string]any{"jsonrpc": mcp.JSONRPC_VERSION, "method": method, "params": params})
	if err != nil {
		panic("mcpserver: a notification that cannot be marshalled: " + err.Error())
	}
	return b
}

// describeProgress begins with the id by which the call can be cancelled.
func describeProgress(p tool.Progress) string {
	text := cmp.Or(p.Phase, "waiting")
	if p.Alias != "" {
		text = p.Alias + ": " + text
	}
	if p.Task != "" {
		text = "task " + p.Task + ": " + text
	}
	if p.Bytes > 0 {
		text += fmt.Sprintf(", %s of output so far", tool.Count(p.Bytes, "byte"))
	}
	return text
}
