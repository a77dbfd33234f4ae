package policy

import (
	"context"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Would says whether an input would be allowed now. It is for lists, which show
// a caller what it could use: nothing happens by the answer, so it is on no log.
// What cannot be judged would not be allowed.
func (e *Engine) Would(ctx context.Context, in Input) bool {
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		return false
	}
	defer e.store.Abort(ctx, txn)
	r := e.active.Load()
	if e.Ready() != nil {
		return false
	}
	rec := record{began: e.now(), input: in, bundles: r.bundles}
	e.evaluate(ctx, r, txn, &rec)
	return rec.decision.Allow
}

// AnyHostFact among the facts says that rules look at hosts in a way that cannot
// be told from their text.
const AnyHostFact = "*"

// HostFacts are the fields of input.host that a site's own packages look at. The
// shipped rules tell hosts apart by class, kind and the classes of jump hosts; a
// question about two hosts that do not differ in any of this has one answer.
func (e *Engine) HostFacts() []string {
	r := e.active.Load()
	if r == nil || !e.set.sources[0].shipped() {
		return []string{AnyHostFact}
	}
	return r.hostFacts
}

// hostFactsOf are the fields of a host that the custom packages, and what they
// refer to, look at.
func hostFactsOf(c *ast.Compiler) []string {
	looked := readsOf(c, customRef)
	host := looked.fields["host"]
	switch {
	case looked.whole || host != nil && host.whole:
		return []string{AnyHostFact}
	case host == nil:
		return nil
	}
	return slices.Sorted(maps.Keys(host.fields))
}

var customRef = ast.MustParseRef("data.custom")
