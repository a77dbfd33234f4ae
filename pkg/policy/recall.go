package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ruleMemo remembers from one decision to the next what rules evaluated to, by
// what they depend on. Where a call is new on its host, but not its command, only
// the rules that look at the host have to be asked.
//
// Only rules are remembered whose value cannot depend on who asks for it or in
// what order: sets, rules with one definition, and rules that have one constant
// value or none. It is those that the entry point's own package refers to; what
// they depend on need not be looked up once they are known. And it is the first
// choice of the entry point, see [firstChoice].
type ruleMemo struct {
	rules  map[uint64][]*steadyRule // by the hash of their reference
	count  int                      // of the rules
	first  *steadyRule              // what the entry point is wherever it has a value; or nil
	values *memo[ruleKey, *ast.Term]
}

type steadyRule struct {
	index int // from 0
	ref   ast.Ref
	looks looks
	fact  *openFact // nil: it does not look at what goes on
}

// ruleKey is a rule and what it depends on.
type ruleKey struct {
	rule *steadyRule
	on   digest
}

// newRuleMemo remembers within so many bytes.
func newRuleMemo(s *survey, room int) (*ruleMemo, error) {
	m := &ruleMemo{rules: map[uint64][]*steadyRule{}, values: newMemo[ruleKey, *ast.Term](room)}
	for _, ref := range referred(s.compiler, entryRef[:len(entryRef)-1]) {
		looked, err := s.looksOf(ref)
		if err != nil {
			return nil, err
		}
		switch fact := s.openFactIn(looked); {
		case fact != nil:
			m.add(ref, looked).fact = fact
		case steady(s.compiler, ref) && !looked.at.whole && !readsOf(s.compiler, ref).touches(meanwhile):
			m.add(ref, looked)
		}
	}
	return m, m.addFirst(s)
}

func (m *ruleMemo) add(ref ast.Ref, looked looks) *steadyRule {
	rule, h := &steadyRule{index: m.count, ref: ref, looks: looked}, hashOf(ref)
	m.rules[h] = append(m.rules[h], rule)
	m.count++
	return rule
}

// addFirst adds the rule that the entry point is wherever that has a value, if
// there is one and calls can be alike in all that it depends on: most decisions
// then are that value, and OPA need not be asked at all.
func (m *ruleMemo) addFirst(s *survey) error {
	ref := firstChoice(s.compiler, entryRef)
	if ref == nil || !steady(s.compiler, ref) {
		return nil
	}
	looked, err := s.looksOf(ref)
	if err == nil && s.recur(looked) {
		m.first = m.add(ref, looked)
	}
	return err
}

// firstChoice is the rule of the same package whose value another one takes over
// wherever it has one; nil if there is none.
//
//	decision := granted if { granted } else := refused
func firstChoice(c *ast.Compiler, ref ast.Ref) ast.Ref {
	rules := c.GetRulesExact(ref)
	if len(rules) != 1 || rules[0].Default || len(rules[0].Head.Args) > 0 || rules[0].Head.RuleKind() == ast.MultiValue {
		return nil
	}
	var first ast.Ref
	for _, expr := range rules[0].Body {
		chosen := chosenBy(expr, rules[0].Head.Value)
		if chosen == nil || first != nil && !first.Equal(chosen) {
			return nil
		}
		first = chosen
	}
	if !assigns(rules[0]) || !first.HasPrefix(ref[:len(ref)-1]) {
		return nil
	}
	return first
}

// chosenBy is the document that an expression demands, or gives to the value.
func chosenBy(expr *ast.Expr, value *ast.Term) ast.Ref {
	if expr.Negated || len(expr.With) > 0 {
		return nil
	}
	chosen, ok := expr.Terms.(*ast.Term)
	if expr.IsEquality() {
		chosen, ok = expr.Operand(1), expr.Operand(0).Equal(value)
	}
	if !ok {
		return nil
	}
	ref, _ := chosen.Value.(ast.Ref)
	return ref
}

// assigns says that a rule's body gives the rule its value.
func assigns(rule *ast.Rule) bool {
	return slices.ContainsFunc(rule.Body, (*ast.Expr).IsEquality)
}

// passing is what is another with each call, beside what goes on.
var passing = [][]string{{"now"}, {"call", "id"}}

// recur says whether another call may be alike in all of this.
func (s *survey) recur(l looks) bool {
	if l.at.whole || l.at.touches(meanwhile) || touchesAny(l.at, passing) {
		return false
	}
	return !slices.ContainsFunc(l.small, func(i int) bool {
		doc := s.small[i]
		return doc.reads.touches(meanwhile) && doc.open == nil || touchesAny(doc.reads, passing)
	})
}

func touchesAny(r *reads, places [][]string) bool {
	return slices.ContainsFunc(places, r.touches)
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
		case len(rules) == 1 && h.Key == nil:
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
	rule := r.memo.rule(ref, hash)
	if rule == nil {
		return nil, false
	}
	if rule.fact != nil {
		return r.at.openFact(rule)
	}
	key, ok := r.keyOf(rule)
	if !ok {
		return nil, false
	}
	value, known := r.memo.values.get(key)
	return value, known && value == nil
}

// granted is the first choice of the entry point, if its value is known. Nothing is
// told by one that is false: then the entry point is something else.
func (r *recall) granted() *ast.Term {
	if r == nil || r.memo.first == nil {
		return nil
	}
	key, ok := r.keyOf(r.memo.first)
	if !ok {
		return nil
	}
	value, _ := r.memo.values.get(key)
	if value == nil || value.Value.Compare(ast.Boolean(false)) == 0 {
		return nil
	}
	return value
}

// note takes down a rule's value until it is known that the decision holds: an
// evaluation that breaks leaves values behind that would not have stood.
func (r *recall) note(ref ast.Ref, hash uint64, value *ast.Term) {
	rule := r.memo.rule(ref, hash)
	if rule == nil || rule.fact != nil {
		return
	}
	if key, ok := r.keyOf(rule); ok {
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

// rule is the remembered one with a reference, or nil.
func (m *ruleMemo) rule(ref ast.Ref, hash uint64) *steadyRule {
	for _, rule := range m.rules[hash] {
		if rule.ref.Equal(ref) {
			return rule
		}
	}
	return nil
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
