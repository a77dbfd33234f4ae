package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/agnivade/levenshtein"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/sallyport/sallyport/policies"
)

// gate is the only door through which a bundle becomes active. It runs within
// the activation's transaction: what it refuses was never there.
type gate struct {
	capabilities *ast.Capabilities
	schemas      *ast.SchemaSet
	err          error // why the gate itself could not be made; it lets nothing pass then
}

const gateName = "sallyport-gate"

// registerGate tells OPA of the gate and makes it the door for whatever in this
// process activates a bundle. OPA keeps activators for the whole process, so one
// gate serves all engines.
var registerGate = sync.OnceFunc(func() {
	bundle.RegisterActivator(gateName, newGate())
	bundle.RegisterDefaultBundleActivator(gateName)
	bundle.RegisterStoreFunc(newStore)
})

func newGate() *gate {
	g := &gate{schemas: ast.NewSchemaSet()}
	g.capabilities, g.err = capabilities()
	g.err = errors.Join(g.err,
		g.put(ast.SchemaRootRef, policies.InputSchema), // what input is, unless an annotation says otherwise
		g.put(ast.MustParseRef("schema.input"), policies.InputSchema),
		g.put(ast.MustParseRef("schema.site"), policies.SiteSchema),
		g.put(ast.MustParseRef("schema.decision_log"), policies.DecisionLogSchema),
	)
	return g
}

func (g *gate) put(ref ast.Ref, file string) error {
	schema, err := shippedJSON(file)
	g.schemas.Put(ref, schema)
	return err
}

func capabilities() (*ast.Capabilities, error) {
	text, err := fs.ReadFile(policies.Files, policies.Capabilities)
	if err != nil {
		return nil, err
	}
	return ast.LoadCapabilitiesJSON(bytes.NewReader(text))
}

func shippedJSON(name string) (any, error) {
	text, err := fs.ReadFile(policies.Files, name)
	if err != nil {
		return nil, err
	}
	var v any
	return v, util.UnmarshalJSON(text, &v)
}

// Activate is OPA's hook. OPA activates no bundles at all when it starts, which
// passes.
func (g *gate) Activate(o *bundle.ActivateOpts) error {
	if g.err != nil {
		return fmt.Errorf("gate: %w", g.err)
	}
	faults := g.compile(o)
	if len(faults) == 0 && len(o.Bundles) > 0 {
		faults = heard(o.Compiler)
	}
	if len(faults) > 0 || len(o.Bundles) == 0 {
		return faults.orNil()
	}
	return faultsOf(answers(o), "have every call get a decision of the shape that policies/README.md tells of").orNil()
}

// compile puts together the bundles that are acceptable, to see what else is
// wrong, too; only without faults are they all of them.
func (g *gate) compile(o *bundle.ActivateOpts) Faults {
	var faults Faults
	rest := *o
	rest.Bundles = maps.Clone(o.Bundles)
	for name, b := range o.Bundles {
		if f := acceptable(o, name, b); f != nil {
			f.Name = name
			faults = append(faults, *f)
			delete(rest.Bundles, name)
		}
	}
	o.Compiler.WithCapabilities(g.capabilities).WithSchemas(g.schemas).WithUseTypeCheckAnnotations(true)
	err := (&bundle.DefaultActivator{}).Activate(&rest)
	return append(faults, faultsOf(err, "give every package and every root to one bundle alone")...)
}

var deltaFault = Fault{Message: "is a delta; only whole bundles are taken", Remedy: "have the whole bundle built and served"}

// mayDecide says that a bundle has a package in which the entry point could be.
func mayDecide(b *bundle.Bundle) bool {
	root := ast.MustParseRef("data." + mainBundleName)
	return slices.ContainsFunc(b.Modules, func(m bundle.ModuleFile) bool { return m.Parsed.Package.Path.HasPrefix(root) })
}

// acceptable looks at a bundle alone, before it is compiled with the others.
func acceptable(o *bundle.ActivateOpts, name string, b *bundle.Bundle) *Fault {
	switch {
	case b.Type() == bundle.DeltaBundleType:
		f := deltaFault
		return &f
	case name == mainBundleName && len(b.Modules) > 0 && !mayDecide(b):
		return &Fault{
			Message: "has no package sallyport, so it cannot take the place of the policy that decides",
			Remedy:  "packages of your own, below custom, are beside it: policy.custom, --custom",
		}
	case b.Manifest.Revision == "":
		return &Fault{
			Message: ".manifest names no revision, so a decision could not say by what it was made",
			Remedy:  `add "revision": "1", or have sallyport policy build write it`,
		}
	case len(b.Modules) == 0 && len(b.Data) == 0:
		return &Fault{Message: "has neither rules nor data", Remedy: "put .rego files into it, or take it out of the setting"}
	}
	active, err := bundle.ReadBundleMetadataFromStore(o.Ctx, o.Store, o.Txn, name)
	if err != nil && !storage.IsNotFound(err) {
		return &Fault{Message: err.Error()}
	}
	return older(b, serial(active))
}

// older refuses a bundle that was released before one that has decided.
func older(b *bundle.Bundle, was int64) *Fault {
	is := serial(b.Manifest.Metadata)
	if is >= was {
		return nil
	}
	return &Fault{
		Message: fmt.Sprintf("metadata.serial is %d, but %d is active; an old bundle is not taken back", is, was),
		Remedy:  "raise metadata.serial in its .manifest",
	}
}

// serial counts the releases of a bundle; a signature alone would let an old
// one return.
func serial(metadata map[string]any) int64 {
	n, err := strconv.ParseInt(fmt.Sprint(metadata["serial"]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// spoken are the names by which a custom package speaks, and whether a set is
// said by it.
var spoken = map[string]bool{"deny": true, "permit": true, "redact": true, "limits": false}

// heard refuses rules that look as if they decided but that nobody understands:
// the shipped policy listens to sets in data.custom.<package>, not to anything
// below it, and not to a deny that is true.
func heard(c *ast.Compiler) (faults Faults) {
	for _, m := range c.Modules {
		path := m.Package.Path // data, custom, <package>, ...
		if len(path) < 2 || !path[1].Equal(ast.StringTerm("custom")) {
			continue
		}
		for _, r := range m.Rules {
			if f := unheard(r, len(path)); f != nil {
				at := r.Loc()
				f.File, f.Line, f.Column = at.File, at.Row, at.Col
				faults = append(faults, *f)
			}
		}
	}
	return faults
}

// unheard says why nobody understands a rule of a custom package, whose path has
// so many parts.
func unheard(r *ast.Rule, parts int) *Fault {
	name := r.Head.Ref()[0].String()
	switch set, speaks := spoken[name]; {
	case !speaks && parts == 3:
		if meant := slip(name); meant != "" {
			return &Fault{Message: name + " is never asked", Remedy: "rename it, to " + meant + " if that was meant"}
		}
	case speaks && parts != 3:
		return &Fault{Message: fmt.Sprintf("%s in %s is never asked", name, r.Module.Package), Remedy: "move it into a package custom.<name>"}
	case set && r.Head.RuleKind() != ast.MultiValue:
		return &Fault{Message: name + " is to be a set", Remedy: "write it as in: " + name + " contains x"}
	}
	return nil
}

// slip is the name that another one looks like by mistake: one letter more, less
// or other. A deny that nobody hears is worse than a name that is refused.
func slip(name string) string {
	for meant := range spoken {
		if levenshtein.ComputeDistance(name, meant) == 1 {
			return meant
		}
	}
	return ""
}

// canaryTimeout is generous, because the first evaluation after a start is the
// slowest one; a runaway rule does not pass it.
const canaryTimeout = time.Second

// answers asks what would become active, and takes it only if it gives every
// canary a decision of the documented shape, in time.
func answers(o *bundle.ActivateOpts) error {
	r, err := newRevision(o.Ctx, o.Compiler, o.Store, o.Txn)
	if err != nil {
		return err
	}
	hosts, err := someHosts(o)
	if err != nil {
		return err
	}
	all := canaries(hosts)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := answersOne(o, r, all[name]); err != nil {
			return fmt.Errorf("canary %q: %w", name, err)
		}
	}
	return nil
}

func answersOne(o *bundle.ActivateOpts, r *revision, in Input) error {
	rec := record{id: "canary", input: in, value: in.Value(), bundles: r.bundles}
	v := evaluation{query: &r.decide, data: r.data, txn: o.Txn, input: rec.value, now: canaryTime, timeout: canaryTimeout}
	term, err := v.run(o.Ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", entryPoint, err)
	}
	decided, err := readResult(term.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", entryPoint, err)
	}
	for _, reason := range decided.Reasons {
		if reason.Code == "limit_malformed" {
			return fmt.Errorf("%s: %s (%s)", reason.Title, reason.Detail, reason.Remedy)
		}
	}
	rec.decide(decided)
	return readsRecord(o.Ctx, r, v, &rec)
}

// someHosts are aliases to try: rules often look at nothing before they know
// the host.
func someHosts(o *bundle.ActivateOpts) ([]string, error) {
	v, err := o.Store.Read(o.Ctx, o.Txn, storage.Path{siteBundleName, "hosts"})
	if storage.IsNotFound(err) {
		return nil, nil
	}
	hosts, ok := v.(ast.Object)
	if err != nil || !ok {
		return nil, err
	}
	var aliases []string
	hosts.Until(func(k, _ *ast.Term) bool {
		alias, _ := k.Value.(ast.String)
		aliases = append(aliases, string(alias))
		return len(aliases) == 3
	})
	return aliases, nil
}

// readsRecord holds the rules that mask and drop records against a canary's. A
// mask that cannot be applied would otherwise fail when the record is written.
func readsRecord(ctx context.Context, r *revision, v evaluation, rec *record) error {
	if r.drop == nil && r.mask == nil {
		return nil
	}
	var err error
	if v.input, err = rec.asInput(nil); err != nil {
		return err
	}
	if _, err := dropped(ctx, r, v); err != nil {
		return fmt.Errorf("%s: %w", dropRule, err)
	}
	if _, err := masksOf(ctx, r, v); err != nil {
		return fmt.Errorf("%s: %w", maskRule, err)
	}
	return nil
}
