package mcpserver

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

func TestCall(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		r := l.ask(t, l.era().rawCall(1, "ssh_run", run("uptime")))
		if r.Error != nil || r.Result.IsError || !strings.HasPrefix(r.text(), "ran uptime") {
			t.Errorf("allowed call: %v", r)
		}
		if !strings.HasSuffix(r.text(), "\ndecision 01JTESTDECISION") {
			t.Errorf("text %q does not end with the decision", r.text())
		}
		if want := []any{"01JTESTDECISION"}; !cmp.Equal(r.Result.Meta[decisionIDs], any(want)) {
			t.Errorf("_meta = %v, want the decisions", r.Result.Meta)
		}
		var got answer
		if err := json.Unmarshal(r.Result.StructuredContent, &got); err != nil || got.Stdout != "ran uptime" {
			t.Errorf("structured content %s: %v", r.Result.StructuredContent, err)
		}
		if r := l.ask(t, l.era().rawCall(2, "ssh_run", run("uptime; id"))); r.Error != nil || !r.Result.IsError {
			t.Errorf("refused call: %v", r)
		}
		if r := l.ask(t, l.era().rawCall(4, "ssh_ping", `null`)); r.Error != nil || r.Result.IsError {
			t.Errorf("call without arguments: %v", r)
		}
	})
}

func TestCallerIsKnown(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		l.ask(t, l.era().rawCall(1, "ssh_ping", `{}`))
		got := g.started(t, 1)[0].caller
		want := tool.Caller{Subject: "me", Auth: "local", Transport: "stdio", Client: tool.Client{Name: "probe", Version: "1"}}
		if c, ok := l.(*httpLink); ok {
			want.Subject, want.Transport, want.Session = "local", "http", c.session
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestToolsList(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		r := l.ask(t, rawRequest(1, "tools/list", l.era().params(nil)))
		type listed struct {
			Name         string          `json:"name"`
			Title        string          `json:"title"`
			Description  string          `json:"description"`
			InputSchema  json.RawMessage `json:"inputSchema"`
			OutputSchema json.RawMessage `json:"outputSchema"`
			Annotations  map[string]any  `json:"annotations"`
			Execution    any             `json:"execution"`
		}
		var got []listed
		for _, raw := range r.Result.Tools {
			var one listed
			if err := json.Unmarshal(raw, &one); err != nil {
				t.Fatal(err)
			}
			got = append(got, one)
		}
		hint := func(title string, readOnly, destructive, idempotent, openWorld bool) map[string]any {
			return map[string]any{
				"title": title, "readOnlyHint": readOnly, "destructiveHint": destructive,
				"idempotentHint": idempotent, "openWorldHint": openWorld,
			}
		}
		var want []listed
		for name, annotations := range map[string]map[string]any{
			"ssh_list_hosts": hint("SSH list hosts", true, false, true, false),
			"ssh_ping":       hint("SSH ping", true, false, true, false),
			"ssh_plan":       hint("SSH plan", true, false, true, false),
			"ssh_run":        hint("SSH run", false, true, false, true),
		} {
			for _, one := range tools {
				if one.Name == name {
					want = append(want, listed{
						Name: name, Title: annotations["title"].(string), Description: one.Doc,
						InputSchema: one.Input, OutputSchema: one.Output, Annotations: annotations,
					})
				}
			}
		}
		sorted := func(a, b listed) bool { return a.Name < b.Name }
		if diff := cmp.Diff(want, got, cmpopts.SortSlices(sorted), cmp.Transformer("json", func(m json.RawMessage) string { return string(m) })); diff != "" {
			t.Error(diff)
		}
		for i := range got[1:] {
			if got[i].Name > got[i+1].Name {
				t.Errorf("%s is listed before %s", got[i].Name, got[i+1].Name)
			}
		}
	})
}

func TestUnknownTool(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		for name, says := range map[string]string{
			"ssh_rum":                 `there is no tool "ssh_rum"; did you mean ssh_run?`,
			"run":                     `did you mean ssh_run?`,
			"SSH_RUN":                 `did you mean ssh_run?`,
			"write_poetry":            `tools/list names those that there are`,
			strings.Repeat("x", 4000): "...",
		} {
			r := l.ask(t, l.era().rawCall(1, name, `{}`))
			if r.Error == nil || r.Error.Code != -32602 || !strings.Contains(r.Error.Message, says) || len(r.Error.Message) > 300 {
				t.Errorf("%s: %v, want -32602 and %q", clip(name), r, says)
			}
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.calls) > 0 {
			t.Errorf("reached the gateway: %+v", g.calls)
		}
		if len(g.missed) != 5 || strings.HasPrefix(g.missed[0], " ") {
			t.Errorf("the gateway was told of %q", g.missed)
		}
	})
}

// A tool that another caller was shown does not come into everybody's list. A
// call of it reaches the gateway, which refuses it with its reasons.
func TestHiddenToolStaysHidden(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{Tokens: twoTokens})
	ops, other := w.client(t, modern, "ops-token"), w.client(t, modern, "dev-token")
	if r := ops.ask(t, modern.rawCall(1, hidden, `{}`)); r.Error != nil || r.Result.IsError {
		t.Fatalf("the caller who sees it: %v", r)
	}
	if r := other.ask(t, modern.rawCall(1, hidden, `{}`)); r.Error != nil || g.calls[1].caller.Subject != "dev" {
		t.Errorf("the caller who does not: %v, as %+v", r, g.calls)
	}
	if r := other.ask(t, rawRequest(2, "tools/list", modern.params(nil))); strings.Contains(fmt.Sprintf("%s", r.Result.Tools), hidden) {
		t.Error("listed for the caller who must not see it")
	}
}

// The traps of mcp-go that were measured, by number, each with what stands
// against it.

func TestTrap01EveryToolGoesThroughOneRegistration(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	registering := map[string]int{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					switch s.Sel.Name {
					case "AddTool", "AddTools", "SetTools", "AddTaskTool", "AddTaskTools", "AddSessionTool", "AddSessionTools", "WithTaskCapabilities":
						registering[d.(*ast.FuncDecl).Name.Name+" "+s.Sel.Name]++
					}
				}
				return true
			})
		}
	}
	if diff := cmp.Diff(map[string]int{"register AddTool": 1}, registering); diff != "" {
		t.Error(diff)
	}
}

func TestTrap02NoTasks(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		params := l.era().callParams("ssh_run", run("uptime"))
		params["task"] = map[string]any{"ttl": 1000}
		if r := l.ask(t, rawRequest(1, "tools/call", params)); r.Error != nil || !strings.HasPrefix(r.text(), "ran uptime") {
			t.Errorf("a call that asks to be a task: %v, want the plain result", r)
		}
		for i, method := range []string{"tasks/get", "tasks/list", "tasks/result", "tasks/cancel"} {
			r := l.ask(t, rawRequest(i+2, method, l.era().params(map[string]any{"taskId": "x"})))
			if r.Error == nil || r.Error.Code != -32601 {
				t.Errorf("%s: %v, want no such method", method, r)
			}
		}
	})
}

func TestTrap03ArgumentsArriveAsSent(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		for i, args := range []string{
			`{"alias":"web1","command":"uptime","COMMAND":"rm -rf /"}`,
			`{"alias":"web1","command":"uptime","command":"rm -rf /"}`,
			`{"alias":"web1","command":"uptime","comman` + "\u017f" + `":"x"}`,
			`{"alias":"web1","command":"upt` + "\xff" + `ime"}`,
			`{"alias":"web1","command":"uptime","n":12345678901234567890}`,
			`[1,2]`, `"text"`, `7`,
		} {
			r := l.ask(t, l.era().rawCall(i+1, "ssh_run", args))
			if r.Error != nil || !r.Result.IsError {
				t.Errorf("%s: %v, want isError", args, r)
			}
			if got := g.started(t, i+1)[i].args; got != args {
				t.Errorf("the gateway got %q, want the bytes as sent: %q", got, args)
			}
		}
		confused := strings.Replace(string(l.era().rawCall(90, "ssh_ping", `{}`)), `"name":"ssh_ping"`, `"name":"ssh_ping","NAME":"ssh_run"`, 1)
		if r := l.ask(t, []byte(confused)); r.Error == nil || r.Error.Code != -32600 {
			t.Errorf("name and NAME: %v, want a refusal", r)
		}
	})
}

func TestTrap05ProgressIsNotLost(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		for i := range 100 {
			params := l.era().params(map[string]any{
				"name": "ssh_run", "arguments": json.RawMessage(run("tick 5")), "_meta": map[string]any{"progressToken": "p"},
			})
			r := l.ask(t, rawRequest(i+1, "tools/call", params))
			if r.Error != nil || r.Result.IsError {
				t.Fatal(r)
			}
			wantProgress(t, r.before, 5)
		}
	})
}

func wantProgress(t *testing.T, got []reply, want int) {
	t.Helper()
	if len(got) != want {
		t.Fatalf("%d notifications came before the result, want %d", len(got), want)
	}
	last := -1.0
	for _, n := range got {
		var p struct {
			ProgressToken any
			Progress      float64
			Message       string
		}
		if err := json.Unmarshal(n.Params, &p); err != nil {
			t.Fatal(err)
		}
		if n.Method != "notifications/progress" || p.ProgressToken != "p" || p.Progress <= last || p.Message == "" {
			t.Fatalf("%s %s after progress %v", n.Method, n.Params, last)
		}
		last = p.Progress
	}
}

// A client that takes its time misses something in between, and never the end.
func TestSlowClientsHearTheEnd(t *testing.T) {
	busy := make(chan struct{})
	var told []string
	s := newServer(t, newSite())
	progress, done := s.report(&request{
		msg: &message{progress: json.RawMessage(`"p"`)}, ctx: t.Context(),
		out: outletFunc(func(params map[string]any) { <-busy; told = append(told, params["message"].(string)) }),
	})
	for i := range 1000 {
		progress(tool.Progress{Phase: "running", Bytes: int64(i)})
	}
	progress(tool.Progress{Phase: "completed"})
	close(busy)
	done(nil)
	if n := len(told); n == 0 || n > 100 || told[n-1] != "completed" {
		t.Errorf("%d signs, the last %q", n, told[max(0, n-1)])
	}
}

type outletFunc func(params map[string]any)

func (f outletFunc) notify(_ string, params map[string]any) error {
	f(params)
	return nil
}

func (outletFunc) keepAlive() error { return nil }

// A client that listens for changes, of which there are none, is told so first
// and then that this is all.
func TestListenIsAcknowledged(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		if l.era() != modern {
			return
		}
		for i := range 100 {
			params := l.era().params(map[string]any{"notifications": map[string]any{"toolsListChanged": true}})
			r := l.ask(t, rawRequest(i+1, "subscriptions/listen", params))
			if r.Error != nil || len(r.before) != 1 || r.before[0].Method != "notifications/subscriptions/acknowledged" {
				t.Fatalf("round %d: %+v", i, r)
			}
			var p struct {
				Meta map[string]any `json:"_meta"`
			}
			if err := json.Unmarshal(r.before[0].Params, &p); err != nil || p.Meta[mcp.MetaKeySubscriptionID] != float64(i+1) {
				t.Fatalf("round %d: %v, %s", i, err, r.before[0].Params)
			}
		}
	})
}

// Who did not ask for progress gets none.
func TestNoProgressUnasked(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		if r := l.ask(t, l.era().rawCall(1, "ssh_run", run("tick 5"))); len(r.before) > 0 {
			t.Errorf("got %v", r.before)
		}
	})
}

func TestTrap11PanicsTellNothing(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		r := l.ask(t, l.era().rawCall(1, "ssh_run", run("panic")))
		if r.Error != nil || !r.Result.IsError || strings.Contains(r.text(), "secret") {
			t.Errorf("%v, want isError without details", r)
		}
		if r := l.ask(t, l.era().rawCall(2, "ssh_ping", `{}`)); r.Error != nil {
			t.Errorf("the next call: %v", r)
		}
	})
}

func TestPanicsOutsideACallTellNothing(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		g.lost = true
		for i, raw := range [][]byte{l.era().rawCall(1, "ssh_ping", `{}`), rawRequest(2, "tools/list", l.era().params(nil))} {
			if r := l.ask(t, raw); r.Error == nil || r.Error.Code != -32603 || strings.Contains(r.Error.Message, "secret") {
				t.Errorf("request %d: %v, want an internal error without details", i+1, r)
			}
		}
	})
}

func TestTrap12RefusalsTakeThePlaceOfAnswers(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		r := l.ask(t, l.era().rawCall(1, "no_such_tool", `{}`))
		if r.Error == nil || r.Error.Code != -32602 {
			t.Errorf("%v, want our own code", r)
		}
		want := 0
		if _, ok := l.(*httpLink); ok {
			want = map[era]int{modern: 400, legacy: 200}[l.era()]
		}
		if r.status != want {
			t.Errorf("status %d, want %d", r.status, want)
		}
	})
}

func TestTrap13ArgumentErrorsAreSentences(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		r := l.ask(t, l.era().rawCall(1, "ssh_run", `{"alias":"web1"}`))
		want := `argument "command" is required; send it: a string` + "\ndecision 01JTESTDECISION"
		if r.Error != nil || !r.Result.IsError || r.text() != want {
			t.Errorf("%v, want isError and %q", r, want)
		}
	})
}

func TestTrap14SilentCallsShowSignsOfLife(t *testing.T) {
	over(t, func(t *testing.T, g *site, s *Server, l link) {
		s.heartbeat = 20 * time.Millisecond
		params := l.era().params(map[string]any{
			"name": "ssh_run", "arguments": json.RawMessage(run("sleep 1")), "_meta": map[string]any{"progressToken": "p"},
		})
		r := l.ask(t, rawRequest(1, "tools/call", params))
		if r.Error != nil || r.Result.IsError || len(r.before) < 2 {
			t.Fatalf("%v with %d signs of life, want at least 2", r, len(r.before))
		}
		wantProgress(t, r.before, len(r.before))
	})
}

func TestTrap15EveryEffectHasHints(t *testing.T) {
	for _, e := range []tool.Effect{tool.Observe, tool.Change, tool.Execute, tool.Link} {
		if _, ok := hintsOf[e]; !ok {
			t.Errorf("%s has none", e)
		}
	}
}
