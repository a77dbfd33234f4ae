package policy

import (
	"maps"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// meanwhile is what goes on beside a call. It is another with almost every call,
// so a document that looks at it would have to be asked each time. A fact, which
// has one value or none, is asked with this left open instead: what is left of it
// are mostly comparisons of a count with a bound, which are made here.
var meanwhile = []string{"usage"}

// openFact is a small document that is a fact and looks at what goes on.
type openFact struct {
	reads *reads // without what is left open
	at    []int  // the same, in survey.places
	query *rego.PreparedPartialQuery
	term  *ast.Term                 // its value where it holds
	value digest                    // of that
	left  *memo[digest, *remainder] // what it looks at -> what is left of it
}

// remainder is what is left of a fact when all is known but what goes on. Nil is
// one that is more than comparisons.
type remainder struct{ bodies [][]comparison }

// comparison is of two values, by the order that OPA gives to all values.
type comparison struct {
	left, right operand
	holds       func(order int) bool
}

// operand is a constant or what is at a place.
type operand struct {
	constant ast.Value // nil: what is at the place
	place    int       // in survey.places
}

var comparisons = map[string]func(order int) bool{
	ast.LessThan.Name:      func(order int) bool { return order < 0 },
	ast.LessThanEq.Name:    func(order int) bool { return order <= 0 },
	ast.GreaterThan.Name:   func(order int) bool { return order > 0 },
	ast.GreaterThanEq.Name: func(order int) bool { return order >= 0 },
	ast.Equal.Name:         func(order int) bool { return order == 0 },
	ast.Equality.Name:      func(order int) bool { return order == 0 },
	ast.NotEqual.Name:      func(order int) bool { return order != 0 },
}

// openFactOf is nil for a document that cannot be asked so.
func (s *survey) openFactOf(document ast.Ref, looked *reads) (*openFact, error) {
	term := constantOf(s.compiler, document)
	if term == nil || !looked.touches(meanwhile) {
		return nil, nil
	}
	query, err := s.prepareOpen(document.String())
	if err != nil {
		return nil, err
	}
	known := looked.without(meanwhile[0])
	return &openFact{known, s.places.of(known), query, term, digestOfValue(term), newMemo[digest, *remainder](s.room)}, nil
}

// openFactIn is the fact that a document is, by what it looks at: one such fact,
// itself. Nil if it is none.
func (s *survey) openFactIn(l looks) *openFact {
	if !l.at.none() || len(l.small) != 1 {
		return nil
	}
	return s.small[l.small[0]].open
}

// openFact is the value of a rule that is one; true says that it is known to have
// none.
func (m *moment) openFact(rule *steadyRule) (*ast.Term, bool) {
	switch value, ok := m.value(rule.looks.small[0]); {
	case !ok:
		return nil, false
	case value == rule.fact.value:
		return rule.fact.term, false
	}
	return nil, true
}

// without is the same but for one field.
func (r *reads) without(name string) *reads {
	fields := maps.Clone(r.fields)
	delete(fields, name)
	return &reads{fields: fields}
}

// constantOf is the value that a document has wherever it has one; nil if it may
// have others.
func constantOf(c *ast.Compiler, ref ast.Ref) *ast.Term {
	if !steady(c, ref) {
		return nil
	}
	head := c.GetRulesExact(ref)[0].Head
	if head.RuleKind() == ast.MultiValue || !ast.IsConstant(head.Value.Value) {
		return nil
	}
	return head.Value
}

// remainderOf reads what partial evaluation left.
func (p *places) remainderOf(q *rego.PartialQueries) *remainder {
	if len(q.Support) > 0 {
		return nil
	}
	r := &remainder{}
	for _, body := range q.Queries {
		var all []comparison
		for _, expr := range body {
			c, ok := p.comparisonOf(expr)
			if !ok {
				return nil
			}
			all = append(all, c)
		}
		r.bodies = append(r.bodies, all)
	}
	return r
}

func (p *places) comparisonOf(expr *ast.Expr) (c comparison, ok bool) {
	if expr.Negated || len(expr.With) > 0 {
		return c, false
	}
	if t, is := expr.Terms.(*ast.Term); is { // holds unless there is nothing, or false
		c.left, ok = p.operandOf(t)
		c.right, c.holds = operand{constant: ast.Boolean(false)}, comparisons[ast.NotEqual.Name]
		return c, ok
	}
	if !expr.IsCall() || len(expr.Operands()) != 2 {
		return c, false
	}
	if c.holds = comparisons[expr.Operator().String()]; c.holds == nil {
		return c, false
	}
	var left, right bool
	c.left, left = p.operandOf(expr.Operand(0))
	c.right, right = p.operandOf(expr.Operand(1))
	return c, left && right
}

func (p *places) operandOf(t *ast.Term) (operand, bool) {
	if ast.IsConstant(t.Value) {
		return operand{constant: t.Value}, true
	}
	ref, ok := t.Value.(ast.Ref)
	if !ok || !ref[0].Equal(ast.InputRootDocument) {
		return operand{}, false
	}
	at := &p.root
	for _, step := range ref[1:] {
		name, _ := step.Value.(ast.String)
		if at = at.below[string(name)]; at == nil {
			return operand{}, false
		}
	}
	return operand{place: at.number - 1}, at.number > 0
}

// hold says whether the fact holds with what was found at the places.
func (r *remainder) hold(found [][]byte) bool {
	for _, body := range r.bodies {
		if all(body, found) {
			return true
		}
	}
	return false
}

func all(body []comparison, found [][]byte) bool {
	for _, c := range body {
		left, right := c.left.in(found), c.right.in(found)
		if left == nil || right == nil || !c.holds(ast.Compare(left, right)) {
			return false
		}
	}
	return true
}

// in is nil where there is nothing, or nothing that could have such a place.
func (o operand) in(found [][]byte) ast.Value {
	if o.constant != nil {
		return o.constant
	}
	text := found[o.place]
	if text == nil || text[0] == odd {
		return nil
	}
	return valueOf(text).Value
}

// size is about how many bytes it takes.
func (r *remainder) size() int {
	const perBody, perComparison = 24, 64
	size := 0
	if r != nil {
		for _, body := range r.bodies {
			size += perBody + perComparison*len(body)
		}
	}
	return size
}
