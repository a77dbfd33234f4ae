package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

// pipeIn serves text as if it had been piped in, and is what was piped out.
func pipeIn(t *testing.T, s *Server, text string) []reply {
	t.Helper()
	var out strings.Builder
	if err := s.ServeStdio(t.Context(), tool.Caller{Subject: "me"}, strings.NewReader(text), &out); err != nil {
		t.Fatal(err)
	}
	var replies []reply
	for l := range strings.Lines(out.String()) {
		replies = append(replies, parse(t, []byte(l)))
	}
	return replies
}

func (p *stdioLink) wantServed(t *testing.T, says string) {
	t.Helper()
	select {
	case err := <-p.served:
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("ServeStdio returned %v, want %q", err, says)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("ServeStdio did not return")
	}
}

func TestTrap10LastLineWithoutNewline(t *testing.T) {
	g := newSite()
	replies := pipeIn(t, newServer(t, g), string(legacy.rawCall(1, "ssh_run", run("uptime"))))
	if len(replies) != 1 || replies[0].text() != "ran uptime\ndecision 01JTESTDECISION" {
		t.Errorf("got %v", replies)
	}
}

func TestStdioAnswersGarbage(t *testing.T) {
	ping := `{"jsonrpc":"2.0","id":%d,"method":"ping"}`
	input := strings.Join([]string{
		"hello", "", "   ", "\x00\xff", "[]", `{"jsonrpc":"2.0","id":3}`,
		fmt.Sprintf(ping, 1), "\r", fmt.Sprintf(ping, 2) + "\r",
	}, "\n")
	var got []string
	for _, r := range pipeIn(t, newServer(t, newSite()), input) {
		code := 0
		if r.Error != nil {
			code = r.Error.Code
		}
		got = append(got, fmt.Sprintf("%s:%d", r.ID, code))
	}
	want := "null:-32700 null:-32700 null:-32600 3:-32600 1:0 2:0"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("answered %s, want %s", s, want)
	}
}

func TestStdioDropsOverlongLines(t *testing.T) {
	long := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"` + strings.Repeat("x", longestLine) + `"}}`
	replies := pipeIn(t, newServer(t, newSite()), long+"\n"+`{"jsonrpc":"2.0","id":2,"method":"ping"}`)
	if len(replies) != 2 || replies[0].Error == nil || !strings.Contains(replies[0].Error.Message, "longer than") || string(replies[1].ID) != "2" {
		t.Errorf("got %v", replies)
	}
}

// Many more calls than mcp-go's five workers run side by side, and the reader
// is free for what comes after them.
func TestTrap10CallsRunSideBySide(t *testing.T) {
	g := newSite()
	p := openPipe(t, newServer(t, g), legacy)
	const many = 150
	for i := range many {
		p.send(t, legacy.rawCall(i+1, "ssh_run", run("sleep 600")))
	}
	g.started(t, many)
	if r := p.ask(t, legacy.rawCall(many+1, "ssh_ping", `{}`)); r.Error != nil || r.Result.IsError {
		t.Errorf("a call beside %d: %v", many, r)
	}
	for i := range many {
		p.send(t, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, i+1))
	}
	for i := range many {
		g.stopped(t, i, tool.StopCancelled)
	}
}

func TestStdioCancel(t *testing.T) {
	for _, e := range []era{modern, legacy} {
		t.Run(string(e), func(t *testing.T) {
			g := newSite()
			p := openPipe(t, newServer(t, g), e)
			p.send(t, e.rawCall(7, "ssh_run", run("sleep 600")))
			g.started(t, 1)
			// Neither the same digits as a string nor another number is the call.
			p.send(t, []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"7"}}`))
			p.send(t, []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":8}}`))
			p.send(t, []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}`))
			p.ask(t, e.rawCall(9, "ssh_ping", `{}`))
			if g.started(t, 2)[0].done {
				t.Fatal("somebody else's cancellation stopped the call")
			}
			p.send(t, []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`))
			g.stopped(t, 0, tool.StopCancelled)
			if r := p.ask(t, e.rawCall(10, "ssh_ping", `{}`)); len(r.before) > 0 {
				t.Errorf("a cancelled call was answered: %v", r.before)
			}
		})
	}
}

func TestStdioRefusesAnIDInFlight(t *testing.T) {
	g := newSite()
	p := openPipe(t, newServer(t, g), modern)
	p.send(t, modern.rawCall(1, "ssh_run", run("sleep 600")))
	g.started(t, 1)
	if r := p.ask(t, modern.rawCall(1, "ssh_ping", `{}`)); r.Error == nil || r.Error.Code != mcp.INVALID_REQUEST {
		t.Errorf("%v, want a refusal", r)
	}
}

func TestStdioEndOfInputStopsCalls(t *testing.T) {
	g := newSite()
	p := openPipe(t, newServer(t, g), modern)
	p.send(t, modern.rawCall(1, "ssh_run", run("sleep 600")))
	g.started(t, 1)
	p.in.Close()
	p.wantServed(t, "")
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.calls[0]; !c.done || !errors.Is(c.cause, tool.StopDisconnect) {
		t.Errorf("when ServeStdio returned the call was %+v, want it over, by %v", c, tool.StopDisconnect)
	}
}

func TestStdioShutdownStopsCalls(t *testing.T) {
	g := newSite()
	p := openPipe(t, newServer(t, g), modern)
	p.send(t, modern.rawCall(1, "ssh_run", run("sleep 600")))
	g.started(t, 1)
	p.stop()
	p.wantServed(t, "")
	g.stopped(t, 0, tool.StopShutdown)
}

// A gateway that does not come back holds the process up, but not for ever.
func TestStdioNamesCallsThatDoNotEnd(t *testing.T) {
	g := newSite()
	g.stubborn = make(chan struct{})
	s := newServer(t, g)
	s.grace, s.patience = time.Millisecond, 50*time.Millisecond
	s.log = slog.New(slog.DiscardHandler) // the call may end, and be told of, after the test
	p := openPipe(t, s, modern)
	p.send(t, modern.rawCall(1, "ssh_run", run("sleep 600")))
	g.started(t, 1)
	p.in.Close()
	p.wantServed(t, "1 call did not end within 50ms")
	close(g.stubborn)
	g.stopped(t, 0, tool.StopDisconnect)
}

func TestStdioReportsABrokenInput(t *testing.T) {
	broken := errors.New("broken pipe")
	err := newServer(t, newSite()).ServeStdio(t.Context(), tool.Caller{}, iotest.ErrReader(broken), io.Discard)
	if !errors.Is(err, broken) {
		t.Errorf("ServeStdio returned %v, want %v", err, broken)
	}
}

// mcp-go would share one session between all stdio servers of a process.
func TestTrap10PipesShareNothing(t *testing.T) {
	g := newSite()
	s := newServer(t, g)
	openPipe(t, s, legacy)
	pipeIn(t, s, string(legacy.rawCall(1, "ssh_ping", `{}`)))
	if c := g.started(t, 1)[0].caller; c.Client.Name != "" {
		t.Errorf("the client of another pipe showed up: %+v", c.Client)
	}
}

// checkClient drives a connected client of mcp-go through the main job.
func checkClient(t *testing.T, g *site, c *client.Client, e era) {
	t.Helper()
	ctx := t.Context()
	var mu sync.Mutex
	var progress []mcp.JSONRPCNotification
	c.OnNotification(func(n mcp.JSONRPCNotification) {
		mu.Lock()
		defer mu.Unlock()
		progress = append(progress, n)
	})
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var hello mcp.InitializeRequest
	hello.Params.ClientInfo = mcp.Implementation{Name: "probe", Version: "1"}
	hello.Params.ProtocolVersion = string(e)
	if _, err := c.Initialize(ctx, hello); err != nil {
		t.Fatal(err)
	}
	if got := c.ProtocolVersion(); got != string(e) {
		t.Fatalf("negotiated %s, want %s", got, e)
	}
	list, err := c.ListTools(ctx, mcp.ListToolsRequest{})
	if err != nil || len(list.Tools) != 4 {
		t.Fatalf("tools/list: %v, %v", list, err)
	}
	call := func(ctx context.Context, command string) (*mcp.CallToolResult, error) {
		var r mcp.CallToolRequest
		r.Params.Name = "ssh_run"
		r.Params.Arguments = map[string]any{"alias": "web1", "command": command}
		r.Params.Meta = &mcp.Meta{ProgressToken: "p"}
		return c.CallTool(ctx, r)
	}
	if r, err := call(ctx, "tick 5"); err != nil || r.IsError || r.StructuredContent == nil {
		t.Errorf("allowed call: %v, %v", r, err)
	}
	if r, err := call(ctx, "uptime; id"); err != nil || !r.IsError {
		t.Errorf("refused call: %v, %v", r, err)
	}
	mu.Lock()
	if len(progress) != 5 {
		t.Errorf("%d progress notifications, want 5", len(progress))
	}
	mu.Unlock()
	brief, cancel := context.WithCancel(ctx)
	var calling sync.WaitGroup
	calling.Go(func() {
		if r, err := call(brief, "sleep 600"); err == nil {
			t.Errorf("cancelled call: %v", r)
		}
	})
	g.started(t, 3)
	cancel()
	calling.Wait()
	g.seen(t, "the end of the cancelled call", func(v []visit) bool { return v[2].done })
}

func eraOption(e era) client.ClientOption {
	return client.WithProtocolVersion(string(e))
}

func TestClientOverStdio(t *testing.T) {
	for _, e := range []era{modern, legacy} {
		t.Run(string(e), func(t *testing.T) {
			g := newSite()
			in, toServer := io.Pipe()
			fromServer, out := io.Pipe()
			var serving sync.WaitGroup
			serving.Go(func() {
				defer out.Close()
				if err := newServer(t, g).ServeStdio(t.Context(), tool.Caller{Subject: "me"}, in, out); err != nil {
					t.Error(err)
				}
			})
			c := client.NewClient(transport.NewIO(fromServer, toServer, io.NopCloser(strings.NewReader(""))), eraOption(e))
			checkClient(t, g, c, e)
			g.stopped(t, 2, tool.StopCancelled)
			c.Close()
			fromServer.Close() // as the end of a client's process does
			toServer.Close()
			serving.Wait()
		})
	}
}
