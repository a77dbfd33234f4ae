package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/sallyport/sallyport/pkg/tool"
)

// question is one state of policy and data that is asked more than once.
type question struct {
	revision *revision
	compiler *ast.Compiler
	store    storage.Store
	txn      storage.Transaction
}

// explainTimeout bounds the evaluations that an explanation follows; followed
// closely they take some twenty times as long.
const explainTimeout = 5 * time.Second

// aside takes what decides now to where it can be asked at leisure. All data is
// in the revision, so an empty store does: a transaction of the engine's own,
// held for as long as an explanation takes, would hold up the next activation,
// and that every decision.
func (e *Engine) aside(ctx context.Context) (question, error) {
	q, err := e.current(ctx)
	if err != nil {
		return q, err
	}
	q.store = newStore()
	if q.txn, err = q.store.NewTransaction(ctx); err != nil {
		return q, err
	}
	decide, err := prepare(ctx, entryPoint, q.compiler, q.store, q.txn)
	if err != nil {
		return q, err
	}
	q.revision.decide = *decide
	return q, nil
}

// current is a copy of the active revision and its compiler, of one moment.
func (e *Engine) current(ctx context.Context) (question, error) {
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		return question{}, err
	}
	defer e.store.Abort(ctx, txn)
	if err := e.Ready(); err != nil {
		return question{}, err
	}
	r := *e.active.Load()
	return question{revision: &r, compiler: e.manager.GetCompiler()}, nil
}

// Explain says why a document is judged as it is, and which small changes to the
// call would be allowed now. Others are hosts that the caller could use instead.
// What is not allowed is not named as a change: each was judged.
func (e *Engine) Explain(ctx context.Context, d Document, others []tool.Target) (tool.Explanation, error) {
	q, err := e.aside(ctx)
	if err != nil {
		return tool.Explanation{}, err
	}
	defer q.store.Abort(ctx, q.txn)
	x := explainer{engine: e, question: q, document: d}
	answer := e.ask(ctx, q, d)
	following, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	if err := x.listen(following); err != nil {
		return tool.Explanation{}, err
	}
	if err := x.readEntries(following); err != nil {
		return tool.Explanation{}, err
	}
	if answer.Allow {
		return x.out, nil
	}
	if err := x.followPermits(following); err != nil {
		return tool.Explanation{}, err
	}
	x.out.Changes = (&nearest{engine: e, question: q}).search(ctx, d, answer, others)
	return x.out, nil
}

// explainer makes one explanation.
type explainer struct {
	engine   *Engine
	question question
	document Document
	out      tool.Explanation
}

// follow evaluates a query under a witness.
func (x *explainer) follow(ctx context.Context, query string, w *witness, options ...rego.EvalOption) error {
	q := x.question
	pq, err := prepare(ctx, query, q.compiler, q.store, q.txn)
	if err != nil {
		return err
	}
	cancel := topdown.NewCancel()
	defer context.AfterFunc(ctx, cancel.Cancel)()
	_, err = pq.Eval(ctx, append(options,
		rego.EvalParsedInput(x.document.value), rego.EvalTransaction(q.txn), rego.EvalTime(x.engine.now()),
		rego.EvalExternalCancel(cancel), rego.EvalQueryTracer(w), rego.EvalBaseCache(q.revision.data),
		rego.EvalInterQueryBuiltinValueCache(x.engine.values),
	)...)
	var broken *topdown.Error
	switch {
	case ctx.Err() != nil:
		return errTimeout
	case errors.As(err, &broken): // a policy that breaks is explained as far as it came
		return nil
	}
	return err
}

// listen finds the rules that spoke in the decision.
func (x *explainer) listen(ctx context.Context) error {
	err := x.follow(ctx, entryPoint, newWitness(x.question.compiler, x.heard))
	slices.SortFunc(x.out.Spoke, func(a, b tool.Spoken) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Detail, b.Detail))
	})
	x.out.Spoke = slices.Compact(x.out.Spoke)
	return err
}

// heard notes a rule that held, if it is one by which something is said.
func (x *explainer) heard(r *ast.Rule, e *topdown.Event) {
	s := tool.Spoken{Rule: ruleName(r), File: fileOf(r.Loc()), Line: r.Loc().Row}
	s.Title, s.Code = x.annotated(r)
	path := r.Module.Package.Path
	switch name := r.Head.Ref()[0].String(); {
	case path.HasPrefix(customRef):
		if _, speaks := spoken[name]; !speaks {
			return
		}
	case s.Code == "" && name != "permit", name == "objections": // those are said by others already
		return
	}
	if r.Head.Key != nil {
		readSaid(&s, e.Plug(r.Head.Key).Value)
	}
	x.out.Spoke = append(x.out.Spoke, s)
}

// readSaid takes over what a rule said in words of its own.
func readSaid(s *tool.Spoken, v ast.Value) {
	switch v := v.(type) {
	case ast.String:
		s.Detail = string(v)
	case ast.Object:
		for key, field := range map[string]*string{"code": &s.Code, "title": &s.Title, "detail": &s.Detail} {
			if t := v.Get(ast.StringTerm(key)); t != nil {
				said, _ := t.Value.(ast.String)
				*field = cmp.Or(string(said), *field)
			}
		}
	default:
		s.Detail = shown(v)
	}
}

// annotated are the title and the code that stand in a rule's annotation, or the
// title of its package.
func (x *explainer) annotated(r *ast.Rule) (title, code string) {
	for _, ref := range x.question.compiler.GetAnnotationSet().Chain(r) {
		a := ref.Annotations
		if a == nil {
			continue
		}
		title = cmp.Or(title, a.Title)
		if a.Scope == "rule" || a.Scope == "document" {
			said, _ := a.Custom["code"].(string)
			code = cmp.Or(code, said)
		}
	}
	return title, code
}

// fileOf is where something stands: the shipped rules below sallyport, others in
// the directory that they were loaded from.
func fileOf(l *ast.Location) string {
	switch {
	case l == nil:
		return ""
	case strings.HasPrefix(l.File, "/sallyport/"), strings.HasPrefix(l.File, "/custom/"):
		return l.File[1:]
	}
	return l.File
}

// readEntries adds the entries of policy.yml that have a say.
func (x *explainer) readEntries(ctx context.Context) error {
	var entries []tool.Spoken
	if err := x.question.read(ctx, "data.sallyport.explain.entries", x.document, &entries); err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b tool.Spoken) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Title, b.Title))
	})
	for i := range entries {
		entries[i].File = "policy.yml"
	}
	x.out.Spoke = append(x.out.Spoke, entries...)
	return nil
}

// read evaluates a rule and takes its value over. A bundle in the place of the
// shipped one need not have it.
func (q question) read(ctx context.Context, rule string, d Document, into any) error {
	pq, err := prepareIfDefined(ctx, rule, q.compiler, q.store, q.txn)
	if err != nil || pq == nil {
		return err
	}
	results, err := pq.Eval(ctx, rego.EvalParsedInput(d.value), rego.EvalTransaction(q.txn), rego.EvalBaseCache(q.revision.data))
	var broken *topdown.Error
	if errors.As(err, &broken) || err == nil && len(results) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	v, err := ast.JSON(results[0].Expressions[0].Value.(*ast.Term).Value)
	if err != nil {
		return err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func valueAt(root ast.Value, path ...string) ast.Value {
	ref := make(ast.Ref, len(path))
	for i, name := range path {
		ref[i] = ast.StringTerm(name)
	}
	v, err := root.Find(ref)
	if err != nil {
		return nil
	}
	return v
}

func stringAt(root ast.Value, path ...string) string {
	s, _ := valueAt(root, path...).(ast.String)
	return string(s)
}

// followPermits follows each rule that could have permitted the call, and did
// not, down to the conditions that failed.
func (x *explainer) followPermits(ctx context.Context) error {
	for _, query := range permits(x.question.compiler) {
		w := newWitness(x.question.compiler, func(*ast.Rule, *topdown.Event) {})
		if err := x.follow(ctx, query, w, rego.EvalRuleIndexing(false), rego.EvalEarlyExit(false)); err != nil {
			return err
		}
		var tried []*attempt
		for _, root := range w.roots {
			tried = append(tried, root.children...)
		}
		tried = slices.DeleteFunc(tried, func(a *attempt) bool { return a.rule == nil })
		if !slices.ContainsFunc(tried, func(a *attempt) bool { return a.held }) {
			x.lay(nearestOfEach(tried), 0)
		}
	}
	return nil
}

var shippedRef = ast.MustParseRef("data.sallyport")

// permits are the queries of all rules called permit, the shipped ones first:
// those of the areas, and those of custom packages.
func permits(c *ast.Compiler) []string {
	found := map[string]bool{}
	for _, m := range c.Modules {
		path := m.Package.Path // data, sallyport or custom, <package>
		if len(path) != 3 || !path.HasPrefix(shippedRef) && !path.HasPrefix(customRef) {
			continue
		}
		for _, r := range m.Rules {
			if r.Head.Ref()[0].String() == "permit" {
				found[path.String()+".permit"] = true
			}
		}
	}
	queries := slices.Sorted(maps.Keys(found))
	slices.SortStableFunc(queries, func(a, b string) int {
		return cmp.Compare(strings.Count(a, "data.custom."), strings.Count(b, "data.custom."))
	})
	return queries
}

// How deep and how wide an explanation goes.
const (
	maxDepth    = 9
	maxBranches = 2
)

// lay writes down why attempts failed, and beneath each what that was due to.
func (x *explainer) lay(attempts []*attempt, depth int) {
	for i, a := range attempts {
		if i == maxBranches || depth == maxDepth {
			return
		}
		if c, ok := conditionOf(a, depth); ok {
			x.out.Failed = append(x.out.Failed, c)
			x.lay(slices.DeleteFunc(a.culprits(), isCustom), depth+1)
		}
	}
}

// isCustom says that an attempt is of a rule of a site's own, which is followed
// from its own root.
func isCustom(a *attempt) bool {
	path := a.rule.Module.Package.Path
	return path.HasPrefix(customRef)
}

func conditionOf(a *attempt, depth int) (c tool.Condition, ok bool) {
	loc, text, values := a.rule.Loc(), "", a.values
	switch {
	case a.held:
		text = headOf(a.rule)
	case a.failed != nil:
		loc, text = a.failed.Loc(), strings.TrimSpace(string(a.failed.Loc().Text))
		values = append(slices.Clone(values), a.collected()...)
	default:
		return c, false // its arguments did not fit
	}
	return tool.Condition{
		Depth: depth, Rule: ruleName(a.rule), File: fileOf(loc), Line: loc.Row,
		Text: strings.Join(strings.Fields(text), " "), Values: values, Held: a.held,
	}, true
}

// headOf is the first line of a rule.
func headOf(r *ast.Rule) string {
	first, _, _ := strings.Cut(string(r.Loc().Text), "\n")
	return first
}

// collected are the elements that a comprehension in the failed condition had.
func (a *attempt) collected() []string {
	var all []string
	for _, c := range a.children {
		if c.rule == nil && len(c.elements) > 0 && sameStatement(c.at, a.failed) {
			all = append(all, "it has "+strings.Join(c.elements, ", "))
		}
	}
	return all
}
