package tool

import "encoding/json"

// Tool is a tool as a value: what an agent sees of it, and two pure functions
// around the walk.
type Tool struct {
	Name   string
	Set    string
	Doc    string
	Effect Effect
	Input  json.RawMessage // JSON Schema of the arguments, closed
	Output json.RawMessage // JSON Schema of the structured result, closed
	// Plan decodes the arguments strictly and plans the call. Its error is
	// an [*ArgumentError].
	Plan func(args json.RawMessage) (Plan, error)
	// Format turns what happened into the structured result.
	Format func(args json.RawMessage, runs []Run) (any, error)
}

// Run is one plan on one host after the walk: what was decided, and what came
// of it. Report is nil when nothing ran.
type Run struct {
	CallID   string
	Target   Target
	Plan     Plan
	Digest   string
	Decision Decision
	Report   *Report
}
