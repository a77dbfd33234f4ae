package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Document is an input that was written down: in a file, or in a record of the
// decision log. It is judged as it stands, as stock OPA would, even if a gateway
// would never have sent it like that.
type Document struct {
	value ast.Value
	input Input // what of it is known to be an input
	sent  bool  // the value is the input, as a gateway sends it, and no more
	// ID is of the decision whose record it comes from; empty for other inputs.
	ID string
	// Decided is what that record says came of it; nil if it says nothing.
	Decided *Answer
	// Odd is what tells it from an input that a gateway sends: fields that are
	// missing and fields that there are not.
	Odd []string
}

// Document is the input as a document of its own.
func (in Input) Document() Document { return Document{value: in.Value(), input: in, sent: true} }

// JSON is the document as it was written.
func (d Document) JSON() (json.RawMessage, error) {
	v, err := ast.JSON(d.value)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(v, "", "  ")
}

// Caller is who made the call, as far as policy saw it.
func (d Document) Caller() tool.Caller {
	s := d.input.Subject
	return tool.Caller{Subject: s.ID, Groups: s.Groups, Auth: s.Auth, Client: s.Client, Transport: s.Transport}
}

// Alias is the host that the call was for; empty for none.
func (d Document) Alias() string { return d.input.Host.Alias }

// About is in a word what the call was about, in letters for the name of a file:
// the program of its command line, or its action.
func (d Document) About() string {
	about := "input"
	if len(d.input.Ops) > 0 {
		op := d.input.Ops[0]
		about = string(op.Action)
		if doc := op.Command; doc != nil && len(doc.Commands) > 0 && doc.Commands[0].Program != "" {
			about = doc.Commands[0].Program
		}
	}
	return notInNames.ReplaceAllString(strings.ToLower(about), "_")
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

var (
	errNoDocument = errors.New("is no input: give an input, a record of the decision log, or what sallyport plan --output json prints")
	errWithheld   = errors.New("does not show what was judged; only records of logs.record: full can be judged again")
)

// ReadDocument reads an input, or anything that has one under "input": a record
// of the decision log, a plan.
func ReadDocument(text []byte) (Document, error) {
	var v map[string]any
	if err := util.UnmarshalJSON(text, &v); err != nil || v == nil {
		return Document{}, errNoDocument
	}
	inner, isRecord := v["input"].(map[string]any)
	switch {
	case !isRecord && !likeInput(v):
		return Document{}, errNoDocument
	case !isRecord:
		return newDocument(v)
	}
	d, err := newDocument(inner)
	if err != nil {
		return d, err
	}
	d.ID, _ = v["decision_id"].(string)
	for _, list := range []string{"masked", "erased"} {
		if touches(v[list], "/input") {
			return d, fmt.Errorf("record %s %w", d.ID, errWithheld)
		}
	}
	d.Decided = decided(v["result"])
	return d, nil
}

// likeInput says that an object has something that an input has: what is printed
// in the place of one when something failed has not.
func likeInput(v map[string]any) bool {
	sent, err := native(Input{})
	fields, _ := sent.(map[string]any)
	for name := range v {
		if _, ok := fields[name]; ok {
			return true
		}
	}
	return err != nil
}

// touches says that a list of places has one in a part of the record.
func touches(list any, part string) bool {
	places, _ := list.([]any)
	return slices.ContainsFunc(places, func(p any) bool {
		place, _ := p.(string)
		return place == part || strings.HasPrefix(place, part+"/")
	})
}

func decided(v any) *Answer {
	value, err := ast.InterfaceToValue(v)
	if err != nil {
		return nil
	}
	r, err := readResult(value)
	if err != nil {
		return nil
	}
	return &Answer{result: *r}
}

func newDocument(v map[string]any) (Document, error) {
	value, err := ast.InterfaceToValue(v)
	if err != nil {
		return Document{}, err
	}
	d := Document{value: value}
	text, err := json.Marshal(v)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(text, &d.input); err != nil {
		d.Odd = []string{err.Error()}
		return d, nil
	}
	sent, err := native(d.input)
	if err != nil {
		return d, err
	}
	var written any
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&written); err != nil {
		return d, err
	}
	d.Odd = oddities("", written, sent)
	return d, nil
}

// oddities are where two documents differ in which fields there are.
func oddities(at string, written, sent any) []string {
	switch sent := sent.(type) {
	case map[string]any:
		was, ok := written.(map[string]any)
		if !ok {
			return []string{at + " is no object"}
		}
		return fieldOddities(at, was, sent)
	case []any:
		was, _ := written.([]any)
		var odd []string
		for i := range min(len(was), len(sent)) {
			odd = append(odd, oddities(fmt.Sprintf("%s[%d]", at, i), was[i], sent[i])...)
		}
		return odd
	}
	return nil
}

func fieldOddities(at string, written, sent map[string]any) []string {
	var odd []string
	for _, name := range slices.Sorted(maps.Keys(written)) {
		if _, ok := sent[name]; !ok && !isZero(written[name]) {
			odd = append(odd, below(at, name)+" is no field of an input")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		was, ok := written[name]
		if !ok {
			odd = append(odd, below(at, name)+" is missing")
			continue
		}
		odd = append(odd, oddities(below(at, name), was, sent[name])...)
	}
	return odd
}

// isZero is true for what an input leaves out when it is empty.
func isZero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case []any:
		return len(v) == 0
	}
	return false
}

func below(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// Answer is a decision as policy gives it, before the caller's wishes narrow
// its limits.
type Answer struct {
	result
	// Problem is why policy gave no usable answer; the reasons have its code.
	Problem string `json:"problem,omitempty"`
}

// Same says that two answers allow alike and give the same codes.
func (a Answer) Same(b Answer) bool {
	return a.Allow == b.Allow && slices.Equal(a.Codes(), b.Codes())
}

// Codes are those of the reasons, sorted, each once.
func (a Answer) Codes() []string {
	codes := make([]string, 0, len(a.Reasons))
	for _, r := range a.Reasons {
		codes = append(codes, r.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// Ask judges a document. It is for people who write policies: nothing happens by
// the answer, so it is on no log.
func (e *Engine) Ask(ctx context.Context, d Document) (Answer, error) {
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		return Answer{}, err
	}
	defer e.store.Abort(ctx, txn)
	if err := e.Ready(); err != nil {
		return Answer{}, err
	}
	return e.ask(ctx, question{revision: e.active.Load(), txn: txn}, d), nil
}

func (e *Engine) ask(ctx context.Context, q question, d Document) Answer {
	rec := record{began: e.now(), input: d.input, value: d.value, asWritten: !d.sent, bundles: q.revision.bundles}
	e.evaluate(ctx, q.revision, q.txn, &rec)
	a := Answer{result: *rec.result}
	a.Allow, a.Reasons = rec.decision.Allow, rec.decision.Reasons
	if rec.err != nil {
		a.Problem = rec.err.Error()
	}
	return a
}
