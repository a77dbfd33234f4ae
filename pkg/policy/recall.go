package policy

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// ruleMemo remembers from one decision to the next what rules evaluated to, by
// what they depend on. Where a call is new on its host, but not its command, only
// the rules that look at the host have to be asked.
//
// Only rules are remembered whose value cannot depend on who asks for it or in
// what order: sets, and rules that have one constant value or none. It is those
// that the entry point's own package refers to; what they depend on need not be
// looked up once they are known.
type ruleMemo struct {
	rules  map[uint64][]*steadyRule // by the hash of their reference
	count  int                      // of the rules
	values *memo[ruleKey, *ast.Term]
}

type steadyRule struct {
	index int // from 0
	ref   ast.Ref
	looks looks
}

// ruleKey is a rule and what it depends on.
type ruleKey struct {
	rule *steadyRule
	on   digest
}

// meanwhile is what goes on beside a call. It is another with almost every call,
// so what rules make of it is found out more quickly than it is found again.
var meanwhile = []string{"usage"}

// newRuleMemo remembers within so many bytes.
func newRuleMemo(s *survey, room int) (*ruleMemo, error) {
	m := &ruleMemo{rules: map[uint64][]*steadyRule{}, values: newMemo[ruleKey, *ast.Term](room)}
	for _, ref := range referred(s.compiler, entryRef[:len(entryRef)-1]) {
		looked, err := s.looksOf(ref)
		if err != nil {
			return nil, err
		}
		if steady(s.compiler, ref) && !looked.at.whole && !readsOf(s.compiler, ref).touches(meanwhile) {
			h := hashOf(ref)
			m.rules[h] = append(m.rules[h], &steadyRule{m.count, ref, looked})
			m.count++
		}
	}
	return m, nil
}

// referred are the documents of other packages that a package refers to.
func referred(c *ast.Compiler, pkg ast.Ref) []ast.Ref {
	var refs []ast.Ref
	seen := map[string]bool{}
	visit := func(r ast.Ref) bool {
		for _, rule := range rulesBehind(c, r) {
			if ref := rule.Ref(); !seen[ref.String()] && !rule.Module.Package.Path.Equal(pkg) {
				seen[ref.String()] = true
				refs = append(refs, ref)
			}
		}
		return false
	}
	for _, m := range c.Modules {
		if m.Package.Path.Equal(pkg) {
			for _, rule := range m.Rules {
				ast.WalkRefs(rule, visit)
			}
		}
	}
	return refs
}

// steady says that a rule's value, or that it has none, depends on nothing but
// what it looks at. A rule with several values would be an error in one decision
// and, when nobody asks for the second one, none in another.
func steady(c *ast.Compiler, ref ast.Ref) bool {
	rules := c.GetRulesExact(ref)
	if len(rules) == 0 || len(rules) != len(c.GetRulesWithPrefix(ref)) {
		return false
	}
	for _, r := range rules {
		h := r.Head
		switch {
		case r.Default || r.Else != nil || len(h.Args) > 0 || !ref.IsGround():
			return false
		case h.RuleKind() == ast.MultiValue:
		case h.Key != nil || !ast.IsConstant(h.Value.Value) || !h.Value.Equal(rules[0].Head.Value):
			return false
		}
	}
	return true
}

// recall is a ruleMemo for the time of one decision.
type recall struct {
	memo  *ruleMemo
	at    *moment
	keys  []*ruleKey // of rules, by index; nil until they are needed
	noted []noted
}

func (m *ruleMemo) recall(at *moment) *recall {
	return &recall{memo: m, at: at, keys: make([]*ruleKey, m.count)}
}

type noted struct {
	key   ruleKey
	value *ast.Term
}

// get finds a rule's value; true says that it is known to have none.
func (r *recall) get(ref ast.Ref, hash uint64) (*ast.Term, bool) {
	key, ok := r.key(ref, hash)
	if !ok {
		return nil, false
	}
	value, known := r.memo.values.get(key)
	return value, known && value == nil
}

// note takes down a rule's value until it is known that the decision holds: an
// evaluation that breaks leaves values behind that would not have stood.
func (r *recall) note(ref ast.Ref, hash uint64, value *ast.Term) {
	if key, ok := r.key(ref, hash); ok {
		r.noted = append(r.noted, noted{key, value})
	}
}

func (r *recall) keep() {
	if r == nil {
		return
	}
	for _, n := range r.noted {
		r.memo.values.put(n.key, n.value, termSize(n.value))
	}
}

func (r *recall) key(ref ast.Ref, hash uint64) (ruleKey, bool) {
	for _, rule := range r.memo.rules[hash] {
		if rule.ref.Equal(ref) {
			return r.keyOf(rule)
		}
	}
	return ruleKey{}, false
}

func (r *recall) keyOf(rule *steadyRule) (ruleKey, bool) {
	if key := r.keys[rule.index]; key != nil {
		return *key, true
	}
	on, ok := r.at.key(rule.looks)
	key := ruleKey{rule, on}
	if ok {
		r.keys[rule.index] = &key
	}
	return key, ok
}

// perTerm is what a value takes beside its text, about.
const perTerm = 64

// termSize is about how many bytes a value takes.
func termSize(t *ast.Term) int {
	size := perTerm
	if t == nil {
		return size
	}
	ast.WalkTerms(t, func(t *ast.Term) bool {
		size += perTerm
		if s, ok := t.Value.(ast.String); ok {
			size += len(s)
		}
		return false
	})
	return size
}
