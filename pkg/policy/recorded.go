package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// recorded is a line of a decision log, read back. The texts are parts of the
// line.
type recorded struct {
	id, path       string
	time           time.Time
	bundles        map[string]eventBundle
	input, result  []byte // nil: not there
	masked, erased []string
	failed         eventError // why there was no answer; empty if there was one

	version             string // of the input, as it is written
	subject, host, tool string
}

var (
	errNotJSON     = errors.New("is no JSON, or was cut off")
	errNoObject    = errors.New("is no object")
	errNoDecision  = errors.New("has no decision_id")
	errNoInput     = errors.New("has no input that is an object")
	errNoResult    = errors.New("has no result that is an object")
	errNoTimestamp = errors.New("has no timestamp")
)

// readRecorded reads a line. What it has read is good for a report even where
// the rest is an error.
func readRecorded(line []byte) (*recorded, error) {
	r := &recorded{}
	switch text := bytes.TrimSpace(line); {
	case !json.Valid(text):
		return r, errNotJSON
	case text[0] != '{':
		return r, errNoObject
	default:
		return r, r.read(text)
	}
}

func (r *recorded) read(text []byte) error {
	var problems []error
	for m := range members(text) {
		if err := r.readField(string(m.name), m.value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", m.name, err))
		}
	}
	if len(problems) > 0 {
		return problems[0]
	}
	switch {
	case r.id == "":
		return errNoDecision
	case r.time.IsZero():
		return errNoTimestamp
	case r.input == nil && len(r.erased) == 0:
		return errNoInput
	case r.result == nil && len(r.erased) == 0:
		return errNoResult
	}
	r.readInput()
	return nil
}

// readField reads one field of a record. Others, which OPA or a collector of
// logs may add, say nothing about the decision.
func (r *recorded) readField(name string, value []byte) error {
	switch name {
	case "decision_id":
		return json.Unmarshal(value, &r.id)
	case "path":
		return json.Unmarshal(value, &r.path)
	case "timestamp":
		return json.Unmarshal(value, &r.time)
	case "bundles":
		return json.Unmarshal(value, &r.bundles)
	case "masked":
		return json.Unmarshal(value, &r.masked)
	case "erased":
		return json.Unmarshal(value, &r.erased)
	case "error":
		return json.Unmarshal(value, &r.failed)
	case "input":
		return objectIn(&r.input, value)
	case "result":
		return objectIn(&r.result, value)
	}
	return nil
}

func objectIn(dst *[]byte, value []byte) error {
	if value[0] != '{' {
		return errNoObject
	}
	*dst = value
	return nil
}

// readInput finds what a report says of every call. What a mask has taken away
// or made something else of stays empty.
func (r *recorded) readInput() {
	if r.input == nil {
		return
	}
	for m := range members(r.input) {
		switch string(m.name) {
		case "version":
			r.version = string(m.value)
		case "subject":
			r.subject = fieldOf(m.value, "id")
		case "host":
			r.host = fieldOf(m.value, "alias")
		case "call":
			r.tool = fieldOf(m.value, "tool")
		}
	}
}

// fieldOf is a field of an object, if it is a string.
func fieldOf(object []byte, name string) (s string) {
	if object[0] != '{' {
		return ""
	}
	for m := range members(object) {
		if string(m.name) == name && m.value[0] == '"' {
			s = string(unquote(m.value))
		}
	}
	return s
}

func (r *recorded) replayed() Replayed {
	out := Replayed{ID: r.id, Time: r.time, Subject: r.subject, Host: r.host, Tool: r.tool}
	out.InPart = slices.ContainsFunc(slices.Concat(r.masked, r.erased), ofInput)
	if r.bundles != nil {
		out.Bundles = make(map[string]string, len(r.bundles))
		for name, b := range r.bundles {
			out.Bundles[name] = b.Revision
		}
	}
	return out
}

func ofInput(place string) bool { return strings.HasPrefix(place, "/input") }

// unanswered are the codes of refusals that came from the moment and not from
// any rule.
var unanswered = []string{
	failures[failNotReady].Code, failures[failTimeout].Code, failures[failCancelled].Code,
}

// status says whether the decision can be judged again by rules that look at
// some parts of an input.
func (r *recorded) status(looked *reads) (Status, string) {
	switch {
	case strings.TrimPrefix(r.path, "/") != entryPath:
		return OtherQuery, r.path
	case slices.Contains(unanswered, r.failed.Code):
		return Unanswered, r.failed.Code
	}
	if status, place := r.missing(looked); status != Judged {
		return status, place
	}
	if want := fmt.Sprint(InputVersion); r.version != want {
		return OtherVersion, fmt.Sprintf("input.version is %s; this program reads %s", orNone(r.version), want)
	}
	return Judged, ""
}

func orNone(s string) string {
	if s == "" {
		return "missing"
	}
	return s
}

// missing says what is not in the record that would be needed to judge again, or
// to know what was decided, and how it went.
func (r *recorded) missing(looked *reads) (Status, string) {
	for _, place := range r.erased {
		if needed(place, looked) {
			return Erased, place
		}
	}
	for _, place := range r.masked {
		switch {
		case !needed(place, looked):
		case r.shows() == recordMeta && wordsOfOp.MatchString(place):
			return Withheld, place
		default:
			return Masked, place
		}
	}
	return Judged, ""
}

// wordsOfOp are the places that a record without the words of a call lacks.
var wordsOfOp = regexp.MustCompile(`^/input/ops/[0-9]+$`)

func needed(place string, looked *reads) bool {
	m, err := pointer(place)
	switch {
	case err != nil:
		return true // a place that nobody understands may be any
	case m.path[0] == "input":
		return looked.touches(m.path[1:])
	}
	return verdictParts.touches(m.path[1:])
}

// verdictParts are what has to be in a result to tell what was decided.
var verdictParts = &reads{fields: map[string]*reads{"allow": {whole: true}, "approval": {whole: true}}}

// shows is how much of the call the record shows.
func (r *recorded) shows() string {
	if r.result == nil {
		return ""
	}
	return fieldOf(r.result, "record")
}

// codes are those of the reasons on record.
func (r *recorded) codes() []string {
	var res struct{ Reasons []tool.Reason }
	if r.result == nil || json.Unmarshal(r.result, &res) != nil {
		return nil
	}
	return codesOf(res.Reasons)
}
