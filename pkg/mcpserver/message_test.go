package mcpserver

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

func TestReadMessage(t *testing.T) {
	const args = `{"a":1,"a":2,"A":"` + "\xff" + `"}`
	m, refused := readMessage([]byte(` {"jsonrpc":"2.0","id":"x\u0041","method":"tools/call","params":{"name":"ssh_run","arguments":` + args +
		`,"_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}` + "\n"))
	if refused != nil {
		t.Fatal(refused.message)
	}
	if got := string(m.args); got != args {
		t.Errorf("arguments = %q, want the bytes as sent: %q", got, args)
	}
	if m.tool != "ssh_run" || m.method != "tools/call" || string(m.id) != `"xA"` || string(m.progress) != "7" || m.protocol != "2026-07-28" {
		t.Errorf("read %+v", m)
	}
}

func TestReadMessageRefuses(t *testing.T) {
	call := func(params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + params + `}`
	}
	tests := []struct {
		name, message string
		code          int
		says          string
	}{
		{"garbage", `hello`, mcp.PARSE_ERROR, "not valid JSON"},
		{"nothing", ``, mcp.PARSE_ERROR, "not valid JSON"},
		{"cut off", `{"jsonrpc":"2.0"`, mcp.PARSE_ERROR, "not valid JSON"},
		{"two messages", `{"jsonrpc":"2.0","id":1,"method":"ping"} {}`, mcp.PARSE_ERROR, "not valid JSON"},
		{"batch", `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, mcp.INVALID_REQUEST, "batches"},
		{"number", `1`, mcp.INVALID_REQUEST, "object"},
		{"version missing", `{"id":1,"method":"ping"}`, mcp.INVALID_REQUEST, "jsonrpc"},
		{"version 1", `{"jsonrpc":"1.0","id":1,"method":"ping"}`, mcp.INVALID_REQUEST, "jsonrpc"},
		{"no method", `{"jsonrpc":"2.0","id":1}`, mcp.INVALID_REQUEST, "neither"},
		{"method empty", `{"jsonrpc":"2.0","id":1,"method":""}`, mcp.INVALID_REQUEST, "method"},
		{"method number", `{"jsonrpc":"2.0","id":1,"method":1}`, mcp.INVALID_REQUEST, "method"},
		{"id null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, mcp.INVALID_REQUEST, "id"},
		{"id fraction", `{"jsonrpc":"2.0","id":1.5,"method":"ping"}`, mcp.INVALID_REQUEST, "id"},
		{"id that floats lose", `{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`, mcp.INVALID_REQUEST, "id"},
		{"id object", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, mcp.INVALID_REQUEST, "id"},
		{"id long", `{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 300) + `","method":"ping"}`, mcp.INVALID_REQUEST, "id"},
		{"params list", `{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}`, mcp.INVALID_REQUEST, "params"},
		{"tool missing", call(`{}`), mcp.INVALID_REQUEST, "params.name"},
		{"tool number", call(`{"name":1}`), mcp.INVALID_REQUEST, "params.name"},
		{"progress token object", call(`{"name":"x","_meta":{"progressToken":{}}}`), mcp.INVALID_REQUEST, "progressToken"},

		{"method twice", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, mcp.INVALID_REQUEST, `"method" twice`},
		{"method escaped twice", `{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/call"}`, mcp.INVALID_REQUEST, `"method" twice`},
		{"Method", `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`, mcp.INVALID_REQUEST, `"Method": write it "method"`},
		{"Method alone", `{"jsonrpc":"2.0","id":1,"Method":"ping"}`, mcp.INVALID_REQUEST, `"Method"`},
		{"ID", `{"jsonrpc":"2.0","id":1,"ID":2,"method":"ping"}`, mcp.INVALID_REQUEST, `"ID"`},
		{"Params", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"},"Params":{"name":"b"}}`, mcp.INVALID_REQUEST, `"Params"`},
		{"long s", `{"jsonrpc":"2.0","id":1,"method":"ping","param` + "\u017f" + `":{}}`, mcp.INVALID_REQUEST, `write it "params"`},
		{"NAME", call(`{"name":"ssh_ping","NAME":"ssh_run"}`), mcp.INVALID_REQUEST, `"NAME"`},
		{"name twice", call(`{"name":"ssh_ping","name":"ssh_run"}`), mcp.INVALID_REQUEST, `"name" twice`},
		{"Arguments", call(`{"name":"a","arguments":{},"Arguments":{"x":1}}`), mcp.INVALID_REQUEST, `"Arguments"`},
		{"arguments twice", call(`{"name":"a","arguments":{},"arguments":{"x":1}}`), mcp.INVALID_REQUEST, `"arguments" twice`},
		{"_META", call(`{"name":"a","_META":{}}`), mcp.INVALID_REQUEST, `"_META"`},
		{"version in meta twice", call(`{"name":"a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/protocolVersion":"2025-11-25"}}`), mcp.INVALID_REQUEST, "twice"},
		{"version in meta in other letters", call(`{"name":"a","_meta":{"io.modelcontextprotocol/ProtocolVersion":"2026-07-28"}}`), mcp.INVALID_REQUEST, "write it"},
		{"client's name twice", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"a","Name":"b"}}}`, mcp.INVALID_REQUEST, `"Name"`},
		{"twice in a list", call(`{"name":"a","_meta":{"x":[{"y":1,"y":2}]}}`), mcp.INVALID_REQUEST, `"y" twice`},
		{"invalid UTF-8 in a name", call(`{"name":"a` + "\xff" + `"}`), mcp.INVALID_REQUEST, "UTF-8"},
		{"invalid UTF-8 in a key", call(`{"name":"a","` + "\xff" + `":1}`), mcp.INVALID_REQUEST, "UTF-8"},
		{"invalid UTF-8 in meta", call(`{"name":"a","_meta":{"x":"` + "\xc3" + `"}}`), mcp.INVALID_REQUEST, "UTF-8"},
		{"deep", call(`{"name":"a","_meta":` + strings.Repeat(`{"x":`, 60) + "1" + strings.Repeat("}", 60) + `}`), mcp.INVALID_REQUEST, "deep"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, refused := readMessage([]byte(test.message))
			if refused == nil {
				t.Fatalf("read %+v, want a refusal", m)
			}
			if refused.code != test.code || !strings.Contains(refused.message, test.says) {
				t.Errorf("refused with %d %q, want %d and %q", refused.code, refused.message, test.code, test.says)
			}
			if !json.Valid(refused.encode()) {
				t.Errorf("not JSON: %s", refused.encode())
			}
		})
	}
}

// Names that only look like ours, and other methods' own words, are fine.
func TestReadMessageAccepts(t *testing.T) {
	for _, message := range []string{
		`{"jsonrpc":"2.0","id":0,"method":"ping"}`,
		"{ \"jsonrpc\" :\t\"2.0\" ,\r\n \"id\" : 1 , \"method\" : \"tools/call\" , \"params\" : { \"name\" : \"x\" , \"_meta\" : { \"progressToken\" : 1 , \"a\" : [ { } , 1 ] } } }",
		`{"jsonrpc":"2.0","id":-1,"method":"ping","params":null}`,
		`{"jsonrpc":"2.0","id":"","method":"ping","params":{}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":1,"result":{}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x/y","params":{"Anything":1,"anything":2}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"x"}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}`,
	} {
		if _, refused := readMessage([]byte(message)); refused != nil {
			t.Errorf("%s: %s", message, refused.message)
		}
	}
}

// FuzzReadMessage: no panic; what is read agrees with what mcp-go will read;
// the arguments are a piece of what was sent.
func FuzzReadMessage(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ssh_run","arguments":{"a":[1,{"b":"c"}]},"_meta":{"progressToken":"t"}}}`,
		`{"jsonrpc":"2.0","id":1,"Method":"a","method":"b"}`,
		`{"jsonrpc":"2.0","id":1,"param` + "\u017f" + `":{"name":"x"}}`,
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}`,
		`[]`, `{`, "\"\xff\"", `{"":0}`, `null`, `{"jsonrpc":"2.0","id":1e3,"method":"x"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, refused := readMessage(raw)
		if refused != nil {
			if !json.Valid(refused.encode()) {
				t.Fatalf("refusal is not JSON: %s", refused.encode())
			}
			return
		}
		var theirs struct {
			Method string `json:"method"`
			Params struct {
				Name      string          `json:"name"`
				Arguments json.RawMessage `json:"arguments"`
			} `json:"params"`
		}
		if err := json.Unmarshal(raw, &theirs); err != nil {
			if m.method == string(mcp.MethodToolsCall) {
				t.Fatalf("read %q, which mcp-go cannot: %v", raw, err)
			}
			return
		}
		if theirs.Method != m.method {
			t.Fatalf("method %q here, %q in mcp-go", m.method, theirs.Method)
		}
		if m.method == string(mcp.MethodToolsCall) && (theirs.Params.Name != m.tool || string(theirs.Params.Arguments) != string(m.args)) {
			t.Fatalf("call of %q with %s here, %q with %s in mcp-go", m.tool, m.args, theirs.Params.Name, theirs.Params.Arguments)
		}
		if !strings.Contains(string(raw), string(m.args)) {
			t.Fatalf("arguments %q are not in %q", m.args, raw)
		}
	})
}
