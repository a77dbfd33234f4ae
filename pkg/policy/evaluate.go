package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
)

// entryPoint is the rule that decides; entryPath is how the decision log calls
// it.
const (
	entryPoint = "data.sallyport.decision"
	entryPath  = "sallyport/decision"
	maskRule   = "data.system.log.mask"
	dropRule   = "data.system.log.drop"
)

// revision is one state of policy and data, ready to be asked.
type revision struct {
	decide  rego.PreparedEvalQuery
	mask    *rego.PreparedEvalQuery // nil: no bundle masks records
	drop    *rego.PreparedEvalQuery // nil: no bundle drops records
	data    baseData
	bundles map[string]string // name -> revision
	// hostFacts are the fields of a host that custom packages look at.
	hostFacts []string
	known     *knowledge
}

func newRevision(ctx context.Context, c *ast.Compiler, store storage.Store, txn storage.Transaction) (*revision, error) {
	r := &revision{}
	decide, err := prepare(ctx, entryPoint, c, store, txn)
	if err != nil {
		return nil, err
	}
	r.decide = *decide
	if r.mask, err = prepareIfDefined(ctx, maskRule, c, store, txn); err != nil {
		return nil, err
	}
	if r.drop, err = prepareIfDefined(ctx, dropRule, c, store, txn); err != nil {
		return nil, err
	}
	if r.data, err = readBaseData(ctx, store, txn); err != nil {
		return nil, err
	}
	if r.known, err = newKnowledge(ctx, c, store, txn); err != nil {
		return nil, err
	}
	r.bundles, err = revisionsIn(ctx, store, txn)
	return r, err
}

func prepare(ctx context.Context, query string, c *ast.Compiler, store storage.Store, txn storage.Transaction) (*rego.PreparedEvalQuery, error) {
	pq, err := rego.New(
		rego.Query(query), rego.Compiler(c), rego.Store(store), rego.Transaction(txn),
		rego.StrictBuiltinErrors(true), rego.GenerateJSON(asTerm),
	).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", query, err)
	}
	return &pq, nil
}

// prepareOpen is [prepare] for a query that leaves open what goes on beside a call.
func prepareOpen(ctx context.Context, query string, c *ast.Compiler, store storage.Store, txn storage.Transaction) (*rego.PreparedPartialQuery, error) {
	pq, err := rego.New(
		rego.Query(query), rego.Compiler(c), rego.Store(store), rego.Transaction(txn),
		rego.StrictBuiltinErrors(true), rego.Unknowns([]string{"input." + meanwhile[0]}),
	).PrepareForPartial(ctx)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", query, err)
	}
	return &pq, nil
}

// asTerm keeps a result as OPA's own value instead of converting it.
func asTerm(t *ast.Term, _ *rego.EvalContext) (any, error) { return t, nil }

func prepareIfDefined(ctx context.Context, query string, c *ast.Compiler, store storage.Store, txn storage.Transaction) (*rego.PreparedEvalQuery, error) {
	if len(c.GetRulesExact(ast.MustParseRef(query))) == 0 {
		return nil, nil
	}
	return prepare(ctx, query, c, store, txn)
}

func revisionsIn(ctx context.Context, store storage.Store, txn storage.Transaction) (map[string]string, error) {
	names, err := bundle.ReadBundleNamesFromStore(ctx, store, txn)
	if err != nil {
		return nil, err
	}
	revisions := make(map[string]string, len(names))
	for _, name := range names {
		if revisions[name], err = bundle.ReadBundleRevisionFromStore(ctx, store, txn, name); err != nil {
			return nil, fmt.Errorf("revision of bundle %s: %w", name, err)
		}
	}
	return revisions, nil
}

// evaluation is one question to a prepared query.
type evaluation struct {
	query   *rego.PreparedEvalQuery
	data    baseData
	txn     storage.Transaction
	input   ast.Value
	now     time.Time // what policies see as the time
	timeout time.Duration
	values  cache.InterQueryValueCache
	recall  *recall             // nil: nothing is known from earlier decisions
	tracer  topdown.QueryTracer // nil: nobody looks on
}

var (
	errUndefined   = errors.New("the rule has no value")
	errManyAnswers = errors.New("the query has more than one result")
	errTimeout     = errors.New("no answer in time")
)

// deadline ends an evaluation in time. OPA does not watch the context when it is
// given a canceller of ours, which saves a goroutine for each decision.
func (v evaluation) deadline(ctx context.Context) (cancel topdown.Cancel, stop func()) {
	cancel = topdown.NewCancel()
	timer := time.AfterFunc(v.timeout, cancel.Cancel)
	if ctx.Done() == nil {
		return cancel, func() { timer.Stop() }
	}
	unwatch := context.AfterFunc(ctx, cancel.Cancel)
	return cancel, func() {
		timer.Stop()
		unwatch()
	}
}

// leave evaluates what does not depend on what goes on and gives what is left.
func (v evaluation) leave(ctx context.Context, query *rego.PreparedPartialQuery) (*rego.PartialQueries, error) {
	cancel, stop := v.deadline(ctx)
	defer stop()
	return query.Partial(ctx,
		rego.EvalParsedInput(v.input), rego.EvalTransaction(v.txn), rego.EvalTime(v.now), rego.EvalExternalCancel(cancel),
		rego.EvalInterQueryBuiltinValueCache(v.values))
}

// run evaluates under the deadline.
func (v evaluation) run(ctx context.Context) (*ast.Term, error) {
	cancel, stop := v.deadline(ctx)
	defer stop()
	rules := newRuleCache(v.recall)
	defer rules.Pop()
	rs, err := v.query.Eval(ctx, v.options(cancel, rules)...)
	switch {
	case err != nil:
		return nil, evalError(ctx, err)
	case len(rs) == 0:
		return nil, errUndefined
	case len(rs) > 1 || len(rs[0].Expressions) != 1:
		return nil, errManyAnswers
	}
	v.recall.keep()
	return rs[0].Expressions[0].Value.(*ast.Term), nil
}

func (v evaluation) options(cancel topdown.Cancel, rules topdown.VirtualCache) []rego.EvalOption {
	options := []rego.EvalOption{
		rego.EvalParsedInput(v.input), rego.EvalTransaction(v.txn), rego.EvalTime(v.now),
		rego.EvalExternalCancel(cancel), rego.EvalMetrics(metrics.NoOp()),
		rego.EvalInterQueryBuiltinValueCache(v.values), rego.EvalVirtualCache(rules), rego.EvalBaseCache(v.data),
	}
	if v.tracer != nil {
		options = append(options, rego.EvalQueryTracer(v.tracer))
	}
	return options
}

func evalError(ctx context.Context, err error) error {
	if !topdown.IsCancel(err) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errTimeout
}

// evaluate asks the active revision and reads its decision into the record.
func (e *Engine) evaluate(ctx context.Context, r *revision, txn storage.Transaction, rec *record) {
	began := time.Now()
	v := e.question(r, txn, rec)
	v.recall = r.known.of(ctx, v, rec)
	if term := v.recall.granted(); term != nil {
		rec.took = time.Since(began)
		rec.read(term)
		return
	}
	if v.input == nil {
		v.input = rec.input.Value()
	}
	v.ask(ctx, rec)
}

// question is what a record asks a revision.
func (e *Engine) question(r *revision, txn storage.Transaction, rec *record) evaluation {
	return evaluation{
		query: &r.decide, data: r.data, txn: txn, input: rec.value, now: rec.began, timeout: e.timeout, values: e.values,
	}
}

// ask reads the answer into the record.
func (v evaluation) ask(ctx context.Context, rec *record) {
	asked := time.Now()
	term, err := v.run(ctx)
	if errors.Is(err, errTimeout) {
		// A decision takes a fraction of a millisecond. When it has not come in
		// time the machine stood still more often than the policy ran away.
		term, err = v.run(ctx)
	}
	rec.took = time.Since(asked)
	if err != nil {
		rec.fail(failureOf(ctx, err), err)
		return
	}
	rec.read(term)
}

// read takes over the value of the entry point.
func (r *record) read(term *ast.Term) {
	result, err := readResult(term.Value)
	if err != nil {
		r.fail(failMalformed, err)
		return
	}
	r.decide(result)
}

func failureOf(ctx context.Context, err error) failure {
	switch {
	case errors.Is(err, errUndefined):
		return failUndefined
	case errors.Is(err, errManyAnswers):
		return failMalformed
	case errors.Is(err, errTimeout):
		return failTimeout
	case ctx.Err() != nil:
		return failCancelled
	}
	var te *topdown.Error
	if errors.As(err, &te) && te.Code == topdown.ConflictErr {
		return failConflict
	}
	return failEvaluation
}
