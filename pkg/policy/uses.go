package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// usesRule tells the rules of policy.yml that a call makes use of. A bundle need
// not have it.
const usesRule = "data.sallyport.uses.grants"

// RuleKind is what kind of rule a [Rule] is.
type RuleKind string

// Rules of policy.yml, the rules by which custom packages speak, and the reasons
// that policy may give.
const (
	SiteRule   RuleKind = "policy.yml"
	CustomRule RuleKind = "custom"
	ReasonRule RuleKind = "reason"
)

// Rule is something that a replay may find to be of no use.
type Rule struct {
	Kind  RuleKind `json:"kind"`
	Name  string   `json:"name"`  // as the operator wrote it, as a reference, or the reason's code
	Where string   `json:"where"` // file:line
	Title string   `json:"title"`
}

// ruleBook is all rules that could be of use, and how each is recognised.
type ruleBook struct {
	rules  []Rule
	grants map[SiteGrant]int
	custom map[*ast.Rule]int
	codes  map[string]int
	query  *rego.PreparedEvalQuery // nil: the bundle does not tell of policy.yml
}

func newRuleBook(ctx context.Context, c *ast.Compiler, store storage.Store, txn storage.Transaction, data baseData) (*ruleBook, error) {
	b := &ruleBook{grants: map[SiteGrant]int{}, custom: map[*ast.Rule]int{}, codes: map[string]int{}}
	var err error
	if b.query, err = prepareIfDefined(ctx, usesRule, c, store, txn); err != nil {
		return nil, err
	}
	if b.query != nil {
		if err := b.addSite(data); err != nil {
			return nil, err
		}
	}
	for _, file := range slices.Sorted(maps.Keys(c.Modules)) {
		b.addCustom(c.Modules[file])
		b.addReasons(c.Modules[file])
	}
	return b, nil
}

func (b *ruleBook) add(r Rule) int {
	b.rules = append(b.rules, r)
	return len(b.rules) - 1
}

// addSite takes in the rules of policy.yml, as far as they match some host.
func (b *ruleBook) addSite(data baseData) error {
	site, err := siteIn(data)
	if err != nil {
		return err
	}
	said := map[SiteGrant]*saying{}
	for _, class := range site.Classes {
		class.Allow.each(func(g SiteGrant, profile, whom string) { sayingOf(said, g).add("allow", profile, whom) })
		class.Deny.each(func(g SiteGrant, profile, whom string) { sayingOf(said, g).add("deny", profile, whom) })
	}
	grants := slices.SortedFunc(maps.Keys(said), func(a, b SiteGrant) int {
		return cmp.Or(a.Line-b.Line, strings.Compare(a.Rule, b.Rule))
	})
	for _, g := range grants {
		b.grants[g] = b.add(Rule{SiteRule, g.Rule, fmt.Sprintf("policy.yml:%d", g.Line), said[g].String()})
	}
	return nil
}

func siteIn(data baseData) (*Site, error) {
	v := data.Get(ast.MustParseRef("data." + siteBundleName))
	if v == nil {
		return &Site{}, nil
	}
	native, err := ast.JSON(v)
	if err != nil {
		return nil, err
	}
	return readSite(native)
}

// each visits grants with their profile and whom they are for.
func (g SiteGrants) each(visit func(grant SiteGrant, profile, whom string)) {
	for profile, grant := range g.Any {
		visit(grant, profile, "everybody")
	}
	for kind, by := range map[string]map[string]map[string]SiteGrant{"group": g.Groups, "subject": g.Subjects} {
		for name, profiles := range by {
			for profile, grant := range profiles {
				visit(grant, profile, kind+" "+name)
			}
		}
	}
}

// saying is what a rule of policy.yml says.
type saying struct {
	action          string
	profiles, whoms map[string]bool
}

func sayingOf(all map[SiteGrant]*saying, g SiteGrant) *saying {
	if all[g] == nil {
		all[g] = &saying{profiles: map[string]bool{}, whoms: map[string]bool{}}
	}
	return all[g]
}

func (s *saying) add(action, profile, whom string) {
	s.action = action
	s.profiles[profile], s.whoms[whom] = true, true
}

func (s *saying) String() string {
	return fmt.Sprintf("%s %s for %s", s.action,
		strings.Join(slices.Sorted(maps.Keys(s.profiles)), ", "), strings.Join(slices.Sorted(maps.Keys(s.whoms)), ", "))
}

// addCustom takes in the rules by which a custom package speaks.
func (b *ruleBook) addCustom(m *ast.Module) {
	path := m.Package.Path // data, custom, <package>
	if len(path) != 3 || !path[1].Equal(ast.StringTerm("custom")) {
		return
	}
	for _, r := range m.Rules {
		if _, speaks := spoken[r.Head.Ref()[0].String()]; speaks {
			b.custom[r] = b.add(Rule{CustomRule, r.Ref().GroundPrefix().String(), place(r.Loc()), titleOf(r)})
		}
	}
}

func place(at *ast.Location) string {
	return fmt.Sprintf("%s:%d", strings.TrimPrefix(at.File, "/"), at.Row)
}

// titleOf is what the annotation of a rule calls it.
func titleOf(r *ast.Rule) string {
	for _, a := range r.Annotations {
		if a.Title != "" {
			return a.Title
		}
	}
	return ""
}

// addReasons takes in the codes that the annotations of a module have.
func (b *ruleBook) addReasons(m *ast.Module) {
	for _, a := range m.Annotations {
		code, _ := a.Custom["code"].(string)
		if _, known := b.codes[code]; code != "" && !known {
			b.codes[code] = b.add(Rule{ReasonRule, code, place(a.Location), a.Title})
		}
	}
}

// customTracer tells by which rules of custom packages an evaluation spoke.
type customTracer struct {
	rules map[*ast.Rule]int
	used  []int
}

var _ topdown.QueryTracer = (*customTracer)(nil)

func (t *customTracer) Enabled() bool { return true }

func (t *customTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (t *customTracer) TraceEvent(e topdown.Event) {
	if rule, ok := e.Node.(*ast.Rule); ok && e.Op == topdown.ExitOp {
		if i, known := t.rules[rule]; known {
			t.used = append(t.used, i)
		}
	}
}

// ofCodes are the rules by the codes of reasons.
func (b *ruleBook) ofCodes(codes []string) []int {
	var used []int
	for _, code := range codes {
		if i, known := b.codes[code]; known {
			used = append(used, i)
		}
	}
	return used
}

// ofSite are the rules of policy.yml that a call makes use of.
func (b *ruleBook) ofSite(ctx context.Context, v evaluation) []int {
	if b.query == nil {
		return nil
	}
	v.query, v.tracer, v.recall = b.query, nil, nil
	term, err := v.run(ctx)
	if err != nil {
		return nil // policy broke, or gave no answer: it made use of nothing
	}
	var used []int
	for _, g := range grantsIn(term.Value) {
		if i, known := b.grants[g]; known {
			used = append(used, i)
		}
	}
	return used
}

func grantsIn(v ast.Value) (grants []SiteGrant) {
	native, err := ast.JSON(v)
	if err != nil {
		return nil
	}
	text, err := json.Marshal(native)
	if err != nil || json.Unmarshal(text, &grants) != nil {
		return nil
	}
	return grants
}
