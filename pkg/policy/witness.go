package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// witness follows an evaluation and remembers, for each rule that was tried, how
// far it came and what its tries depended on. That is all that an explanation
// needs of a trace, and a small part of it.
type witness struct {
	names    map[ast.Var]ast.Var // generated -> as written
	heard    func(*ast.Rule, *topdown.Event)
	attempts map[uint64]*attempt // by the evaluator's own numbers
	roots    []*attempt
}

// attempt is one try of a rule, or of a body within one: what a comprehension
// ranges over, what a not negates.
type attempt struct {
	rule     *ast.Rule // nil for a body
	body     ast.Body  // nil for a rule
	parent   *attempt
	at       *ast.Expr // of the parent, where this was needed
	now      *ast.Expr
	held     bool
	failed   *ast.Expr // the last condition that did not hold, of those reached
	values   []string  // of that condition
	elements []string  // what a comprehension that failed was made of
	children []*attempt
	reached  int // see reach
}

var _ topdown.QueryTracer = (*witness)(nil)

func newWitness(c *ast.Compiler, heard func(*ast.Rule, *topdown.Event)) *witness {
	return &witness{names: c.RewrittenVars, heard: heard, attempts: map[uint64]*attempt{}}
}

func (w *witness) Enabled() bool { return true }

// Config spares the evaluator from copying all variables at every step: the few
// that matter are looked up when a condition fails.
func (w *witness) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (w *witness) TraceEvent(e topdown.Event) {
	switch e.Op {
	case topdown.EnterOp:
		w.enter(&e)
	case topdown.EvalOp, topdown.RedoOp:
		if a, expr := w.attempts[e.QueryID], exprOf(e.Node); a != nil && expr != nil {
			a.now = expr
		}
	case topdown.FailOp:
		if a, expr := w.attempts[e.QueryID], exprOf(e.Node); a != nil && expr != nil {
			w.fail(a, expr, &e)
		}
	case topdown.ExitOp:
		if r, ok := e.Node.(*ast.Rule); ok {
			w.heard(r, &e)
		}
		if a := w.attempts[e.QueryID]; a != nil {
			w.exit(a, &e)
		}
	}
}

func exprOf(n ast.Node) *ast.Expr {
	expr, _ := n.(*ast.Expr)
	return expr
}

// maxAttempts bounds what is remembered of a policy that tries very much.
const maxAttempts = 100_000

func (w *witness) enter(e *topdown.Event) {
	if len(w.attempts) == maxAttempts {
		return
	}
	a := &attempt{}
	switch n := e.Node.(type) {
	case *ast.Rule:
		a.rule = n
	case ast.Body:
		a.body = n
	}
	if e.QueryID != e.ParentID {
		a.parent = w.attempts[e.ParentID]
	}
	if a.parent == nil {
		w.roots = append(w.roots, a)
	} else {
		a.at = a.parent.now
		a.parent.children = append(a.parent.children, a)
	}
	w.attempts[e.QueryID] = a
}

// fail remembers the condition if no try has come further.
func (w *witness) fail(a *attempt, expr *ast.Expr, e *topdown.Event) {
	if a.failed == nil || expr.Index > a.failed.Index {
		a.failed, a.values = expr, w.valuesOf(expr, e)
	}
}

func (w *witness) exit(a *attempt, e *topdown.Event) {
	a.held = true
	if term := comprehended(a.at, a.body); term != nil && len(a.elements) < maxElements {
		if text := shown(e.Plug(term).Value); !slices.Contains(a.elements, text) {
			a.elements = append(a.elements, text)
		}
	}
}

const maxElements = 3

// comprehended is what a comprehension with this body collects.
func comprehended(expr *ast.Expr, body ast.Body) (term *ast.Term) {
	if expr == nil || len(body) == 0 {
		return nil
	}
	ast.WalkTerms(expr, func(t *ast.Term) bool {
		switch c := t.Value.(type) {
		case *ast.ArrayComprehension:
			term = ifBody(c.Body, body, c.Term, term)
		case *ast.SetComprehension:
			term = ifBody(c.Body, body, c.Term, term)
		case *ast.ObjectComprehension:
			term = ifBody(c.Body, body, c.Key, term)
		}
		return term != nil
	})
	return term
}

func ifBody(a, b ast.Body, yes, no *ast.Term) *ast.Term {
	if len(a) > 0 && a[0] == b[0] {
		return yes
	}
	return no
}

// progress is how many conditions were passed; -1 if not even the arguments fit.
func (a *attempt) progress() int {
	if a.failed == nil {
		return -1
	}
	return a.failed.Index
}

// reach is how many rules deep the failure lies. Of several definitions of a
// rule the one that was about the matter reaches the deepest.
func (a *attempt) reach() int {
	if a.reached == 0 {
		a.reached = 1
		for _, c := range a.culprits() {
			a.reached = max(a.reached, 1+c.reach())
		}
	}
	return a.reached
}

// culprits are the attempts because of which the failed condition of this one
// did not hold: what should have held, or under a not, what should not have; the
// one that came nearest of all definitions of the same rule, the nearest rule
// first.
func (a *attempt) culprits() []*attempt {
	if a.failed == nil {
		return nil
	}
	var found []*attempt
	for _, c := range a.children {
		if sameStatement(c.at, a.failed) {
			found = append(found, c.blame(a.failed.Negated)...)
		}
	}
	return nearestOfEach(found)
}

// blame goes through bodies to the rules below them. In a negated body and in
// the conditions of what a comprehension collects, it is the other way round:
// elements are there because a not held, so a rule did not.
func (a *attempt) blame(wantHeld bool) []*attempt {
	if a.rule != nil {
		if a.held == wantHeld && !(wantHeld && gives(a.at)) {
			return []*attempt{a}
		}
		return nil
	}
	var negated, positive []*attempt
	for _, c := range a.children {
		switch {
		case a.at != nil && a.at.Negated:
			positive = append(positive, c.blame(wantHeld)...)
		case c.at != nil && c.at.Negated:
			negated = append(negated, c.blame(false)...)
		default:
			positive = append(positive, c.blame(a.held)...)
		}
	}
	if len(negated) > 0 {
		return negated
	}
	return positive
}

// gives says that an expression only fetches a value for a later one.
func gives(expr *ast.Expr) bool {
	if expr == nil || !expr.IsEquality() {
		return false
	}
	v, ok := expr.Operand(0).Value.(ast.Var)
	return ok && v.IsGenerated()
}

// sameStatement says that two expressions come from one that was written: the
// compiler makes several of one.
func sameStatement(a, b *ast.Expr) bool {
	if a == nil || b == nil || a == b {
		return a == b && a != nil
	}
	la, lb := a.Loc(), b.Loc()
	return la != nil && lb != nil && la.File == lb.File && la.Row == lb.Row
}

// nearestOfEach keeps, of the definitions of each rule, the one that came
// furthest. Rules that failed at once are left out where others came further.
func nearestOfEach(attempts []*attempt) []*attempt {
	var best []*attempt
	for _, a := range attempts {
		i := slices.IndexFunc(best, func(b *attempt) bool { return ruleName(a.rule) == ruleName(b.rule) })
		switch {
		case i < 0:
			best = append(best, a)
		case nearer(a, best[i]) < 0:
			best[i] = a
		}
	}
	slices.SortStableFunc(best, nearer)
	return slices.DeleteFunc(best, func(a *attempt) bool {
		return a != best[0] && a.reach() == 1 && (best[0].reach() > 1 || a.progress() < best[0].progress())
	})
}

func nearer(a, b *attempt) int {
	return cmp.Or(cmp.Compare(b.reach(), a.reach()), cmp.Compare(b.progress(), a.progress()))
}

// ruleName is the path of a rule without "data.".
func ruleName(r *ast.Rule) string {
	name := r.Head.Ref().GroundPrefix().String()
	if r.Module != nil {
		name = r.Module.Package.Path.String() + "." + name
	}
	return strings.TrimPrefix(name, "data.")
}

// valuesOf are what the references and variables of a condition stand for, in
// the words in which it was written.
func (w *witness) valuesOf(expr *ast.Expr, e *topdown.Event) []string {
	l := look{witness: w, event: e, condition: string(expr.Loc().Text)}
	for _, operand := range operandsOf(expr) {
		ast.WalkTerms(operand, l.at)
	}
	return l.values
}

// operandsOf are the terms of an expression without the name of the function.
func operandsOf(expr *ast.Expr) []*ast.Term {
	switch t := expr.Terms.(type) {
	case *ast.Term:
		return []*ast.Term{t}
	case []*ast.Term:
		return t[1:]
	}
	return nil
}

// look collects values at the moment of an event.
type look struct {
	*witness
	event     *topdown.Event
	condition string // as written; what has no other name is not shown
	values    []string
}

const maxValues = 6

func (l *look) add(label string, value *ast.Term) {
	text := label + " = " + shown(value.Value)
	if label != "" && label != l.condition && tells(value) && !slices.Contains(l.values, text) && len(l.values) < maxValues {
		l.values = append(l.values, text)
	}
}

// tells says that a value is one to show: known, and not a whole table.
func tells(value *ast.Term) bool {
	if value == undefined {
		return true
	}
	_, isObject := value.Value.(ast.Object)
	return value.IsGround() && (!isObject || len(shown(value.Value)) < maxShown)
}

// at visits a term; true ends the walk below it.
func (l *look) at(t *ast.Term) bool {
	switch v := t.Value.(type) {
	case ast.Ref:
		l.ref(v)
		return true
	case ast.Var:
		if made := l.definition(v, l.event); made != nil && isData(made.Operand(1)) {
			ast.WalkTerms(made.Operand(1), l.at)
			return false
		}
		l.add(l.label(v, l.event), l.event.Plug(t))
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
		return true
	}
	return false
}

func isData(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && ref[0].Equal(ast.DefaultRootDocument)
}

// ref adds what a reference leads to, if it begins at a variable or at the input.
// Data is too much to show; of it only what it is looked up by is.
func (l *look) ref(ref ast.Ref) {
	root := l.event.Plug(ref[0])
	switch {
	case ref[0].Equal(ast.InputRootDocument):
		root = l.event.Input()
	case ref[0].Equal(ast.DefaultRootDocument):
		for _, t := range ref[1:] {
			l.at(t)
		}
		return
	}
	if root == nil || !root.IsGround() {
		return
	}
	path := make(ast.Ref, len(ref)-1)
	for i, t := range ref[1:] {
		path[i] = l.event.Plug(t)
	}
	value := undefined
	if found, err := root.Value.Find(path); err == nil {
		value = ast.NewTerm(found)
	}
	if l.named(ref[0]) {
		l.add(l.written(ref, l.event), value)
	}
}

// named says that the author gave a name to what a reference begins at.
func (l *look) named(t *ast.Term) bool {
	v, isVar := t.Value.(ast.Var)
	return !isVar || l.label(v, l.event) != ""
}

var undefined = ast.VarTerm("undefined")

// written is a reference with the names that its author gave.
func (w *witness) written(ref ast.Ref, e *topdown.Event) string {
	out := ref.Copy()
	for i, t := range out {
		v, isVar := t.Value.(ast.Var)
		switch {
		case !isVar:
		case i == 0:
			out[0] = ast.VarTerm(cmp.Or(w.label(v, e), string(v)))
		case e.Plug(t).IsGround():
			out[i] = e.Plug(t)
		default:
			out[i] = ast.VarTerm("_")
		}
	}
	return out.String()
}

// label is the name of a variable as written; empty for one that has none.
func (w *witness) label(v ast.Var, e *topdown.Event) string {
	for range 8 { // a name is rewritten a few times
		named, ok := w.names[v]
		if !ok {
			break
		}
		v = named
	}
	switch made := w.definition(v, e); {
	case !v.IsGenerated() && !v.IsWildcard():
		return string(v)
	case made != nil && made.Loc() != nil:
		return string(made.Loc().Text)
	}
	return ""
}

// definition is the expression that gives a variable of the compiler's its value.
func (w *witness) definition(v ast.Var, e *topdown.Event) *ast.Expr {
	a := w.attempts[e.QueryID]
	if a == nil || !v.IsGenerated() {
		return nil
	}
	body := a.body
	if a.rule != nil {
		body = a.rule.Body
	}
	for _, expr := range body {
		if expr.IsEquality() && expr.Operand(0).Value.Compare(v) == 0 {
			return expr
		}
	}
	return nil
}

// shown is a value in short: of a command its words, of an op its action.
func shown(v ast.Value) string {
	if v.Compare(undefined.Value) == 0 {
		return "undefined"
	}
	return clipped(inShort(v).String())
}

func inShort(v ast.Value) ast.Value {
	switch v := v.(type) {
	case ast.Object:
		for _, key := range telling {
			if t := v.Get(key); t != nil {
				return t.Value
			}
		}
	case *ast.Array:
		items := make([]*ast.Term, 0, v.Len())
		v.Foreach(func(t *ast.Term) { items = append(items, ast.NewTerm(inShort(t.Value))) })
		return ast.NewArray(items...)
	}
	return v
}

// telling are the fields that stand for an object, the best first.
var telling = []*ast.Term{
	ast.StringTerm("argv"), ast.StringTerm("canonical"), ast.StringTerm("action"), ast.StringTerm("text"), ast.StringTerm("alias"),
}

const maxShown = 120

func clipped(s string) string {
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown-3]) + "..."
	}
	return s
}
