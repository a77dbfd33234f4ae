package tool

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Resource is something that clients read by its URI. A read is a call of Tool,
// which is in no list of tools, so that reading is judged and recorded on the
// same road as everything else.
type Resource struct {
	// URI may hold one {variable}, which then is the one argument of Tool.
	URI   string
	Title string
	Doc   string // one sentence for agents
	MIME  string
	Tool  *Tool // its results are Readings
}

// Reading is the result of reading a resource.
type Reading interface {
	Result
	// Contents are what was read: bytes, a text, or what marshals to JSON.
	// Nil when nothing was read.
	Contents() any
}

// IsTemplate says that the URI has a variable.
func (r *Resource) IsTemplate() bool { return strings.Contains(r.URI, "{") }

// Match takes a URI for one of this resource: the value of its variable, and the
// arguments with which Tool reads it.
func (r *Resource) Match(uri string) (value string, args json.RawMessage, ok bool) {
	before, rest, template := strings.Cut(r.URI, "{")
	if !template {
		return "", json.RawMessage(`{}`), uri == r.URI
	}
	variable, after, _ := strings.Cut(rest, "}")
	value, found := strings.CutPrefix(uri, before)
	if value, ok = strings.CutSuffix(value, after); !found || !ok || value == "" || strings.Contains(value, "/") {
		return "", nil, false
	}
	return value, json.RawMessage(fmt.Sprintf(`{%q:%s}`, variable, marshal(value))), true
}
