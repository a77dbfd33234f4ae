package policy

import (
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// ruleCache keeps what rules evaluated to within one decision. OPA's own cache
// also keeps the result of every function call, by all its arguments; for
// grammars, where no call is like another, keeping costs more than half of a
// decision and finds nothing. This one keeps rules only.
type ruleCache struct {
	frames []*ruleFrame // the last one is in use
	recall *recall      // nil: nothing is known from earlier decisions
}

// ruleFrame finds rules by the hash of their reference; those with the same
// hash are chained.
type ruleFrame struct {
	first map[uint64]int // hash -> position in rules
	rules []cachedRule
}

type cachedRule struct {
	ref   ast.Ref
	value *ast.Term // nil: the rule is undefined
	next  int       // position of the next one with the same hash, or -1
}

var _ topdown.VirtualCache = (*ruleCache)(nil)

// ruleFrames are used again by later decisions.
var ruleFrames = sync.Pool{New: func() any { return &ruleFrame{first: map[uint64]int{}} }}

func newRuleCache(known *recall) *ruleCache {
	c := &ruleCache{recall: known}
	c.Push()
	return c
}

func (c *ruleCache) Push() { c.frames = append(c.frames, ruleFrames.Get().(*ruleFrame)) }

func (c *ruleCache) Pop() {
	f := c.top()
	c.frames = c.frames[:len(c.frames)-1]
	clear(f.first)
	clear(f.rules)
	f.rules = f.rules[:0]
	ruleFrames.Put(f)
}

func (c *ruleCache) top() *ruleFrame { return c.frames[len(c.frames)-1] }

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

// find is the rule with a reference, or nil, and the reference's hash.
func (f *ruleFrame) find(ref ast.Ref) (*cachedRule, uint64) {
	h := hashOf(ref)
	i, ok := f.first[h]
	for ok && i >= 0 {
		if f.rules[i].ref.Equal(ref) {
			return &f.rules[i], h
		}
		i = f.rules[i].next
	}
	return nil, h
}

// Get finds a rule's value; true says that it is known to have none.
func (c *ruleCache) Get(ref ast.Ref) (*ast.Term, bool) {
	if isCall(ref) {
		return nil, false
	}
	r, h := c.top().find(ref)
	if r != nil {
		return r.value, r.value == nil
	}
	if c.remembers() {
		return c.recall.get(ref, h)
	}
	return nil, false
}

// remembers is false under with, where input and data are not the decision's.
func (c *ruleCache) remembers() bool { return c.recall != nil && len(c.frames) == 1 }

// Put keeps a rule's value. OPA goes on writing into the reference it gives.
func (c *ruleCache) Put(ref ast.Ref, value *ast.Term) {
	if isCall(ref) {
		return
	}
	f := c.top()
	r, h := f.find(ref)
	if r != nil {
		r.value = value
		return
	}
	if c.remembers() {
		c.recall.note(ref, h, value)
	}
	next, ok := f.first[h]
	if !ok {
		next = -1
	}
	f.first[h] = len(f.rules)
	f.rules = append(f.rules, cachedRule{slices.Clone(ref), value, next})
}

// Keys lists the rules that have a value.
func (c *ruleCache) Keys() []ast.Ref {
	var keys []ast.Ref
	for _, r := range c.top().rules {
		if r.value != nil {
			keys = append(keys, r.ref)
		}
	}
	return keys
}
