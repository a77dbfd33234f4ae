package mcpserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/sallyport/sallyport/pkg/tool"
)

// longestLine bounds a message on stdio.
const longestLine = 4 << 20

// ServeStdio serves the one client at the other end of in and out. Who that is
// was settled by whoever started the process: subject. It returns when in ends
// or ctx is done, after what was still running has been stopped and the gateway
// has returned from it; an error names the calls that did not come back.
//
// mcp-go's own stdio transport is not used: it runs five calls at a time, keeps
// one session per process in a global, and drops a last line without newline.
//
// A Read that blocks in in cannot be ended from here. It ends with the process,
// or when the owner of in closes it.
func (s *Server) ServeStdio(ctx context.Context, subject tool.Caller, in io.Reader, out io.Writer) error {
	subject.Transport = "stdio"
	p := &pipe{server: s, subject: subject, out: out, inflight: newInflight(), crew: newCrew()}
	defer p.crew.dismiss()
	quit := make(chan struct{})
	defer close(quit)
	lines := readLines(in, quit)
	for {
		select {
		case <-ctx.Done():
			return p.finish(tool.StopShutdown)
		case l, ok := <-lines:
			switch {
			case !ok:
				p.settle(s.grace)
				return p.finish(tool.StopDisconnect)
			case l.err != nil:
				return errors.Join(fmt.Errorf("read from the client: %w", l.err), p.finish(tool.StopDisconnect))
			}
			p.take(ctx, l)
		}
	}
}

// line is one line of input, or why there are no more.
type line struct {
	text []byte
	long bool // longer than longestLine, and dropped
	err  error
}

// readLines reads until in ends or quit is closed.
func readLines(in io.Reader, quit <-chan struct{}) <-chan line {
	lines := make(chan line)
	go func() {
		defer close(lines)
		r := bufio.NewReaderSize(in, 64<<10)
		for {
			l := readLine(r)
			atEnd := errors.Is(l.err, io.EOF)
			if atEnd {
				l.err = nil
			}
			if len(l.text) > 0 || l.long || l.err != nil {
				select {
				case lines <- l:
				case <-quit:
					return
				}
			}
			if atEnd || l.err != nil {
				return
			}
		}
	}()
	return lines
}

func readLine(r *bufio.Reader) line {
	var l line
	for {
		part, err := r.ReadSlice('\n')
		if l.long = l.long || len(l.text)+len(part) > longestLine; l.long {
			l.text = nil
		} else {
			l.text = append(l.text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			l.err = err
			return l
		}
	}
}

// pipe is a stdio client.
type pipe struct {
	server   *Server
	subject  tool.Caller
	client   clientInfo
	inflight *inflight
	crew     *crew

	mu  sync.Mutex // guards out: one message at a time
	out io.Writer
}

// stdioScope is the scope of request ids on a pipe, which has one client.
const stdioScope = "stdio"

// take starts the work on one line. It never waits for a call, so that the
// cancellation of one can always be read.
func (p *pipe) take(ctx context.Context, l line) {
	if l.long {
		p.write((&refusal{code: mcp.INVALID_REQUEST, message: fmt.Sprintf("a message is longer than %d bytes", longestLine)}).encode())
		return
	}
	if len(bytes.TrimSpace(l.text)) == 0 {
		return
	}
	m, refused := readMessage(l.text)
	switch {
	case refused != nil:
		p.server.log.Warn("message refused", "transport", "stdio", "reason", refused.message)
		p.write(refused.encode())
	case m.method == string(mcp.MethodNotificationCancelled):
		p.inflight.cancel(stdioScope, string(m.cancels))
	case m.isRequest():
		p.begin(ctx, m)
	}
}

func (p *pipe) begin(ctx context.Context, m *message) {
	r, refused := p.inflight.begin(ctx, stdioScope, m, p.subject, p)
	if refused != nil {
		p.write(refused.encode())
		return
	}
	r.later = p
	switch mcp.MCPMethod(m.method) {
	case mcp.MethodToolsCall, mcp.MethodResourcesRead, mcp.MethodSubscriptionsListen:
		p.crew.do(func() { p.serve(r) })
	default: // quick, and the ones after it may depend on it
		p.serve(r)
	}
}

// serve answers a request, unless the client has taken it back.
func (p *pipe) serve(r *request) {
	defer p.inflight.end(stdioScope, r)
	session := &pipeSession{clientInfo: &p.client, notifications: make(chan mcp.JSONRPCNotification, 16)}
	response := p.server.answer(r, session)
	for len(session.notifications) > 0 {
		if b, err := json.Marshal(<-session.notifications); err == nil {
			p.write(b)
		}
	}
	takenBack := r.cancelled()
	p.inflight.end(stdioScope, r) // before the response, after which the client may use the id again
	if response != nil && !takenBack {
		p.write(response)
	}
}

// answer has mcp-go handle a request, and is the response as JSON.
func (s *Server) answer(r *request, session server.ClientSession) (response []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a request", "method", clip(r.msg.method), "panic", p, "stack", string(debug.Stack()))
			response = fault(r.msg).encode()
		}
	}()
	answer := s.mcp.HandleMessage(s.mcp.WithContext(r.ctx, session), r.msg.raw)
	if r.refusal != nil {
		return r.refusal.encode()
	}
	if answer == nil {
		return nil
	}
	response, err := json.Marshal(answer)
	if err != nil {
		s.log.Error("response cannot be written as JSON", "method", clip(r.msg.method), "problem", err)
		return fault(r.msg).encode()
	}
	return response
}

// fault is what a client is told of a fault of ours outside a call.
func fault(m *message) *refusal {
	return &refusal{id: m.id, code: mcp.INTERNAL_ERROR, message: "internal fault; the operator finds the details in the log"}
}

func (p *pipe) notify(method string, params map[string]any) error {
	return p.write(encodeNotification(method, params))
}

// keepAlive does nothing: nothing sits in between.
func (p *pipe) keepAlive() error { return nil }

// write writes one message. That the client has gone is seen where input ends.
func (p *pipe) write(m []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.out.Write(append(m, '\n'))
	if err != nil {
		p.server.log.Warn("message not written", "transport", "stdio", "problem", err)
	}
	return err
}

// finish stops what is running and waits for it.
func (p *pipe) finish(cause tool.Stop) error {
	p.inflight.stopAll(cause)
	if !p.settle(p.server.patience) {
		return fmt.Errorf("%s did not end within %s of being stopped", tool.Count(p.inflight.count(), "call"), p.server.patience)
	}
	return nil
}

// settle waits until nothing is running, but not for ever.
func (p *pipe) settle(most time.Duration) bool {
	idle := make(chan struct{})
	go func() {
		p.crew.wait()
		close(idle)
	}()
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-idle:
		return true
	case <-late.C:
		return false
	}
}

// pipeSession is what mcp-go takes for a session. There is one per request, so
// that what a request emits is written before its response.
type pipeSession struct {
	*clientInfo
	notifications chan mcp.JSONRPCNotification
}

func (s *pipeSession) Initialize()       {}
func (s *pipeSession) Initialized() bool { return true }
func (s *pipeSession) SessionID() string { return stdioScope }

func (s *pipeSession) NotificationChannel() chan<- mcp.JSONRPCNotification { return s.notifications }

// clientInfo is what a client said of itself when it initialized.
type clientInfo struct {
	mu           sync.Mutex
	info         mcp.Implementation
	capabilities mcp.ClientCapabilities
}

func (c *clientInfo) GetClientInfo() mcp.Implementation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

func (c *clientInfo) SetClientInfo(info mcp.Implementation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.info = info
}

func (c *clientInfo) GetClientCapabilities() mcp.ClientCapabilities {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.capabilities
}

func (c *clientInfo) SetClientCapabilities(capabilities mcp.ClientCapabilities) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capabilities = capabilities
}
