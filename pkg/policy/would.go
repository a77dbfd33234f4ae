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
	if r == nil || !e.sources[0].shipped() {
		return []string{AnyHostFact}
	}
	return r.hostFacts
}

// hostFactsOf reads the fields out of the text of the custom packages.
func hostFactsOf(c *ast.Compiler) []string {
	facts := map[string]bool{}
	for _, m := range c.Modules {
		path := m.Package.Path // data, custom, <package>, ...
		if len(path) < 2 || !path[1].Equal(ast.StringTerm("custom")) {
			continue
		}
		ast.WalkRefs(m, func(r ast.Ref) bool {
			if fact, looks := hostFact(r); looks {
				facts[fact] = true
			}
			return false
		})
	}
	return slices.Sorted(maps.Keys(facts))
}

// hostFact is the field of input.host that a reference may read.
func hostFact(r ast.Ref) (field string, looks bool) {
	switch {
	case r.HasPrefix(hostRef):
		return constantAt(r, 2), true
	case r[0].Equal(ast.InputRootDocument):
		return AnyHostFact, constantAt(r, 1) == AnyHostFact
	case r.HasPrefix(shippedRef): // which may read anything in its turn
		return AnyHostFact, true
	}
	return "", false
}

var (
	hostRef    = ast.MustParseRef("input.host")
	shippedRef = ast.MustParseRef("data.sallyport")
)

// constantAt is the name at a position of a reference, or AnyHostFact when there
// is none, or one that is known only at run time.
func constantAt(r ast.Ref, i int) string {
	if len(r) <= i {
		return AnyHostFact
	}
	name, ok := r[i].Value.(ast.String)
	if !ok {
		return AnyHostFact
	}
	return string(name)
}
