package mcpserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
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
	uri  string          // resources/read: the resource
	// protocol is the version in the message itself, which only clients of
	// 2026-07-28 and later write there.
	protocol string
	progress json.RawMessage // the progress token, as sent; nil without one
	trace    tool.Trace
	cancels  json.RawMessage // notifications/cancelled: the id of the request
}

// refusal is a JSON-RPC error that this package answers with.
type refusal struct {
	id      json.RawMessage // nil when it could not be read
	code    int
	message string
	data    map[string]any // facts for programs; nil for none
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
	details := mcp.JSONRPCErrorDetails{Code: r.code, Message: r.message}
	if r.data != nil {
		details.Data = r.data
	}
	b, err := json.Marshal(map[string]any{"jsonrpc": mcp.JSONRPC_VERSION, "id": id, "error": details})
	if err != nil {
		panic("mcpserver: a refusal that cannot be marshalled: " + err.Error())
	}
	return b
}

func (m *message) isRequest() bool { return m.id != nil && m.method != "" }

// readMessage takes a message apart.
func readMessage(raw []byte) (*message, *refusal) {
	raw = bytes.TrimSpace(raw)
	if !json.Valid(raw) {
		return nil, &refusal{code: mcp.PARSE_ERROR, message: "not valid JSON: " + json.Unmarshal(raw, new(any)).Error()}
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
	top, problem := readObject(m.raw, "", "params")
	if id := top.get("id"); id != nil {
		var err error
		if m.id, err = readID(id); err != nil {
			return fmt.Errorf("id: %w", err)
		}
	}
	if problem != nil {
		return problem
	}
	if version := top.get("jsonrpc"); string(version) != `"2.0"` {
		return errors.New(`jsonrpc is not "2.0"`)
	}
	if method := top.get("method"); method != nil {
		if m.method = readString(method); m.method == "" {
			return errors.New("method is not a name")
		}
	} else if m.id == nil || top.get("result") == nil && top.get("error") == nil {
		return errors.New("neither a request nor a notification nor a response")
	}
	return m.readParams(top.get("params"))
}

func (m *message) readParams(raw json.RawMessage) error {
	if isNull(raw) {
		return nil
	}
	params, err := readObject(raw, "params", "arguments", "_meta")
	if err != nil {
		return err
	}
	switch mcp.MCPMethod(m.method) {
	case mcp.MethodToolsCall:
		if m.tool = readString(params.get("name")); m.tool == "" {
			return errors.New("params.name is not the name of a tool")
		}
		m.args = params.get("arguments")
		m.raw = without(m.raw, m.args)
	case mcp.MethodResourcesRead:
		m.uri = readString(params.get("uri"))
	case mcp.MethodNotificationCancelled:
		// A request id that no request can have cancels nothing.
		m.cancels, _ = readID(params.get("requestId"))
	}
	return m.readMeta(params.get("_meta"))
}

// without is a message with an empty object in the place of a piece of it: what
// mcp-go is given in the place of arguments. They are not its business, and it
// would refuse, in its own words and off the record, a number that no float
// holds.
func without(raw []byte, piece json.RawMessage) []byte {
	if piece == nil {
		return raw
	}
	at := cap(raw) - cap(piece) // both end where their array does
	return slices.Concat(raw[:at], []byte("{}"), raw[at+len(piece):])
}

func (m *message) readMeta(raw json.RawMessage) error {
	if isNull(raw) {
		return nil
	}
	meta, err := readObject(raw, "params._meta")
	if err != nil {
		return err
	}
	m.protocol = readString(meta.get(mcp.MetaKeyProtocolVersion))
	m.trace = tool.ParseTrace(readString(meta.get(traceKey)))
	if token := meta.get("progressToken"); token != nil {
		if m.progress, err = readID(token); err != nil {
			return fmt.Errorf("params._meta.progressToken: %w", err)
		}
	}
	return nil
}

// traceKey is where a request says which trace it is part of: a member of _meta,
// and a header of HTTP.
const traceKey = "traceparent"

func isNull(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

// readID reads a request id or a progress token in the form in which two equal
// ones have equal bytes.
func readID(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) > 0 && raw[0] == '"' {
		id, err := json.Marshal(readString(raw))
		if err != nil || len(id) > 256 {
			return nil, errors.New("longer than 256 bytes")
		}
		return id, nil
	}
	// Beyond 2^53 a number changes on its way through clients and servers
	// that read it as a float.
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n > 1<<53 || n < -1<<53 {
		return nil, errors.New("neither a string nor an integer of at most 2^53")
	}
	return raw, nil
}

// readString is empty for what is not a string.
func readString(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// object is the members of a JSON object, in the order in which they stand
// there. The values are pieces of the message.
type object []member

type member struct {
	key   string
	value json.RawMessage
}

func (o object) get(key string) json.RawMessage {
	for i := range o {
		if o[i].key == key {
			return o[i].value
		}
	}
	return nil
}

// split takes an object apart. It is valid JSON: that was checked when the
// message came.
func split(raw []byte) object {
	var o object
	for i := space(raw, 1); raw[i] != '}'; {
		if raw[i] == ',' {
			i = space(raw, i+1)
		}
		key := raw[i:valueEnd(raw, i)]
		i = space(raw, i+len(key)) // the colon
		i = space(raw, i+1)
		value := raw[i:valueEnd(raw, i)]
		o = append(o, member{unquote(key), value})
		i = space(raw, i+len(value))
	}
	return o
}

// elements takes a list apart.
func elements(raw []byte) []json.RawMessage {
	var all []json.RawMessage
	for i := space(raw, 1); raw[i] != ']'; {
		if raw[i] == ',' {
			i = space(raw, i+1)
		}
		value := raw[i:valueEnd(raw, i)]
		all = append(all, value)
		i = space(raw, i+len(value))
	}
	return all
}

// space is where the white space that begins at i ends.
func space(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\r' || raw[i] == '\n' {
		i++
	}
	return i
}

// valueEnd is where the value that begins at i ends.
func valueEnd(raw []byte, i int) int {
	depth := 0
	for ; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = stringEnd(raw, i)
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default:
			if depth > 0 {
				continue
			}
			i += bytes.IndexAny(raw[i:], ",]} \t\r\n") - 1 // a number or a word; something always follows it
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// stringEnd is where the closing quote of the string stands that begins at i.
func stringEnd(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i
}

// unquote is a JSON string's text. What is not valid UTF-8 comes out with a
// replacement character in it.
func unquote(raw []byte) string {
	if text := raw[1 : len(raw)-1]; bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		return string(text)
	}
	return readString(raw)
}

// readObject takes an object apart and refuses one that could be read
// otherwise, at any level, but for the members that its caller reads, which it
// leaves to that. What is not an object is refused too.
func readObject(raw []byte, path string, left ...string) (object, error) {
	if raw[0] != '{' {
		return nil, fmt.Errorf("%s is not an object", place(path))
	}
	if err := shallow(path); err != nil {
		return nil, err
	}
	o := split(raw)
	if err := o.distinct(path); err != nil {
		return o, err
	}
	for _, m := range o {
		if slices.Contains(left, m.key) {
			continue
		}
		if err := unambiguous(m.value, path, m.key); err != nil {
			return o, err
		}
	}
	return o, nil
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
		"progressToken", traceKey, mcp.MetaKeyProtocolVersion, mcp.MetaKeyClientInfo, mcp.MetaKeyClientCapabilities,
	},
	"params.clientInfo":                             {"name", "version", "title"},
	"params._meta." + mcp.MetaKeyClientInfo:         {"name", "version", "title"},
	"params.capabilities":                           {"elicitation", "sampling", "roots", "experimental", "extensions"},
	"params._meta." + mcp.MetaKeyClientCapabilities: {"elicitation", "sampling", "roots", "experimental", "extensions"},
}

// distinct refuses keys that some reader takes for another: a duplicate, and a
// known key in other letters, which encoding/json folds as Unicode does.
func (o object) distinct(path string) error {
	known := spellings[path]
	seen := make(map[string]bool, len(o))
	for _, m := range o {
		if strings.ContainsRune(m.key, utf8.RuneError) {
			return fmt.Errorf("%s holds a key that is not valid UTF-8", place(path))
		}
		if seen[m.key] {
			return fmt.Errorf("%s holds %q twice", place(path), clip(m.key))
		}
		seen[m.key] = true
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, m.key) })
		if i >= 0 && known[i] != m.key {
			return fmt.Errorf("%s holds %q: write it %q, keys are case-sensitive", place(path), m.key, known[i])
		}
	}
	return nil
}

// unambiguous refuses a value that could be read otherwise.
func unambiguous(value []byte, path, key string) error {
	switch {
	case value[0] == '{':
		_, err := readObject(value, join(path, key))
		return err
	case value[0] == '[':
		return unambiguousList(value, join(path, key))
	case !utf8.Valid(value):
		return fmt.Errorf("%s is not valid UTF-8", place(join(path, key)))
	}
	return nil
}

func unambiguousList(list []byte, path string) error {
	if err := shallow(path); err != nil {
		return err
	}
	for i, value := range elements(list) {
		if err := unambiguous(value, path, strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return nil
}

// shallow keeps the walk from following a message to where the stack ends. Dots
// in keys only make it stop earlier.
func shallow(path string) error {
	const deepest = 40
	if strings.Count(path, ".") > deepest {
		return errors.New("the message is nested too deeply")
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func place(path string) string {
	if path == "" {
		return "the message"
	}
	return clip(path)
}
