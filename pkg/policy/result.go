package policy

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/pkg/tool"
)

// result is a decision as policy gives it, before the caller's wishes.
type result struct {
	Allow    bool            `json:"allow"`
	Reasons  []tool.Reason   `json:"reasons"`
	Limits   tool.Limits     `json:"limits"`
	Redact   []string        `json:"redact"`
	Record   string          `json:"record"`
	Approval json.RawMessage `json:"approval"`
}

// readResult is strict: a decision that is not exactly of the documented shape
// is none. A policy that allows has to say under which limits.
func readResult(v ast.Value) (*result, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("decision is %s, not an object", ast.ValueName(v))
	}
	r := &result{Reasons: []tool.Reason{}, Redact: []string{}, Record: recordFull}
	seen := 0
	err := obj.Iter(func(k, v *ast.Term) error {
		name, _ := k.Value.(ast.String)
		read, ok := resultFields[string(name)]
		if !ok {
			return fmt.Errorf("decision has an unknown field %v", k)
		}
		if required[string(name)] {
			seen++
		}
		if err := read(r, v.Value); err != nil {
			return fmt.Errorf("decision.%s %w", string(name), err)
		}
		return nil
	})
	if err == nil && seen < len(required) {
		err = fmt.Errorf("decision lacks one of allow, reasons and limits")
	}
	if err == nil && r.Allow && len(r.Reasons) > 0 {
		err = fmt.Errorf("decision allows and gives reasons to refuse")
	}
	return r, err
}

var required = map[string]bool{"allow": true, "reasons": true, "limits": true}

var resultFields = map[string]func(*result, ast.Value) error{
	"allow": func(r *result, v ast.Value) error {
		b, ok := v.(ast.Boolean)
		r.Allow = bool(b)
		return mustBe(ok, "a boolean")
	},
	"reasons": func(r *result, v ast.Value) error {
		return each(v, func(t *ast.Term) error {
			reason, err := readReason(t.Value)
			r.Reasons = append(r.Reasons, reason)
			return err
		})
	},
	"limits": func(r *result, v ast.Value) error {
		limits, err := readLimits(v)
		r.Limits = limits
		return err
	},
	"redact": func(r *result, v ast.Value) error {
		return each(v, func(t *ast.Term) error {
			s, ok := t.Value.(ast.String)
			if !ok {
				return mustBe(false, "a list of strings")
			}
			r.Redact = append(r.Redact, string(s))
			_, err := regexp.Compile(string(s))
			return err
		})
	},
	"record": func(r *result, v ast.Value) error {
		s, _ := v.(ast.String)
		r.Record = string(s)
		return mustBe(s == recordMeta || s == recordFull, `"meta" or "full"`)
	},
	"approval": func(r *result, v ast.Value) error {
		if _, ok := v.(ast.Null); ok {
			return nil
		}
		native, err := ast.JSON(v)
		if err != nil {
			return err
		}
		r.Approval, err = json.Marshal(native)
		return err
	},
}

// mustBe is nil if ok, and otherwise says what a field is to be.
func mustBe(ok bool, what string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("is not %s", what)
}

// each visits a list, which in Rego may be an array or a set.
func each(v ast.Value, visit func(*ast.Term) error) error {
	switch list := v.(type) {
	case *ast.Array:
		return list.Iter(visit)
	case ast.Set:
		return list.Iter(visit)
	}
	return mustBe(false, "a list")
}

func readReason(v ast.Value) (tool.Reason, error) {
	var r tool.Reason
	fields := map[string]*string{"code": &r.Code, "title": &r.Title, "remedy": &r.Remedy, "detail": &r.Detail}
	obj, ok := v.(ast.Object)
	if !ok {
		return r, mustBe(false, "a list of objects")
	}
	err := obj.Iter(func(k, v *ast.Term) error {
		name, _ := k.Value.(ast.String)
		s, ok := v.Value.(ast.String)
		dst := fields[string(name)]
		if !ok || dst == nil {
			return fmt.Errorf("has a reason with the field %v, which is not a string named code, title, remedy or detail", k)
		}
		*dst = string(s)
		return nil
	})
	if err == nil && r.Code == "" {
		err = fmt.Errorf("has a reason without a code")
	}
	return r, err
}

func readLimits(v ast.Value) (tool.Limits, error) {
	var l tool.Limits
	obj, ok := v.(ast.Object)
	if !ok {
		return l, mustBe(false, "an object")
	}
	seen := 0
	err := obj.Iter(func(k, v *ast.Term) error {
		name, _ := k.Value.(ast.String)
		n, _ := v.Value.(ast.Number)
		value, ok := n.Int64()
		if !ok || value < 0 || value > maxLimit {
			return fmt.Errorf("has %s, which is not a whole number from 0 to %d", k, maxLimit)
		}
		seen++
		switch name {
		case "seconds":
			l.Seconds = int(value)
		case "output_bytes":
			l.OutputBytes = value
		case "concurrent":
			l.Concurrent = int(value)
		default:
			return fmt.Errorf("has an unknown limit %s", k)
		}
		return nil
	})
	if err == nil && seen < 3 {
		err = fmt.Errorf("lacks one of seconds, output_bytes and concurrent")
	}
	return l, err
}

// maxLimit keeps a limit within what every platform's int holds.
const maxLimit = 1<<31 - 1

// narrow is the smaller of what is wished and what is granted, of each kind.
func narrow(wish, granted tool.Limits) tool.Limits {
	return tool.Limits{
		Seconds:     smaller(wish.Seconds, granted.Seconds),
		OutputBytes: smaller(wish.OutputBytes, granted.OutputBytes),
		Concurrent:  smaller(wish.Concurrent, granted.Concurrent),
	}
}

// smaller of two limits, of which zero is none.
func smaller[T int | int64](a, b T) T {
	if a <= 0 {
		return b
	}
	if b <= 0 {
		return a
	}
	return min(a, b)
}
