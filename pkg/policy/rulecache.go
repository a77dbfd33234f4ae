package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// ruleCache keeps what rules evaluated to within one decision. OPA's own cache
// also keeps the result of every function call, by all its arguments; for
// grammars, where no call is like another, keeping costs more than half of a
// decision and finds nothing. This one keeps rules only.
type ruleCache struct {
	frames []map[uint64][]cachedRule // the last one is in use
}

type cachedRule struct {
	ref   ast.Ref
	value *ast.Term // nil: the rule is undefined
}

var _ topdown.VirtualCache = (*ruleCache)(nil)

func newRuleCache() *ruleCache {
	c := &ruleCache{}
	c.Push()
	return c
}

func (c *ruleCache) Push() { c.frames = append(c.frames, map[uint64][]cachedRule{}) }

func (c *ruleCache) Pop() { c.frames = c.frames[:len(c.frames)-1] }

func (c *ruleCache) top() map[uint64][]cachedRule { return c.frames[len(c.frames)-1] }

// isCall tells a function call from a rule: its key begins with the function's
// own reference.
func isCall(ref ast.Ref) bool {
	_, call := ref[0].Value.(ast.Ref)
	return call
}

func hashOf(ref ast.Ref) uint64 {
	h := uint64(len(ref))
	for _, t := range ref[1:] {
		h = h*31 + uint64(t.Hash())
	}
	return h
}

// Get finds a rule's value; true says that it is known to have none.
func (c *ruleCache) Get(ref ast.Ref) (*ast.Term, bool) {
	if isCall(ref) {
		return nil, false
	}
	for _, kept := range c.top()[hashOf(ref)] {
		if kept.ref.Equal(ref) {
			return kept.value, kept.value == nil
		}
	}
	return nil, false
}

// Put keeps a rule's value. OPA goes on writing into the reference it gives.
func (c *ruleCache) Put(ref ast.Ref, value *ast.Term) {
	if isCall(ref) {
		return
	}
	frame, h := c.top(), hashOf(ref)
	for i, kept := range frame[h] {
		if kept.ref.Equal(ref) {
			frame[h][i].value = value
			return
		}
	}
	frame[h] = append(frame[h], cachedRule{slices.Clone(ref), value})
}

// Keys lists the rules that have a value.
func (c *ruleCache) Keys() []ast.Ref {
	var keys []ast.Ref
	for _, kept := range c.top() {
		for _, rule := range kept {
			if rule.value != nil {
				keys = append(keys, rule.ref)
			}
		}
	}
	return keys
}
