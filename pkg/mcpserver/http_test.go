package mcpserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

var twoTokens = []Token{
	{ID: "ops", SHA256: sha256.Sum256([]byte("ops-token")), Groups: []string{"ops"}},
	{ID: "dev", SHA256: sha256.Sum256([]byte("dev-token"))},
}

func ping(id int) []byte { return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"ping"}`, id) }

func TestClientOverHTTP(t *testing.T) {
	for _, e := range []era{modern, legacy} {
		t.Run(string(e), func(t *testing.T) {
			g := newSite()
			// Without tokens: this client leaves its own out of DELETE.
			w := serveHTTP(t, newServer(t, g), HTTPOptions{})
			over, err := transport.NewStreamableHTTP(w.url+"/mcp", transport.WithHTTPBasicClient(w.http))
			if err != nil {
				t.Fatal(err)
			}
			c := client.NewClient(over, eraOption(e))
			checkClient(t, g, c, e)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if n := w.endpoint.sessions.count(); n != 0 {
				t.Errorf("%d sessions are left", n)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{Tokens: twoTokens})
	c := w.client(t, modern, "dev-token")
	c.ask(t, modern.rawCall(1, "ssh_ping", `{}`))
	if got := g.started(t, 1)[0].caller; got.Subject != "dev" || got.Auth != "token" || len(got.Groups) != 0 {
		t.Errorf("caller %+v", got)
	}
	tests := []struct {
		name   string
		change func(*http.Request)
		status int
		says   string
	}{
		{"none", func(r *http.Request) { r.Header.Del("Authorization") }, 401, `Bearer realm="sallyport"`},
		{"empty", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, 401, "invalid_token"},
		{"wrong", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ops-tokem") }, 401, "invalid_token"},
		{"basic", func(r *http.Request) { r.SetBasicAuth("ops", "ops-token") }, 401, `Bearer realm="sallyport"`},
		{"hash instead", func(r *http.Request) {
			r.Header.Set("Authorization", fmt.Sprintf("Bearer %x", twoTokens[0].SHA256))
		}, 401, "invalid_token"},
		{"two", func(r *http.Request) { r.Header.Add("Authorization", "Bearer ops-token") }, 401, "Bearer"},
		{"in the URL", func(r *http.Request) { r.URL.RawQuery = "access_token=dev-token" }, 400, ""},
	}
	for _, test := range tests {
		for _, method := range []string{"POST", "GET", "DELETE", "PUT", "OPTIONS"} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				r := c.post(t, ping(1))
				r.Method = method
				test.change(r)
				response := c.do(t, r)
				if response.StatusCode != test.status || !strings.Contains(response.Header.Get("WWW-Authenticate"), test.says) {
					t.Errorf("status %d, %q", response.StatusCode, response.Header.Get("WWW-Authenticate"))
				}
			})
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.calls) != 1 {
		t.Errorf("calls without a token: %+v", g.calls[1:])
	}
}

func TestHealthNeedsNoToken(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{Tokens: twoTokens})
	get := func(path string) int {
		response, err := w.http.Get(w.url + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if h, r := get("/healthz"), get("/readyz"); h != 200 || r != 200 {
		t.Errorf("healthz %d, readyz %d", h, r)
	}
	g.mu.Lock()
	g.broken = errors.New("no bundle")
	g.mu.Unlock()
	if h, r := get("/healthz"), get("/readyz"); h != 200 || r != 503 {
		t.Errorf("without a bundle: healthz %d, readyz %d", h, r)
	}
	if s := get("/"); s != 404 {
		t.Errorf("/: %d", s)
	}
}

func TestTrap07OriginAndHostOnEveryVerb(t *testing.T) {
	w := serveHTTP(t, newServer(t, newSite()), HTTPOptions{
		AllowedHosts: []string{"Gate.example", "other.example:8443"}, AllowedOrigins: []string{"https://ui.example"},
	})
	own := strings.TrimPrefix(w.url, "http://")
	_, port, _ := net.SplitHostPort(own)
	tests := []struct {
		name, host, origin string
		status             int
	}{
		{"neither", "", "", 0},
		{"own origin", "", "http://" + own, 0},
		{"localhost", "localhost:" + port, "http://localhost:" + port, 0},
		{"IPv6 loopback", "[::1]:" + port, "", 0},
		{"listed host", "gate.EXAMPLE:9", "", 0},
		{"listed host and port", "other.example:8443", "", 0},
		{"listed host, other port", "other.example:8444", "", 421},
		{"foreign host", "evil.example", "", 421},
		{"rebound host", "evil.example:" + port, "http://evil.example:" + port, 421},
		{"looks like loopback", "127.0.0.1.evil.example", "", 421},
		{"looks like localhost", "localhost.evil.example", "", 421},
		{"listed origin", "", "https://ui.example", 0},
		{"foreign origin", "", "http://evil.example", 403},
		{"foreign origin of a listed name", "", "http://ui.example", 403},
		{"page on localhost, literal host", own, "http://LocalHost:" + port, 0},
		{"page on a literal, host localhost", "localhost:" + port, "http://127.0.0.1:" + port, 0},
		{"page on IPv6, host localhost", "localhost:" + port, "http://[::1]:" + port, 0},
		{"page and host on the port of HTTP", "127.0.0.1", "http://localhost", 0},
		{"page on the port of HTTP", "localhost:" + port, "http://localhost", 403},
		{"page on another port of a literal", "localhost:" + port, "http://127.0.0.1:3000", 403},
		{"page that looks like localhost", "localhost:" + port, "http://localhost.evil.example:" + port, 403},
		{"another local page", "", "http://localhost:3000", 403},
		{"own origin over https", "", "https://" + own, 403},
		{"opaque origin", "", "null", 403},
		{"origin of a listed host", "gate.example", "http://gate.example", 403},
	}
	for _, test := range tests {
		for _, method := range []string{"POST", "GET", "DELETE", "PUT", "HEAD"} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				c := w.client(t, legacy, "")
				r := c.post(t, ping(1))
				r.Method = method
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				r = r.WithContext(ctx)
				if test.host != "" {
					r.Host = test.host
				}
				if test.origin != "" {
					r.Header.Set("Origin", test.origin)
				}
				want := test.status
				if want == 0 {
					want = map[string]int{"PUT": 405, "HEAD": 405}[method]
				}
				if want == 0 {
					want = 200
				}
				if got := c.status(t, r); got != want {
					t.Errorf("status %d, want %d", got, want)
				}
			})
		}
	}
}

func TestAllowedPageMayAsk(t *testing.T) {
	w := serveHTTP(t, newServer(t, newSite()), HTTPOptions{Tokens: twoTokens, AllowedOrigins: []string{"https://ui.example"}})
	c := w.client(t, modern, "")
	r := c.verb(t, http.MethodOptions, nil)
	r.Header.Set("Origin", "https://ui.example")
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", "authorization")
	response := c.do(t, r)
	if response.StatusCode != 204 || response.Header.Get("Access-Control-Allow-Origin") != "https://ui.example" {
		t.Errorf("status %d, headers %v", response.StatusCode, response.Header)
	}
}

func TestTrap04SessionsBelongToSubjects(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{Tokens: twoTokens})
	victim, thief := w.client(t, legacy, "ops-token"), w.client(t, legacy, "dev-token")
	thief.session = victim.session
	invented := &httpLink{web: w, speaks: legacy, token: "dev-token", session: "mcp-session-4dd4e0f4-61f6-4b4e-8c8a-5a3d1f8b2a10"}
	for name, c := range map[string]*httpLink{"another's": thief, "invented": invented} {
		for _, method := range []string{"POST", "GET", "DELETE"} {
			r := c.post(t, legacy.rawCall(1, "ssh_ping", `{}`))
			r.Method = method
			if got := c.status(t, r); got != 404 {
				t.Errorf("%s with %s session: status %d, want 404", method, name, got)
			}
		}
		for what, body := range map[string]string{
			"notification": `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
			"response":     `{"jsonrpc":"2.0","id":1,"result":{"x":1}}`,
		} {
			if got := c.status(t, c.post(t, []byte(body))); got != 404 {
				t.Errorf("%s with %s session: status %d, want 404", what, name, got)
			}
		}
	}
	none := &httpLink{web: w, speaks: legacy, token: "dev-token"}
	for _, method := range []string{"POST", "GET", "DELETE"} {
		r := none.post(t, ping(1))
		r.Method = method
		if got := none.status(t, r); got != 400 {
			t.Errorf("%s without a session: status %d, want 400", method, got)
		}
	}
	if r := victim.ask(t, ping(9)); r.Error != nil {
		t.Errorf("the owner afterwards: %v", r)
	}
	if len(g.calls) > 0 {
		t.Errorf("calls: %+v", g.calls)
	}
}

func TestDeleteEndsASession(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{})
	c := w.client(t, legacy, "")
	stream := c.do(t, c.verb(t, http.MethodGet, nil))
	if stream.StatusCode != 200 || !strings.HasPrefix(stream.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("GET: status %d, %v", stream.StatusCode, stream.Header)
	}
	var calling sync.WaitGroup
	calling.Go(func() { c.ask(t, legacy.rawCall(1, "ssh_run", run("sleep 600"))) })
	g.started(t, 1)
	if got := c.status(t, c.verb(t, http.MethodDelete, nil)); got != 200 {
		t.Errorf("DELETE: status %d", got)
	}
	g.stopped(t, 0, tool.StopDisconnect)
	if _, err := io.ReadAll(stream.Body); err != nil {
		t.Errorf("the stream did not end by itself: %v", err)
	}
	calling.Wait()
	for _, method := range []string{"POST", "GET", "DELETE"} {
		r := c.post(t, ping(1))
		r.Method = method
		if got := c.status(t, r); got != 404 {
			t.Errorf("%s afterwards: status %d, want 404", method, got)
		}
	}
}

// Request ids of the new era belong to no session: nobody may cancel with them.
func TestModernCancellationIsClosingTheStream(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{Tokens: twoTokens})
	c, other := w.client(t, modern, "ops-token"), w.client(t, modern, "dev-token")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calling sync.WaitGroup
	calling.Go(func() {
		r := c.post(t, modern.rawCall(1, "ssh_run", run("sleep 600"))).WithContext(ctx)
		if _, err := w.http.Do(r); err == nil {
			t.Error("the call was answered")
		}
	})
	g.started(t, 1)
	cancellation := marshal(map[string]any{
		"jsonrpc": "2.0", "method": "notifications/cancelled", "params": modern.params(map[string]any{"requestId": 1}),
	})
	for _, who := range []*httpLink{other, c} {
		if got := who.status(t, who.post(t, cancellation)); got != 202 {
			t.Errorf("cancellation: status %d", got)
		}
	}
	c.ask(t, modern.rawCall(1, "ssh_ping", `{}`)) // the same id once more
	if g.started(t, 2)[0].done {
		t.Fatal("a notification stopped the call")
	}
	cancel()
	calling.Wait()
	g.stopped(t, 0, tool.StopDisconnect)
}

func TestLegacyCancellation(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{})
	c, other := w.client(t, legacy, ""), w.client(t, legacy, "")
	var calling sync.WaitGroup
	calling.Go(func() {
		if r := c.ask(t, legacy.rawCall(1, "ssh_run", run("sleep 600"))); !r.Result.IsError {
			t.Errorf("the cancelled call: %v", r)
		}
	})
	g.started(t, 1)
	cancellation := []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
	other.status(t, other.post(t, cancellation))
	other.ask(t, legacy.rawCall(1, "ssh_ping", `{}`))
	if g.started(t, 2)[0].done {
		t.Fatal("another session cancelled the call")
	}
	if got := c.status(t, c.post(t, cancellation)); got != 202 {
		t.Errorf("cancellation: status %d", got)
	}
	calling.Wait()
	g.stopped(t, 0, tool.StopCancelled)
}

func TestTrap09DisconnectStopsTheCall(t *testing.T) {
	for _, e := range []era{modern, legacy} {
		for _, way := range []string{"silent", "streaming"} {
			t.Run(string(e)+" "+way, func(t *testing.T) {
				g := newSite()
				s := newServer(t, g)
				if way == "streaming" {
					s.heartbeat = 10 * time.Millisecond
				}
				c := serveHTTP(t, s, HTTPOptions{}).client(t, e, "")
				ctx, cancel := context.WithCancel(t.Context())
				var calling sync.WaitGroup
				calling.Go(func() {
					r := c.post(t, e.rawCall(1, "ssh_run", run("sleep 600"))).WithContext(ctx)
					if response, err := c.web.http.Do(r); err == nil {
						io.Copy(io.Discard, response.Body)
						response.Body.Close()
					}
				})
				g.started(t, 1)
				cancel()
				calling.Wait()
				g.stopped(t, 0, tool.StopDisconnect)
			})
		}
	}
}

func TestTrap06OversizedBody(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{MaxBodyBytes: 1000})
	c := w.client(t, modern, "")
	if got := c.status(t, c.post(t, modern.rawCall(1, "ssh_run", run(strings.Repeat("x", 1000))))); got != 413 {
		t.Errorf("POST: status %d, want 413", got)
	}
	endless := c.post(t, nil)
	endless.Body, endless.ContentLength = io.NopCloser(io.LimitReader(zeros{}, 64<<20)), -1
	if response, err := w.http.Do(endless); err == nil {
		response.Body.Close()
		if response.StatusCode != 413 {
			t.Errorf("chunked POST: status %d, want 413", response.StatusCode)
		}
	}
	if got := c.status(t, c.post(t, modern.rawCall(2, "ssh_ping", `{}`))); got != 200 {
		t.Errorf("a small one: status %d", got)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestHeadersMustAgreeWithTheBody(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{})
	c := w.client(t, modern, "")
	tests := []struct {
		name   string
		change func(http.Header)
		code   int // of JSON-RPC; 0: plain
	}{
		{"other tool", func(h http.Header) { h.Set(mcp.HeaderName, "ssh_ping") }, mcp.HEADER_MISMATCH},
		{"no tool", func(h http.Header) { h.Del(mcp.HeaderName) }, mcp.HEADER_MISMATCH},
		{"other method", func(h http.Header) { h.Set(mcp.HeaderMethod, "tools/list") }, mcp.HEADER_MISMATCH},
		{"no method", func(h http.Header) { h.Del(mcp.HeaderMethod) }, mcp.HEADER_MISMATCH},
		{"other version", func(h http.Header) { h.Set(mcp.HeaderProtocolVersion, string(legacy)) }, mcp.HEADER_MISMATCH},
		{"no version", func(h http.Header) { h.Del(mcp.HeaderProtocolVersion) }, mcp.HEADER_MISMATCH},
		{"unknown version", func(h http.Header) { h.Set(mcp.HeaderProtocolVersion, "2099-01-01") }, mcp.HEADER_MISMATCH},
		{"tool twice", func(h http.Header) { h.Add(mcp.HeaderName, "ssh_ping") }, 0},
		{"method twice", func(h http.Header) { h.Add(mcp.HeaderMethod, "ping") }, 0},
		{"version twice", func(h http.Header) { h.Add(mcp.HeaderProtocolVersion, string(legacy)) }, 0},
		{"session twice", func(h http.Header) { h[mcp.HeaderSessionID] = []string{"a", "b"} }, 0},
		{"content type twice", func(h http.Header) { h.Add("Content-Type", "text/plain") }, 0},
		{"content type", func(h http.Header) { h.Set("Content-Type", "text/plain") }, 0},
		{"long session key", func(h http.Header) { h.Set(sessionKey, strings.Repeat("x", 129)) }, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := c.post(t, modern.rawCall(1, "ssh_run", run("uptime")))
			test.change(r.Header)
			response := c.do(t, r)
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != 400 {
				t.Errorf("status %d, want 400: %s", response.StatusCode, body)
			}
			if test.code == 0 {
				return
			}
			if got := parse(t, body); got.Error == nil || got.Error.Code != test.code {
				t.Errorf("%s, want code %d", body, test.code)
			}
		})
	}
	if len(g.calls) > 0 {
		t.Errorf("calls: %+v", g.calls)
	}
}

func TestHTTPRefusesUnreadableMessages(t *testing.T) {
	for _, e := range []era{modern, legacy} {
		c := serveHTTP(t, newServer(t, newSite()), HTTPOptions{}).client(t, e, "")
		for body, code := range map[string]int{
			"": mcp.PARSE_ERROR, "hello": mcp.PARSE_ERROR, "[]": mcp.INVALID_REQUEST,
			`{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`: mcp.INVALID_REQUEST,
		} {
			r := c.ask(t, []byte(body))
			if r.status != 400 || r.Error == nil || r.Error.Code != code {
				t.Errorf("%q: status %d, %v, want 400 and %d", body, r.status, r, code)
			}
		}
	}
}

func TestSessionKeyIsANamespace(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{Tokens: twoTokens})
	for i, token := range []string{"ops-token", "dev-token"} {
		c := w.client(t, modern, token)
		r := c.post(t, modern.rawCall(1, "ssh_ping", `{}`))
		r.Header.Set(sessionKey, "mine")
		c.status(t, r)
		if got := g.started(t, i+1)[i].caller; got.Session != "mine" || got.Subject != twoTokens[i].ID {
			t.Errorf("caller %+v", got)
		}
	}
}

// A client that opens sessions and forgets them pushes out its own, and only
// its own, however many it opens.
func TestTrap08SessionsAreBounded(t *testing.T) {
	g := newSite()
	w := serveHTTP(t, newServer(t, g), HTTPOptions{Tokens: twoTokens, MaxSessionsPerSubject: 20})
	other := w.client(t, legacy, "ops-token")
	first := w.client(t, legacy, "dev-token")
	busy := w.client(t, legacy, "dev-token")
	var calling sync.WaitGroup
	calling.Go(func() { busy.ask(t, legacy.rawCall(1, "ssh_run", run("sleep 600"))) })
	g.started(t, 1)
	greedy := &httpLink{web: w, speaks: legacy, token: "dev-token"}
	handler := w.endpoint.handler() // without a network in between, which would be all of the time
	hello := rawRequest(0, "initialize", map[string]any{"protocolVersion": string(legacy), "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "greedy", "version": "1"}})
	for range 10_000 {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, greedy.post(t, hello))
		if answer.Code != 200 {
			t.Fatalf("initialize: status %d", answer.Code)
		}
		greedy.session = answer.Header().Get(mcp.HeaderSessionID)
	}
	if n := w.endpoint.sessions.count(); n != 21 {
		t.Errorf("%d sessions, want 20 and 1", n)
	}
	if kept(w, greedy.session) != nil || kept(w, other.session) != nil || kept(w, first.session) == nil {
		t.Error("mcp-go does not keep the same sessions")
	}
	for name, c := range map[string]*httpLink{"another subject's": other, "the busy one": busy, "the newest": greedy} {
		if r := c.ask(t, ping(50)); r.Error != nil {
			t.Errorf("%s: %v", name, r)
		}
	}
	if got := first.status(t, first.post(t, ping(1))); got != 404 {
		t.Errorf("the oldest: status %d, want 404", got)
	}
	busy.status(t, busy.post(t, []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)))
	calling.Wait()
}

// kept is nil when mcp-go keeps something for a session.
func kept(w *web, id string) error {
	return w.endpoint.server.mcp.SendNotificationToSpecificClient(id, "notifications/test", nil)
}

func TestStreamsPerSessionAreBounded(t *testing.T) {
	c := serveHTTP(t, newServer(t, newSite()), HTTPOptions{}).client(t, legacy, "")
	for range mostStreams {
		if response := c.do(t, c.verb(t, http.MethodGet, nil)); response.StatusCode != 200 {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
	if got := c.status(t, c.verb(t, http.MethodGet, nil)); got != 429 {
		t.Errorf("one more: status %d, want 429", got)
	}
	c.status(t, c.verb(t, http.MethodDelete, nil)) // ends the streams
}

func TestTrap16OldClientsKeepTheirSession(t *testing.T) {
	for _, version := range mcp.LegacyProtocolVersions() {
		w := serveHTTP(t, newServer(t, newSite()), HTTPOptions{})
		c := w.client(t, era(version), "")
		if c.initialize(t); c.session == "" && version != mcp.ProtocolVersion20241105 {
			t.Errorf("%s: no session", version)
		}
	}
}

// Concurrent calls of one session, with a GET stream open: each gets its own
// progress, whole, on its own response.
func TestTrap05StreamsDoNotMix(t *testing.T) {
	c := serveHTTP(t, newServer(t, newSite()), HTTPOptions{}).client(t, legacy, "")
	stream := c.do(t, c.verb(t, http.MethodGet, nil))
	var calling sync.WaitGroup
	for i := range 20 {
		calling.Go(func() {
			token := fmt.Sprintf("token-%d", i)
			params := legacy.params(map[string]any{
				"name": "ssh_run", "arguments": json.RawMessage(run("tick 20")), "_meta": map[string]any{"progressToken": token},
			})
			r := c.ask(t, rawRequest(i+1, "tools/call", params))
			if len(r.before) != 20 {
				t.Errorf("%s: %d notifications, want 20", token, len(r.before))
			}
			for _, n := range r.before {
				if !strings.Contains(string(n.Params), `"`+token+`"`) {
					t.Errorf("%s got %s", token, n.Params)
				}
			}
		})
	}
	calling.Wait()
	c.status(t, c.verb(t, http.MethodDelete, nil))
	if rest, err := io.ReadAll(stream.Body); err != nil || len(rest) > 0 {
		t.Errorf("on the GET stream: %q, %v", rest, err)
	}
}

// What goes on after the answer of its call is told on the GET stream, whole and
// in order, and not on the responses of other calls meanwhile.
func TestProgressAfterTheAnswer(t *testing.T) {
	const signs = 60
	g := newSite()
	g.goOn = make(chan struct{})
	c := serveHTTP(t, newServer(t, g), HTTPOptions{}).client(t, legacy, "")
	stream := c.do(t, c.verb(t, http.MethodGet, nil))
	params := legacy.params(map[string]any{
		"name": "ssh_run", "arguments": json.RawMessage(run(fmt.Sprint("detach ", signs))), "_meta": map[string]any{"progressToken": "p"},
	})
	if r := c.ask(t, rawRequest(1, "tools/call", params)); r.Error != nil || len(r.before) > 0 {
		t.Fatal(r)
	}
	var calling sync.WaitGroup
	for i := range 8 {
		calling.Go(func() {
			for j := range 50 {
				if i == 4 && j == 10 {
					close(g.goOn)
				}
				if r := c.ask(t, ping(i*100+j+2)); len(r.before) > 0 {
					t.Errorf("before the answer of another call: %s", r.before[0].Params)
				}
			}
		})
	}
	var got []reply
	defer time.AfterFunc(20*time.Second, func() { stream.Body.Close() }).Stop()
	for lines := bufio.NewScanner(stream.Body); len(got) < signs && lines.Scan(); {
		for _, e := range eventsOf(lines.Text()) {
			got = append(got, parse(t, []byte(e)))
		}
	}
	wantProgress(t, got, signs)
	calling.Wait()
	c.status(t, c.verb(t, http.MethodDelete, nil))
}

// Without an Accept for streams there is no progress, but an answer.
func TestNoStreamUnlessAccepted(t *testing.T) {
	s := newServer(t, newSite())
	s.heartbeat = time.Millisecond
	c := serveHTTP(t, s, HTTPOptions{}).client(t, modern, "")
	params := modern.params(map[string]any{
		"name": "ssh_run", "arguments": json.RawMessage(run("tick 3")), "_meta": map[string]any{"progressToken": "p"},
	})
	r := c.post(t, rawRequest(1, "tools/call", params))
	r.Header.Set("Accept", "application/json")
	response := c.do(t, r)
	body, _ := io.ReadAll(response.Body)
	if response.Header.Get("Content-Type") != "application/json" || parse(t, body).Result.IsError {
		t.Errorf("%v %s", response.Header, body)
	}
}

// A silent call without a progress token shows life by comments, which are not
// events.
func TestKeepAliveWithoutToken(t *testing.T) {
	s := newServer(t, newSite())
	s.heartbeat = 20 * time.Millisecond
	c := serveHTTP(t, s, HTTPOptions{}).client(t, modern, "")
	response := c.do(t, c.post(t, modern.rawCall(1, "ssh_run", run("sleep 1"))))
	body, err := io.ReadAll(response.Body)
	if err != nil || bytes.Count(body, []byte(": still running\n\n")) < 2 {
		t.Errorf("%q, %v", body, err)
	}
	if events := eventsOf(string(body)); len(events) != 1 || parse(t, []byte(events[0])).Result.IsError {
		t.Errorf("events %q, want the result alone", events)
	}
}

func TestListenAndServeRefusesTheOpenNet(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.com:0", "nonsense"} {
		err := newServer(t, newSite()).ListenAndServe(t.Context(), HTTPOptions{Listen: listen}, func(net.Addr) { t.Error("bound") })
		if err == nil {
			t.Errorf("%s: served without tokens", listen)
		}
	}
	if _, err := newServer(t, newSite()).Handler(HTTPOptions{Listen: "0.0.0.0:1", Tokens: twoTokens}); err != nil {
		t.Errorf("with tokens: %v", err)
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	same := twoTokens[0]
	same.ID = "copy"
	for name, o := range map[string]HTTPOptions{
		"token without id": {Tokens: []Token{{}}},
		"a token twice":    {Tokens: []Token{twoTokens[0], same}},
		"origin":           {AllowedOrigins: []string{"ui.example"}},
		"origin with path": {AllowedOrigins: []string{"https://ui.example/app"}},
	} {
		o.Listen = "127.0.0.1:0"
		if _, err := newServer(t, newSite()).Handler(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	rotated := HTTPOptions{Listen: "127.0.0.1:0", Tokens: []Token{twoTokens[0], {ID: "ops", SHA256: [32]byte{1}}}}
	if _, err := newServer(t, newSite()).Handler(rotated); err != nil {
		t.Errorf("two tokens of one subject: %v", err)
	}
}

// serving runs ListenAndServe until the test calls stop.
func serving(t *testing.T, s *Server, o HTTPOptions) (url string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	addr, served := make(chan net.Addr, 1), make(chan error, 1)
	o.Listen = "127.0.0.1:0"
	go func() { served <- s.ListenAndServe(ctx, o, func(a net.Addr) { addr <- a }) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-served
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	select {
	case a := <-addr:
		return "http://" + a.String(), stop
	case err := <-served:
		t.Fatal(err)
		return "", nil
	}
}

func TestShutdownStopsCalls(t *testing.T) {
	g := newSite()
	url, stop := serving(t, newServer(t, g), HTTPOptions{})
	c := at(t, url).client(t, modern, "")
	var calling sync.WaitGroup
	calling.Go(func() {
		if r := c.ask(t, modern.rawCall(1, "ssh_run", run("sleep 600"))); !r.Result.IsError {
			t.Errorf("the stopped call was answered %v", r)
		}
	})
	g.started(t, 1)
	if err := stop(); err != nil {
		t.Error(err)
	}
	calling.Wait()
	g.stopped(t, 0, tool.StopShutdown)
}

func TestShutdownNamesCallsThatDoNotEnd(t *testing.T) {
	g := newSite()
	g.stubborn = make(chan struct{})
	url, stop := serving(t, newServer(t, g), HTTPOptions{ShutdownTimeout: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := modern.rawCall(1, "ssh_run", run("sleep 600"))
	fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMcp-Protocol-Version: %s\r\nMcp-Method: tools/call\r\nMcp-Name: ssh_run\r\nContent-Length: %d\r\n\r\n%s", modern, len(body), body)
	g.started(t, 1)
	if err := stop(); err == nil || err.Error() != "1 call did not end within 50ms of being stopped" {
		t.Errorf("ListenAndServe returned %v", err)
	}
	close(g.stubborn)
	g.stopped(t, 0, tool.StopShutdown)
}

// A shutdown also ends the streams that clients keep open.
func TestShutdownEndsStreams(t *testing.T) {
	url, stop := serving(t, newServer(t, newSite()), HTTPOptions{})
	w := at(t, url)
	c := w.client(t, legacy, "")
	response := c.do(t, c.verb(t, http.MethodGet, nil))
	if response.StatusCode != 200 {
		t.Fatalf("status %d", response.StatusCode)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Errorf("the stream did not end by itself: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = newServer(t, newSite()).ListenAndServe(t.Context(), HTTPOptions{Listen: l.Addr().String()}, nil)
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("ListenAndServe returned %v, want the address in it", err)
	}
}

// A request that trickles in, or never comes to its end, does not hold on to a
// connection for ever.
func TestSlowRequestIsDropped(t *testing.T) {
	g := newSite()
	s := newServer(t, g)
	s.pace = 50 * time.Millisecond
	url, _ := serving(t, s, HTTPOptions{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("%q, %v, want a refusal and the end", answer, err)
	}
}

// The deadline of reading a request is not one of the call.
func TestLongCallOutlivesThePace(t *testing.T) {
	s := newServer(t, newSite())
	s.pace = 50 * time.Millisecond
	url, _ := serving(t, s, HTTPOptions{})
	for _, e := range []era{modern, legacy} {
		w := at(t, url)
		if r := w.client(t, e, "").ask(t, e.rawCall(1, "ssh_run", run("sleep 1"))); r.Error != nil || r.Result.IsError {
			t.Errorf("%s: %v", e, r)
		}
	}
}

// A client that does not read what it asked for loses its call, not our memory.
func TestClientThatDoesNotReadIsDropped(t *testing.T) {
	g := newSite()
	s := newServer(t, g)
	s.pace, s.heartbeat = 50*time.Millisecond, 10*time.Microsecond
	url, stop := serving(t, s, HTTPOptions{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(1)
	params := modern.callParams("ssh_run", run("sleep 2"))
	params["_meta"].(map[string]any)["progressToken"] = strings.Repeat("p", 250)
	body := rawRequest(1, "tools/call", params)
	fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nMcp-Protocol-Version: %s\r\nMcp-Method: tools/call\r\nMcp-Name: ssh_run\r\nContent-Length: %d\r\n\r\n%s", modern, len(body), body)
	g.started(t, 1)
	g.seen(t, "the end of the call", func(v []visit) bool { return v[0].done })
	if err := stop(); err != nil {
		t.Errorf("the call was not let go of: %v", err)
	}
}

// What keeps the server from listening is told in words, with what to do.
func TestCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for listen, want := range map[string]string{
		taken.Addr().String(): "another process listens at " + taken.Addr().String() + "; end it, or set another http.listen",
		"192.0.2.1:8022":      "this machine has no address such as 192.0.2.1:8022; set another http.listen",
	} {
		err := newServer(t, newSite()).ListenAndServe(t.Context(), HTTPOptions{Listen: listen, Tokens: twoTokens}, nil)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", listen, err, want)
		}
	}
}
