package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// mask removes or replaces one place of a record. The language is that of
// OPA's decision log: a pointer that begins with /input or /result, or an
// object with op, path and value.
type mask struct {
	path  []string // unescaped; the first one is input or result
	set   bool     // replace by value instead of removing
	value any
}

// dropped asks whether a record is to be left out. Undefined is no.
func dropped(ctx context.Context, r *revision, v evaluation) (bool, error) {
	if r.drop == nil {
		return false, nil
	}
	v.query = r.drop
	term, err := v.run(ctx)
	if errors.Is(err, errUndefined) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	b, ok := term.Value.(ast.Boolean)
	return bool(b), mustBe(ok, "a boolean")
}

// masksOf asks which masks apply to a record.
func masksOf(ctx context.Context, r *revision, v evaluation) ([]mask, error) {
	if r.mask == nil {
		return nil, nil
	}
	v.query = r.mask
	term, err := v.run(ctx)
	if errors.Is(err, errUndefined) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var masks []mask
	err = each(term.Value, func(t *ast.Term) error {
		native, err := ast.JSON(t.Value)
		if err != nil {
			return err
		}
		m, err := readMask(native)
		masks = append(masks, m)
		return err
	})
	return masks, err
}

func readMask(v any) (mask, error) {
	switch v := v.(type) {
	case string:
		return pointer(v)
	case map[string]any:
		return maskObject(v)
	}
	return mask{}, fmt.Errorf("mask %v is neither a pointer nor an object", v)
}

func maskObject(v map[string]any) (mask, error) {
	path, _ := v["path"].(string)
	m, err := pointer(path)
	if err != nil {
		return m, err
	}
	switch v["op"] {
	case "upsert":
		m.set, m.value = true, v["value"]
	case "remove":
	default:
		return m, fmt.Errorf("mask of %s: op %v is neither remove nor upsert", path, v["op"])
	}
	return m, nil
}

func pointer(path string) (mask, error) {
	parts := strings.Split(path, "/")
	if parts[0] != "" || len(parts) < 2 || parts[1] != "input" && parts[1] != "result" {
		return mask{}, fmt.Errorf("mask %q does not point into /input or /result", path)
	}
	m := mask{path: parts[1:]}
	for i, part := range m.path {
		unescaped, err := url.PathUnescape(part)
		if err != nil {
			return mask{}, fmt.Errorf("mask %q: %w", path, err)
		}
		m.path[i] = unescaped
	}
	return m, nil
}

func (m mask) String() string {
	var b strings.Builder
	for _, part := range m.path {
		b.WriteString("/" + url.PathEscape(part))
	}
	return b.String()
}

// apply masks an event. It works on copies: what the executor runs and what
// the caller is told stay whole.
func (e *event) apply(masks []mask) error {
	if len(masks) == 0 {
		return nil
	}
	root := map[string]any{}
	for name, part := range map[string]any{"input": e.Input, "result": e.Result} {
		copied, err := native(part)
		if err != nil {
			return err
		}
		root[name] = copied
	}
	for _, m := range masks {
		if !m.change(root) {
			continue
		}
		if m.set {
			e.Masked = append(e.Masked, m.String())
		} else {
			e.Erased = append(e.Erased, m.String())
		}
	}
	e.Input, e.Result = root["input"], root["result"]
	return nil
}

// native is a value as the maps and lists that its JSON stands for.
func native(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	return out, json.Unmarshal(text, &out)
}

// change does what the mask says; false if there is no such place, which is no
// mistake: the same mask is for many records.
func (m mask) change(root map[string]any) bool {
	_, changed := m.within(root, m.path)
	return changed
}

// within changes a place below node and returns what node is then.
func (m mask) within(node any, path []string) (any, bool) {
	switch node := node.(type) {
	case map[string]any:
		return m.withinObject(node, path)
	case []any:
		return m.withinList(node, path)
	}
	return node, false
}

func (m mask) withinObject(node map[string]any, path []string) (any, bool) {
	key := path[0]
	child, ok := node[key]
	switch {
	case len(path) == 1 && m.set:
		node[key] = m.value
		return node, true
	case len(path) == 1:
		delete(node, key)
		return node, ok
	case !ok && m.set:
		child = map[string]any{}
	case !ok:
		return node, false
	}
	child, changed := m.within(child, path[1:])
	if changed {
		node[key] = child
	}
	return node, changed
}

func (m mask) withinList(node []any, path []string) (any, bool) {
	i, err := strconv.Atoi(path[0])
	if err != nil || i < 0 || i >= len(node) {
		return node, false
	}
	switch {
	case len(path) == 1 && m.set:
		node[i] = m.value
		return node, true
	case len(path) == 1:
		return slices.Delete(node, i, i+1), true
	}
	child, changed := m.within(node[i], path[1:])
	node[i] = child
	return node, changed
}
