package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// How much of a call its record shows. Meta is who, where, which kind of thing
// and what came of it; full is the words of the call as well.
const (
	recordMeta = "meta"
	recordFull = "full"
)

// recorded is what a record shows: the words only when the operator wants them
// and policy does not say otherwise.
func (e *Engine) recorded(wanted string) string {
	if e.full && wanted == recordFull {
		return recordFull
	}
	return recordMeta
}

// withhold takes the words of the call out of a record: what a command, a path
// or a name was, and the details of reasons and errors, which quote them. The
// kinds of things stay. It works on copies, and says which places it changed.
func (e *event) withhold(in Input, res *result) {
	in.Ops = slices.Clone(in.Ops)
	for i, op := range in.Ops {
		if in.Ops[i] = wordless(op); !reflect.DeepEqual(in.Ops[i], op) {
			e.Masked = append(e.Masked, fmt.Sprintf("/input/ops/%d", i))
		}
	}
	e.Input = in
	if res == nil {
		return
	}
	short := res.withheld()
	for i, reason := range res.Reasons {
		if reason.Detail != "" {
			e.Masked = append(e.Masked, fmt.Sprintf("/result/reasons/%d/detail", i))
		}
	}
	e.Result = short
	if e.Error != nil && len(short.Reasons) > 0 {
		e.Error.Message = short.Reasons[len(short.Reasons)-1].Title
	}
}

// withheld is a result without the details of its reasons.
func (r *result) withheld() *result {
	short := *r
	short.Record = recordMeta
	short.Reasons = slices.Clone(r.Reasons)
	for i := range short.Reasons {
		short.Reasons[i].Detail = ""
	}
	return &short
}

// wordless is an op without the words of the caller. The operation of an op of
// the gateway itself is a word of ours.
func wordless(op tool.Op) tool.Op {
	kind := tool.Op{Action: op.Action, Effect: op.Effect, Derived: op.Derived, Call: op.Call}
	if strings.HasPrefix(string(op.Action), "gateway.") {
		kind.Operation = op.Operation
	}
	if doc := op.Command; doc != nil {
		kind.Command = &shell.Document{
			Certainty: doc.Certainty, Shape: doc.Shape, Features: doc.Features,
			Commands: []shell.Command{}, Writes: []shell.Redirect{}, Reads: []shell.Redirect{},
		}
		if doc.Error != nil {
			kind.Command.Error = &shell.Error{Code: doc.Error.Code}
		}
	}
	return kind
}
