package mcpserver

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

// report passes the progress of a call on to a client that asked for it, and
// shows every [Server.heartbeat] that the call is not dead: proxies and clients
// give up on silence. The function that it returns first never blocks, and is
// nil when nobody asked; done waits until everything is with the client. A
// notification is written by us, on the response that it belongs to and before
// the result, because mcp-go loses those that are emitted shortly before the
// handler returns.
func (s *Server) report(r *request) (progress func(tool.Progress), done func()) {
	p := &reporter{
		request: r, begun: s.now(), now: s.now, every: s.heartbeat,
		updates: make(chan tool.Progress, 64), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	go p.run()
	done = func() { close(p.quit); <-p.gone }
	if r.msg.progress == nil {
		return nil, done
	}
	return p.update, done
}

type reporter struct {
	request *request
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

// update drops what a slow client has no room for; a later one says more.
func (p *reporter) update(u tool.Progress) {
	select {
	case p.updates <- u:
	default:
	}
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
	if p.broken || p.request.ctx.Err() != nil {
		return
	}
	var err error
	if p.request.msg.progress == nil {
		err = p.request.out.keepAlive()
	} else {
		err = p.request.out.notify(p.notification())
	}
	p.broken = err != nil
}

// notification counts progress in milliseconds since the call began: the one
// measure that every call has and that always grows.
func (p *reporter) notification() []byte {
	p.sent = max(p.sent+1, p.now().Sub(p.begun).Milliseconds())
	b, err := json.Marshal(map[string]any{
		"jsonrpc": mcp.JSONRPC_VERSION,
		"method":  mcp.MethodNotificationProgress,
		"params": map[string]any{
			"progressToken": p.request.msg.progress,
			"progress":      p.sent,
			"message":       describeProgress(p.latest),
		},
	})
	if err != nil {
		panic("mcpserver: a progress notification that cannot be marshalled: " + err.Error())
	}
	return b
}

func describeProgress(p tool.Progress) string {
	phase := p.Phase
	if phase == "" {
		phase = "waiting"
	}
	if p.Bytes == 0 {
		return phase
	}
	return fmt.Sprintf("%s, %d bytes of output so far", phase, p.Bytes)
}
