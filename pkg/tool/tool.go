// Package tool is the vocabulary in which Sallyport says what a call does.
//
// A [Tool] is a value: a name, a sentence, an [Effect], and a pure function, which
// turns checked arguments into a [Plan]; the plan turns what came of it into one
// closed result. A plan is a list of steps. Each [Step] holds what the
// executor does ([Do]) and what that means in the words that policy speaks
// ([Op]), so there is no step without a meaning and no meaning without a step.
//
// The package knows neither SSH nor OPA nor MCP, so a tool cannot reach a host
// past the gate: all it can do is return a plan. It imports pkg/shell, because
// a step that runs a command line holds the parsed document rather than text;
// with the document inside the plan nobody has to parse the line a second time.
package tool

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
)

// Tool is what [New] makes of a [Spec]: the same tool without its types.
type Tool struct {
	Name   string
	Set    string
	Doc    string
	Effect Effect
	Input  json.RawMessage // JSON Schema of the arguments, closed
	Output json.RawMessage // JSON Schema of the structured result, closed

	// Plan decodes the arguments strictly and plans the call, and how its result
	// is told. Its error is an [*ArgumentError].
	Plan func(args json.RawMessage) (Plan, error)
}

// Run is one plan on one host after the walk: what was decided, and what came
// of it. Report is nil when nothing ran.
type Run struct {
	CallID   string
	Target   Target
	Plan     Plan
	Digest   string
	Hash     string // names the command in records without repeating it; empty without one
	Decision Decision
	Report   *Report
	// Explanation is there when the plan asked for one; Unexplained says why policy
	// does not let the caller have it.
	Explanation *Explanation
	Unexplained []Reason
	// Culprit is, when a plan was asked for that policy denies for its commands, the
	// first one that it would deny by itself; empty where there is but one command,
	// or none such.
	Culprit string
	// Before is what the plan followed from, see Plan.Next.
	Before *Run
	// Skipped: it was not this host's turn yet when the call was stopped, which the
	// report says, or when another one had failed. Nothing was decided.
	Skipped bool
}

// Result is what an agent gets: an object that marshals to the tool's output
// schema, and a short text of the same facts.
type Result interface {
	Text() string
	// Failed says that there is something to act on: a refusal, a bad
	// argument, a remote failure. A non-zero exit status alone is not one.
	Failed() bool
}

// Spec is a tool with its types: A is the argument struct, which is also the
// schema (see [Schema] for the tags), R the result.
type Spec[A any, R Result] struct {
	Name   string // lower case, digits and underscores; at most 24 characters
	Set    string // toolset that it is switched on and off with
	Doc    string // one sentence for agents
	Effect Effect
	Plan   func(A) (Plan, error)
	// Format turns what happened on each host into the result; of a copy, on the
	// source first.
	Format func(A, []Run) R
}

// maxNameLength leaves room for the prefixes that hosts put before a tool's
// name: model APIs cap the whole at 64.
const maxNameLength = 24

var toolName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// New checks a definition and makes a tool of it. A definition is part of the
// program, so a wrong one panics.
func New[A any, R Result](s Spec[A, R]) *Tool {
	if err := s.check(); err != nil {
		panic(fmt.Sprintf("tool: %s: %v", s.Name, err))
	}
	fields := fieldsOf(reflect.TypeFor[A]()) // once: reading tags takes longer than decoding
	return &Tool{
		Name: s.Name, Set: s.Set, Doc: s.Doc, Effect: s.Effect,
		Input:  marshal(Schema(reflect.TypeFor[A]())),
		Output: marshal(Schema(reflect.TypeFor[R]())),
		Plan: func(raw json.RawMessage) (Plan, error) {
			var args A
			if err := decode(raw, &args, fields); err != nil {
				return Plan{}, err
			}
			plan, err := s.Plan(args)
			if err != nil {
				return Plan{}, err
			}
			plan.Result = func(runs []Run) Result { return s.Format(args, runs) }
			return plan, plan.check()
		},
	}
}

func (s Spec[A, R]) check() error {
	switch {
	case !toolName.MatchString(s.Name) || len(s.Name) > maxNameLength:
		return fmt.Errorf("name must match %s and have at most %d characters", toolName, maxNameLength)
	case s.Set == "" || s.Doc == "":
		return fmt.Errorf("set and doc are required")
	case s.Effect != Observe && s.Effect != Change && s.Effect != Execute && s.Effect != Link:
		return fmt.Errorf("effect %q is none of observe, change, execute, link", s.Effect)
	case s.Plan == nil || s.Format == nil:
		return fmt.Errorf("plan and format are required")
	case reflect.TypeFor[A]().Kind() != reflect.Struct:
		return fmt.Errorf("arguments must be a struct")
	}
	return nil
}

func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("tool: " + err.Error())
	}
	return b
}
