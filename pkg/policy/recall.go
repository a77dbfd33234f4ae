package policy

import (
	"crypto/sha256"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ruleMemo remembers from one decision to the next what rules evaluated to, by
// what these rules and all that they depend on look at. Where an input differs
// from all before it in the number of calls in the last minute, only the rules
// that look at that number have to be asked.
//
// Only rules are remembered whose value cannot depend on who asks for it or in
// what order: sets, and rules that have one constant value or none. It is those
// that the entry point's own package refers to; what they depend on need not be
// looked up once they are known.
type ruleMemo struct {
	rules  map[uint64][]steadyRule // by the hash of their reference
	reads  []*reads                // the different ones of all rules
	values *memo[ruleKey, *ast.Term]
}

type steadyRule struct {
	ref   ast.Ref
	reads int // index in ruleMemo.reads
	index int // its own
}

// ruleKey is a rule and what it looks at.
type ruleKey struct {
	rule int
	seen digest
}

// ruleRoom bounds what is remembered of rules, in bytes.
const ruleRoom = 64 << 20

func newRuleMemo(c *ast.Compiler, entry ast.Ref) *ruleMemo {
	m := &ruleMemo{rules: map[uint64][]steadyRule{}, values: newMemo[ruleKey, *ast.Term](ruleRoom)}
	n := 0
	for _, ref := range referred(c, entry[:len(entry)-1]) {
		looked := readsOf(c, ref)
		if !steady(c, ref) || looked.whole {
			continue
		}
		h := hashOf(ref)
		m.rules[h] = append(m.rules[h], steadyRule{ref, m.readsIndex(looked), n})
		n++
	}
	return m
}

// readsIndex files what a rule looks at: many rules look at the same.
func (m *ruleMemo) readsIndex(looked *reads) int {
	for i, r := range m.reads {
		if r.String() == looked.String() {
			return i
		}
	}
	m.reads = append(m.reads, looked)
	return len(m.reads) - 1
}

// referred are the rules of other packages that a package refers to.
func referred(c *ast.Compiler, pkg ast.Ref) []ast.Ref {
	var refs []ast.Ref
	seen := map[string]bool{}
	for _, m := range c.Modules {
		if !m.Package.Path.Equal(pkg) {
			continue
		}
		ast.WalkRefs(m, func(r ast.Ref) bool {
			if !r[0].Equal(ast.DefaultRootDocument) {
				return false
			}
			for _, rule := range c.GetRulesDynamicWithOpts(r, ast.RulesOptions{IncludeHiddenModules: true}) {
				if ref := rule.Ref(); !seen[ref.String()] && !rule.Module.Package.Path.Equal(pkg) {
					seen[ref.String()] = true
					refs = append(refs, ref)
				}
			}
			return false
		})
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
	input []byte
	seen  []*digest // of what is looked at, by ruleMemo.reads; nil until it is needed
	noted []noted
}

type noted struct {
	key   ruleKey
	value *ast.Term
}

func (m *ruleMemo) recall(input []byte) *recall {
	return &recall{memo: m, input: input, seen: make([]*digest, len(m.reads))}
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
			return ruleKey{rule.index, r.digest(rule.reads)}, true
		}
	}
	return ruleKey{}, false
}

func (r *recall) digest(reads int) digest {
	if r.seen[reads] == nil {
		d := sha256.Sum256(r.memo.reads[reads].prune(nil, r.input))
		r.seen[reads] = &d
	}
	return *r.seen[reads]
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
