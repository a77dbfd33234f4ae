package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/pkg/tool"
)

// compare finds what would change. Where the results are the same byte for
// byte, as they are where nothing does, nothing is decoded.
func (r *recorded) compare(now *answer, out *Replayed) error {
	is := now.full
	if r.shows() == recordMeta {
		is = now.withheld
	}
	if bytes.Equal(r.result, is) {
		return nil
	}
	was, err := native(json.RawMessage(r.result))
	if err != nil {
		return err
	}
	will, err := native(json.RawMessage(is))
	if err != nil {
		return err
	}
	if will = r.masks(was, will); reflect.DeepEqual(was, will) {
		return nil
	}
	return r.tell(was, will, out)
}

// masks does to a result what was done to the one on record.
func (r *recorded) masks(was, will any) any {
	root := map[string]any{"result": will}
	for _, place := range r.masked {
		if m, err := pointer(place); err == nil && !ofInput(place) {
			m.set, m.value = true, placeIn(was, m.path[1:])
			m.change(root)
		}
	}
	for _, place := range r.erased {
		if m, err := pointer(place); err == nil && !ofInput(place) {
			m.change(root)
		}
	}
	return root["result"]
}

// placeIn is what is at a place; nil if nothing is.
func placeIn(node any, path []string) any {
	for _, step := range path {
		switch at := node.(type) {
		case map[string]any:
			node = at[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(at) {
				return nil
			}
			node = at[i]
		default:
			return nil
		}
	}
	return node
}

var errNoVerdict = errors.New("result.allow is no boolean")

// tell says in which way results differ that are not the same.
func (r *recorded) tell(was, will any, out *Replayed) error {
	if _, ok := placeIn(was, []string{"allow"}).(bool); !ok {
		return errNoVerdict
	}
	then, err := resultIn(was)
	if err != nil {
		out.Status, out.Cause = OtherVersion, err.Error()
		return nil
	}
	now, err := resultIn(will)
	if err != nil {
		return err
	}
	out.Then, out.Now, out.Does = verdictOf(then), verdictOf(now), r.does()
	out.Change, out.Rules = difference(out.Then, out.Now, then, now)
	return nil
}

// resultIn is strict: a field that is not known might be what changes.
func resultIn(v any) (*result, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	r := &result{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("result is of another version: %w", err)
	}
	if string(r.Approval) == "null" {
		r.Approval = nil
	}
	return r, nil
}

// verdictOf is what the engine makes of a result.
func verdictOf(res *result) Verdict {
	rec := record{}
	rec.decide(res)
	return Verdict{rec.decision.Allow, rec.decision.Reasons, rec.decision.Limits}
}

// difference names what changed, and the rules that are at work in it.
func difference(then, now Verdict, was, will *result) (Change, []string) {
	switch {
	case then.Allow && !now.Allow:
		return NewlyDenied, codesOf(now.Reasons)
	case !then.Allow && now.Allow:
		return NewlyAllowed, codesOf(then.Reasons)
	case !slices.Equal(then.Reasons, now.Reasons):
		return ReasonChange, reasonsThatDiffer(then.Reasons, now.Reasons)
	case then.Limits != now.Limits:
		return LimitsChange, limitsThatDiffer(then.Limits, now.Limits)
	}
	var fields []string
	if !bytes.Equal(was.Approval, will.Approval) {
		fields = append(fields, "approval")
	}
	if was.Record != will.Record {
		fields = append(fields, "record")
	}
	if !slices.Equal(was.Redact, will.Redact) {
		fields = append(fields, "redact")
	}
	return OtherChange, fields
}

// codesOf are the codes of reasons, each once, in order.
func codesOf(reasons []tool.Reason) []string {
	codes := map[string]bool{}
	for _, r := range reasons {
		codes[r.Code] = true
	}
	return slices.Sorted(maps.Keys(codes))
}

// reasonsThatDiffer are the codes of the reasons that only one side gives.
func reasonsThatDiffer(then, now []tool.Reason) []string {
	var differ []tool.Reason
	for _, r := range slices.Concat(then, now) {
		if !slices.Contains(then, r) || !slices.Contains(now, r) {
			differ = append(differ, r)
		}
	}
	return codesOf(differ)
}

func limitsThatDiffer(then, now tool.Limits) []string {
	var names []string
	if then.Concurrent != now.Concurrent {
		names = append(names, "limits.concurrent")
	}
	if then.OutputBytes != now.OutputBytes {
		names = append(names, "limits.output_bytes")
	}
	if then.Seconds != now.Seconds {
		names = append(names, "limits.seconds")
	}
	return names
}

// longest is how much of a call a report shows, in characters.
const longest = 300

// calledOp is what tells people what an op was.
type calledOp struct {
	Action  string
	Derived bool
	Command struct{ Text, Cwd string }

	Operation, Path, Unit, Facet, Destination string
	Names, Argv                               []string

	Flow *struct {
		Alias, Path string
		To          bool
	}
}

func (op calledOp) String() string {
	if op.Command.Text != "" {
		return op.Command.Text + within(op.Command.Cwd)
	}
	said := slices.Concat([]string{op.Action, op.Operation, op.Facet, op.Path, op.Unit, op.Destination}, op.Names, op.Argv)
	if f := op.Flow; f != nil {
		said = append(said, map[bool]string{true: "to", false: "from"}[f.To], f.Alias+":"+f.Path)
	}
	return strings.Join(slices.DeleteFunc(said, func(word string) bool { return word == "" }), " ")
}

func within(directory string) string {
	if directory == "" {
		return ""
	}
	return " (in " + directory + ")"
}

// does says in a line what the call was: the command, or the ops with what they
// are about. Of a call that opens a connection that is the host.
func (r *recorded) does() string {
	var in struct {
		Ops  []calledOp
		Host struct {
			User, Hostname string
			Port           int
		}
	}
	_ = json.Unmarshal(r.input, &in) // a field that is masked may be anything; the others are read
	var all []string
	for _, op := range in.Ops {
		if op.Action == string(tool.ConnOpen) {
			op.Destination = fmt.Sprintf("%s@%s:%d", in.Host.User, in.Host.Hostname, in.Host.Port)
		}
		if !op.Derived {
			all = append(all, op.String())
		}
	}
	text := []rune(strings.Join(all, "; "))
	if len(text) > longest {
		text = append(text[:longest], '…')
	}
	return string(text)
}
