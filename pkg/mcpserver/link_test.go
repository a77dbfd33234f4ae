package mcpserver

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

// era is a protocol era as a client speaks it.
type era string

const (
	modern era = mcp.ProtocolVersion20260728
	legacy era = mcp.ProtocolVersion20251125
)

// params adds what the era says in every request.
func (e era) params(fields map[string]any) map[string]any {
	if fields == nil {
		fields = map[string]any{}
	}
	meta, _ := fields["_meta"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	if e == modern {
		meta[mcp.MetaKeyProtocolVersion] = string(modern)
		meta[mcp.MetaKeyClientCapabilities] = map[string]any{}
		meta[mcp.MetaKeyClientInfo] = map[string]any{"name": "probe", "version": "1"}
	}
	if len(meta) > 0 {
		fields["_meta"] = meta
	}
	return fields
}

// callParams is a tools/call; args is raw JSON.
func (e era) callParams(name, args string) map[string]any {
	return e.params(map[string]any{"name": name, "arguments": json.RawMessage(args)})
}

func rawRequest(id any, method string, params map[string]any) []byte {
	return marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

// rawCall is a tools/call whose arguments stay as they are, which marshalling
// would not leave them.
func (e era) rawCall(id int, name, args string) []byte {
	b := rawRequest(id, "tools/call", e.callParams(name, `"ARGUMENTS"`))
	return bytes.Replace(b, []byte(`"ARGUMENTS"`), []byte(args), 1)
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func run(command string) string {
	return string(marshal(map[string]string{"alias": "web1", "command": command}))
}

// reply is what came back for a request.
type reply struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Error  *struct {
		Code    int            `json:"code"`
		Message string         `json:"message"`
		Data    map[string]any `json:"data"`
	} `json:"error"`
	Result struct {
		IsError           bool            `json:"isError"`
		StructuredContent json.RawMessage `json:"structuredContent"`
		Content           []struct {
			Text string `json:"text"`
		} `json:"content"`
		Tools             []json.RawMessage `json:"tools"`
		Resources         []listedResource  `json:"resources"`
		ResourceTemplates []listedResource  `json:"resourceTemplates"`
		Contents          []struct {
			URI      string         `json:"uri"`
			MIMEType string         `json:"mimeType"`
			Text     string         `json:"text"`
			Blob     string         `json:"blob"`
			Meta     map[string]any `json:"_meta"`
		} `json:"contents"`
		Prompts []struct {
			Name, Title, Description string
		} `json:"prompts"`
		Messages []struct {
			Role    string
			Content struct{ Type, Text string }
		} `json:"messages"`
		Meta map[string]any `json:"_meta"`
	} `json:"result"`
	Params json.RawMessage `json:"params"`

	before []reply // notifications that came before the response
	status int     // HTTP
}

type listedResource struct {
	URI         string `json:"uri"`
	URITemplate string `json:"uriTemplate"`
	Name        string `json:"name"`
	Title       string `json:"title"`
	Description string `json:"description"`
	MIMEType    string `json:"mimeType"`
}

func (r reply) text() string {
	if len(r.Result.Content) == 0 {
		return ""
	}
	return r.Result.Content[0].Text
}

func parse(t *testing.T, raw []byte) reply {
	t.Helper()
	var r reply
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatalf("not a message: %q: %v", raw, err)
	}
	return r
}

// link is a client of one era over one transport, which writes raw messages.
type link interface {
	era() era
	// ask sends a request and waits for its response.
	ask(t *testing.T, raw []byte) reply
}

// over runs a test in both eras over both transports.
func over(t *testing.T, test func(t *testing.T, g *site, s *Server, l link)) {
	for _, e := range []era{modern, legacy} {
		t.Run("stdio "+string(e), func(t *testing.T) {
			g := newSite()
			s := newServer(t, g)
			p := openPipe(t, s, e)
			test(t, g, s, p)
		})
		t.Run("http "+string(e), func(t *testing.T) {
			g := newSite()
			s := newServer(t, g)
			w := serveHTTP(t, s, HTTPOptions{})
			test(t, g, s, w.client(t, e, ""))
		})
	}
}

// stdioLink is a raw stdio client.
type stdioLink struct {
	speaks era
	in     *io.PipeWriter
	stop   context.CancelFunc
	served chan error // what ServeStdio returned

	mu    sync.Mutex
	lines []string
	came  chan struct{}
}

func openPipe(t *testing.T, s *Server, e era) *stdioLink {
	t.Helper()
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	p := &stdioLink{speaks: e, in: toServer, stop: stop, served: make(chan error, 1), came: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(func() { p.read(fromServer) })
	reading.Go(func() {
		p.served <- s.ServeStdio(ctx, tool.Caller{Subject: "me", Auth: "local"}, in, out)
		out.Close()
	})
	t.Cleanup(func() {
		toServer.Close()
		reading.Wait()
		stop()
		in.Close()
	})
	if e == legacy {
		p.send(t, rawRequest(0, "initialize", map[string]any{
			"protocolVersion": string(legacy), "capabilities": map[string]any{},
			"clientInfo": map[string]any{"name": "probe", "version": "1"},
		}))
		p.next(t, func(r reply) bool { return string(r.ID) == "0" })
		p.send(t, []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	}
	return p
}

func (p *stdioLink) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		l, err := lines.ReadString('\n')
		if l != "" {
			p.mu.Lock()
			p.lines = append(p.lines, l)
			close(p.came)
			p.came = make(chan struct{})
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func (p *stdioLink) era() era { return p.speaks }

func (p *stdioLink) send(t *testing.T, raw []byte) {
	t.Helper()
	if _, err := p.in.Write(append(raw, '\n')); err != nil {
		t.Fatal(err)
	}
}

// next takes messages up to and including the first that fits.
func (p *stdioLink) next(t *testing.T, fits func(reply) bool) reply {
	t.Helper()
	late := time.After(30 * time.Second)
	var before []reply
	for {
		p.mu.Lock()
		lines, came := p.lines, p.came
		p.lines = nil
		for i, l := range lines {
			r := parse(t, []byte(l))
			if fits(r) {
				r.before = before
				p.lines = lines[i+1:]
				p.mu.Unlock()
				return r
			}
			before = append(before, r)
		}
		p.mu.Unlock()
		select {
		case <-came:
		case <-late:
			t.Fatalf("no such message came; but %+v", before)
		}
	}
}

func (p *stdioLink) ask(t *testing.T, raw []byte) reply {
	t.Helper()
	id := parse(t, raw).ID
	p.send(t, raw)
	return p.next(t, func(r reply) bool { return r.Method == "" && string(r.ID) == string(id) })
}

// web is an HTTP server under test.
type web struct {
	endpoint *endpoint // nil when it is not in the test's hands
	url      string
	http     *http.Client
}

// at is a server that is already there.
func at(t *testing.T, url string) *web {
	t.Helper()
	own := &http.Transport{}
	t.Cleanup(own.CloseIdleConnections)
	return &web{url: url, http: &http.Client{Transport: own}}
}

func serveHTTP(t *testing.T, s *Server, o HTTPOptions) *web {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	e, err := s.newEndpoint(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e.handler())
	t.Cleanup(server.Close)
	w := at(t, server.URL)
	w.endpoint = e
	return w
}

// httpLink is a raw HTTP client.
type httpLink struct {
	web     *web
	speaks  era
	token   string
	session string
}

func (w *web) client(t *testing.T, e era, token string) *httpLink {
	t.Helper()
	c := &httpLink{web: w, speaks: e, token: token}
	if e == legacy {
		if status := c.initialize(t); status != http.StatusOK {
			t.Fatalf("initialize: status %d", status)
		}
	}
	return c
}

func (c *httpLink) initialize(t *testing.T) (status int) {
	t.Helper()
	response := c.do(t, c.post(t, rawRequest(0, "initialize", map[string]any{
		"protocolVersion": string(legacy), "capabilities": map[string]any{},
		"clientInfo": map[string]any{"name": "probe", "version": "1"},
	})))
	io.Copy(io.Discard, response.Body)
	c.session = response.Header.Get(mcp.HeaderSessionID)
	return response.StatusCode
}

func (c *httpLink) era() era { return c.speaks }

// post is a request as a client of the era sends it.
func (c *httpLink) post(t *testing.T, raw []byte) *http.Request {
	t.Helper()
	r := c.verb(t, http.MethodPost, bytes.NewReader(raw))
	r.Header.Set("Content-Type", "application/json")
	if c.speaks != modern {
		return r
	}
	var m struct {
		Method string
		Params struct{ Name, URI string }
	}
	_ = json.Unmarshal(raw, &m) // what is not JSON is sent too
	r.Header.Set(mcp.HeaderMethod, m.Method)
	if name := cmp.Or(m.Params.Name, m.Params.URI); name != "" {
		r.Header.Set(mcp.HeaderName, name)
	}
	return r
}

func (c *httpLink) verb(t *testing.T, method string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.web.url+"/mcp", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set(mcp.HeaderProtocolVersion, string(c.speaks))
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.session != "" {
		r.Header.Set(mcp.HeaderSessionID, c.session)
	}
	return r
}

func (c *httpLink) do(t *testing.T, r *http.Request) *http.Response {
	t.Helper()
	response, err := c.web.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// status sends a request and is only interested in how it is taken.
func (c *httpLink) status(t *testing.T, r *http.Request) int {
	t.Helper()
	response := c.do(t, r)
	defer response.Body.Close()
	return response.StatusCode
}

func (c *httpLink) ask(t *testing.T, raw []byte) reply {
	t.Helper()
	response := c.do(t, c.post(t, raw))
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var r reply
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		r = parse(t, body)
		r.status = response.StatusCode
		return r
	}
	events := eventsOf(string(body))
	if len(events) == 0 {
		t.Fatalf("a stream without events: %q", body)
	}
	for _, e := range events[:len(events)-1] {
		r.before = append(r.before, parse(t, []byte(e)))
	}
	last := parse(t, []byte(events[len(events)-1]))
	last.before, last.status = r.before, response.StatusCode
	return last
}

func eventsOf(stream string) []string {
	var events []string
	for _, l := range strings.Split(stream, "\n") {
		if data, ok := strings.CutPrefix(l, "data: "); ok {
			events = append(events, data)
		}
	}
	return events
}

func (r reply) String() string {
	if r.Error != nil {
		return fmt.Sprintf("error %d %q", r.Error.Code, r.Error.Message)
	}
	return fmt.Sprintf("isError=%v %q %s", r.Result.IsError, r.text(), r.Result.StructuredContent)
}
