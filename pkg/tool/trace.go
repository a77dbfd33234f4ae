package tool

import "regexp"

// Trace says which distributed trace a request is part of. It goes into records,
// never into a decision: it is the client's own word.
type Trace struct {
	ID   string // 32 lower-case hex digits; empty outside of a trace
	Span string // 16 of them: the client's part of it
}

var traceparent = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$`)

// ParseTrace reads a traceparent (W3C Trace Context, section 3.2). One that breaks
// the format is as good as none, as that says.
func ParseTrace(header string) Trace {
	m := traceparent.FindStringSubmatch(header)
	switch {
	case m == nil, m[1] == "ff", m[1] == "00" && m[4] != "":
		return Trace{}
	case m[2] == "00000000000000000000000000000000", m[3] == "0000000000000000":
		return Trace{}
	}
	return Trace{ID: m[2], Span: m[3]}
}
