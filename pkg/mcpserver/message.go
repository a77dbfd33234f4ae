package mcpserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
)

// message is one JSON-RPC message as the client sent it. It is taken apart
// before mcp-go sees it, because encoding/json would mend it in silence: fold
// the case of keys, let the last duplicate win, replace invalid UTF-8. What an
// inspector in front of us reads would then not be what runs. An envelope that
// has two readings is refused; the arguments of a tool are left as they came,
// for the gateway to refuse and to record.
type message struct {
	raw    []byte
	id     json.RawMessage // as sent; nil in a notification
	method string          // empty in a response

	tool string          // tools/call: the tool
	args json.RawMessage // tools/call: the arguments, as sent
	// protocol is the version in the message itself, which only clients of
	// 2026-07-28 and later write there.
	protocol string
	progress json.RawMessage // the progress token, as sent; nil without one
	cancels  json.RawMessage // notifications/cancelled: the id of the request
}

// refusal is a JSON-RPC error that this package answers with.
type refusal struct {
	id      json.RawMessage // nil when it could not be read
	code    int
	message string
	data    any
}

// codeBusy and codeShutdown are of the range that JSON-RPC leaves to servers.
const (
	codeBusy     = -32000
	codeShutdown = -32001
)

// encode is the refusal as a JSON-RPC response.
func (r *refusal) encode() []byte {
	id := r.id
	if id == nil {
		id = json.RawMessage("null")
	}
	b, err := json.Marshal(map[string]any{
		"jsonrpc": mcp.JSONRPC_VERSION, "id": id,
		"error": mcp.JSONRPCErrorDetails{Code: r.code, Message: r.message, Data: r.data},
	})
	if err != nil {
		panic("mcpserver: a refusal that cannot be marshalled: " + err.Error())
	}
	return b
}

func (m *message) isRequest() bool { return m.id != nil && m.method != "" }

// readMessage takes a message apart.
func readMessage(raw []byte) (*message, *refusal) {
	raw = bytes.TrimSpace(raw)
	var any json.RawMessage
	if err := json.Unmarshal(raw, &any); err != nil {
		return nil, &refusal{code: mcp.PARSE_ERROR, message: "not valid JSON: " + err.Error()}
	}
	switch raw[0] {
	case '{':
	case '[':
		return nil, &refusal{code: mcp.INVALID_REQUEST, message: "batches are not supported: send one message at a time"}
	default:
		return nil, &refusal{code: mcp.INVALID_REQUEST, message: "a message is a JSON object"}
	}
	m := &message{raw: raw}
	if err := m.read(); err != nil {
		return nil, &refusal{id: m.id, code: mcp.INVALID_REQUEST, message: err.Error()}
	}
	return m, nil
}

func (m *message) read() error {
	top, err := readObject(m.raw, nil)
	if err != nil {
		return err
	}
	if id, ok := top["id"]; ok {
		if m.id, err = readID(id); err != nil {
			return fmt.Errorf("id: %w", err)
		}
	}
	if version := top["jsonrpc"]; string(version) != `"2.0"` {
		return fmt.Errorf(`jsonrpc is not "2.0"`)
	}
	if method, ok := top["method"]; ok {
		if m.method, err = readString(method); err != nil || m.method == "" {
			return fmt.Errorf("method is not a name")
		}
	} else if m.id == nil || top["result"] == nil && top["error"] == nil {
		return fmt.Errorf("neither a request nor a notification nor a response")
	}
	if err := m.readParams(top["params"]); err != nil {
		return err
	}
	return unambiguous(m.raw, nil)
}

func (m *message) readParams(raw json.RawMessage) error {
	if raw == nil || string(raw) == "null" {
		return nil
	}
	if raw[0] != '{' {
		return fmt.Errorf("params is not an object")
	}
	params, err := readObject(raw, []string{"params"})
	if err != nil {
		return err
	}
	switch mcp.MCPMethod(m.method) {
	case mcp.MethodToolsCall:
		if m.tool, err = readString(params["name"]); err != nil || m.tool == "" {
			return fmt.Errorf("params.name is not the name of a tool")
		}
		m.args = params["arguments"]
	case mcp.MethodNotificationCancelled:
		// A request id that no request can have cancels nothing.
		m.cancels, _ = readID(params["requestId"])
	}
	return m.readMeta(params["_meta"])
}

func (m *message) readMeta(raw json.RawMessage) error {
	if raw == nil || raw[0] != '{' {
		return nil
	}
	meta, err := readObject(raw, []string{"params", "_meta"})
	if err != nil {
		return err
	}
	if version, ok := meta[mcp.MetaKeyProtocolVersion]; ok {
		if m.protocol, err = readString(version); err != nil {
			return fmt.Errorf("params._meta[%q] is not a string", mcp.MetaKeyProtocolVersion)
		}
	}
	if token, ok := meta["progressToken"]; ok {
		if m.progress, err = readID(token); err != nil {
			return fmt.Errorf("params._meta.progressToken: %w", err)
		}
	}
	return nil
}

// readID reads a request id or a progress token in the form in which two equal
// ones have equal bytes.
func readID(raw json.RawMessage) (json.RawMessage, error) {
	if s, err := readString(raw); err == nil {
		if len(s) > 256 {
			return nil, fmt.Errorf("longer than 256 bytes")
		}
		return json.Marshal(s)
	}
	// Beyond 2^53 a number changes on its way through clients and servers
	// that read it as a float.
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n > 1<<53 || n < -1<<53 {
		return nil, fmt.Errorf("neither a string nor an integer of at most 2^53")
	}
	return raw, nil
}

func readString(raw json.RawMessage) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("not a string")
	}
	err := json.Unmarshal(raw, &s)
	return s, err
}

// member is a member of a JSON object, in the order in which it stands there.
type member struct {
	key   string
	value json.RawMessage
}

// members splits a valid JSON object.
func members(object []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	var all []member
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("a key that is not a string")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		all = append(all, member{name, value})
	}
	return all, nil
}

// readObject is an object's members by key, after [distinct] found that no two
// of them could be taken for one.
func readObject(object []byte, path []string) (map[string]json.RawMessage, error) {
	all, err := members(object)
	if err != nil {
		return nil, err
	}
	if err := distinct(all, path); err != nil {
		return nil, err
	}
	byKey := make(map[string]json.RawMessage, len(all))
	for _, m := range all {
		byKey[m.key] = m.value
	}
	return byKey, nil
}

// spellings are the keys that mean something to a server, by the object that
// they stand in.
var spellings = map[string][]string{
	"": {"jsonrpc", "id", "method", "params", "result", "error"},
	"params": {
		"name", "arguments", "_meta", "task", "inputResponses", "requestState", "cursor", "uri", "level",
		"protocolVersion", "capabilities", "clientInfo", "requestId", "reason", "progressToken", "progress",
		"notifications", "ref", "argument", "context",
	},
	"params._meta": {
		"progressToken", mcp.MetaKeyProtocolVersion, mcp.MetaKeyClientInfo, mcp.MetaKeyClientCapabilities,
	},
	"params.clientInfo":                             {"name", "version", "title"},
	"params._meta." + mcp.MetaKeyClientInfo:         {"name", "version", "title"},
	"params.capabilities":                           {"elicitation", "sampling", "roots", "experimental", "extensions"},
	"params._meta." + mcp.MetaKeyClientCapabilities: {"elicitation", "sampling", "roots", "experimental", "extensions"},
}

// distinct refuses keys that some reader takes for another: a duplicate, and a
// known key in other letters, which encoding/json folds as Unicode does.
func distinct(all []member, path []string) error {
	known := spellings[strings.Join(path, ".")]
	seen := make(map[string]bool, len(all))
	for _, m := range all {
		if strings.ContainsRune(m.key, utf8.RuneError) {
			return fmt.Errorf("%s holds a key that is not valid UTF-8", place(path))
		}
		if seen[m.key] {
			return fmt.Errorf("%s holds %q twice", place(path), m.key)
		}
		seen[m.key] = true
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, m.key) })
		if i >= 0 && known[i] != m.key {
			return fmt.Errorf("%s holds %q: write it %q, keys are case-sensitive", place(path), m.key, known[i])
		}
	}
	return nil
}

func place(path []string) string {
	if len(path) == 0 {
		return "the message"
	}
	return strings.Join(path, ".")
}

// unambiguous checks everything but the arguments of a tool or a prompt, at
// every level.
func unambiguous(value []byte, path []string) error {
	const deepest = 24
	switch {
	case len(path) > deepest:
		return fmt.Errorf("the message is nested too deeply")
	case len(path) == 2 && path[0] == "params" && path[1] == "arguments":
		return nil
	case value[0] == '{':
		return unambiguousObject(value, path)
	case value[0] == '[':
		return unambiguousList(value, path)
	case !utf8.Valid(value):
		return fmt.Errorf("%s is not valid UTF-8", place(path))
	}
	return nil
}

func unambiguousObject(object []byte, path []string) error {
	all, err := members(object)
	if err != nil {
		return err
	}
	if err := distinct(all, path); err != nil {
		return err
	}
	for _, m := range all {
		if err := unambiguous(m.value, append(slices.Clip(path), m.key)); err != nil {
			return err
		}
	}
	return nil
}

func unambiguousList(list []byte, path []string) error {
	var all []json.RawMessage
	if err := json.Unmarshal(list, &all); err != nil {
		return err
	}
	for i, value := range all {
		if err := unambiguous(value, append(slices.Clip(path), strconv.Itoa(i))); err != nil {
			return err
		}
	}
	return nil
}
