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
	KindSite   RuleKind = "policy.yml"
	KindCustom RuleKind = "custom"
	KindReason RuleKind = "reason"
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
	said := site.said()
	grants := slices.SortedFunc(maps.Keys(said), func(a, b SiteGrant) int {
		return cmp.Or(a.Line-b.Line, strings.Compare(a.Rule, b.Rule))
	})
	for _, g := range grants {
		b.grants[g] = b.add(Rule{KindSite, g.Rule, fmt.Sprintf("policy.yml:%d", g.Line), said[g].String()})
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

// sayings are what rules of policy.yml say, by where they stand.
type sayings map[SiteGrant]*saying

// saying is what a rule does for whom. A rule that matches several kinds of hosts
// stands in the site several times.
type saying struct {
	action      string
	what, whoms map[string]bool
}

func (all sayings) add(g SiteGrant, action, what, whom string) {
	if all[g] == nil {
		all[g] = &saying{what: map[string]bool{}, whoms: map[string]bool{}}
	}
	s := all[g]
	s.action, s.what[what], s.whoms[whom] = action, true, true
}

func (s *saying) String() string {
	return fmt.Sprintf("%s %s for %s", s.action,
		strings.Join(slices.Sorted(maps.Keys(s.what)), ", "), strings.Join(slices.Sorted(maps.Keys(s.whoms)), ", "))
}

// said is what all rules say.
func (s *Site) said() sayings {
	all := sayings{}
	for _, c := range s.Classes {
		for action, g := range map[string]SiteGrants{"allow": c.Allow, "deny": c.Deny} {
			all.profiles(action, holders[map[string]SiteGrant]{g.Any, g.Groups, g.Subjects})
			all.commands(action, holders[map[string][]string]{g.Commands.Any, g.Commands.Groups, g.Commands.Subjects}, s.Rules)
		}
		for action, f := range map[string]SiteFileHolders{"allow": c.Files.Allow, "deny": c.Files.Deny} {
			all.files(action, holders[map[string]SitePaths]{f.Any, f.Groups, f.Subjects}, s.Files)
		}
	}
	for action, h := range map[string]SiteConnectHolders{"allow": s.Connect.Allow, "deny": s.Connect.Deny} {
		all.connections(action, holders[[]int]{h.Any, h.Groups, h.Subjects}, s.Adhoc)
	}
	return all
}

// holders are by whom rules are held.
type holders[T any] struct {
	everybody        T
	groups, subjects map[string]T
}

func (h holders[T]) each(visit func(held T, whom string)) {
	visit(h.everybody, "everybody")
	for kind, by := range map[string]map[string]T{"group": h.groups, "subject": h.subjects} {
		for name, held := range by {
			visit(held, kind+" "+name)
		}
	}
}

func (all sayings) profiles(action string, h holders[map[string]SiteGrant]) {
	h.each(func(held map[string]SiteGrant, whom string) {
		for profile, g := range held {
			all.add(g, action, profile, whom)
		}
	})
}

func (all sayings) commands(action string, h holders[map[string][]string], rules map[string]SiteRule) {
	h.each(func(held map[string][]string, whom string) {
		for _, ids := range held {
			for _, id := range ids {
				r := rules[id]
				all.add(SiteGrant{r.Rule, r.Line}, action, r.Says, whom)
			}
		}
	})
}

func (all sayings) files(action string, h holders[map[string]SitePaths], rules map[string]SiteFile) {
	h.each(func(held map[string]SitePaths, whom string) {
		for verb, paths := range held {
			for _, id := range paths.Rules {
				r := rules[id]
				patterns := map[string][]string{"read": r.Read, "write": r.Write}[verb]
				all.add(SiteGrant{r.Rule, r.Line}, action, verb+" "+few(patterns), whom)
			}
		}
	})
}

// few names the first of many, for people.
func few(names []string) string {
	const most = 4
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], " "), more)
	}
	return strings.Join(names, " ")
}

func (all sayings) connections(action string, h holders[[]int], rules []SiteAdhoc) {
	h.each(func(held []int, whom string) {
		for _, i := range held {
			all.add(SiteGrant{rules[i].Rule, rules[i].Line}, action, "connections to "+rules[i].Says, whom)
		}
	})
}

// addCustom takes in the rules by which a custom package speaks.
func (b *ruleBook) addCustom(m *ast.Module) {
	path := m.Package.Path // data, custom, <package>
	if len(path) != 3 || !path[1].Equal(ast.StringTerm("custom")) {
		return
	}
	for _, r := range m.Rules {
		if _, speaks := spoken[r.Head.Ref()[0].String()]; speaks {
			b.custom[r] = b.add(Rule{KindCustom, r.Ref().GroundPrefix().String(), place(r.Loc()), titleOf(r)})
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
			b.codes[code] = b.add(Rule{KindReason, code, place(a.Location), a.Title})
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

// usage is the rules at work in a decision, as indices of [Replay.Rules].
type usage struct {
	sure   []int
	either [][]int // of each one is, it is not known which
}

func (u *usage) add(rules []int) {
	switch len(rules) {
	case 0:
	case 1:
		u.sure = append(u.sure, rules[0])
	default:
		slices.Sort(rules)
		u.either = append(u.either, rules)
	}
}

// addUsage adds the rules of policy.yml that a call makes use of.
func (b *ruleBook) addUsage(ctx context.Context, v evaluation, u *usage) {
	if b.query == nil {
		return
	}
	v.query, v.tracer, v.recall = b.query, nil, nil
	term, err := v.run(ctx)
	if err != nil {
		return // policy broke, or gave no answer: it made use of nothing
	}
	for _, grants := range grantsIn(term.Value) {
		var rules []int
		for _, g := range grants {
			if i, known := b.grants[g]; known {
				rules = append(rules, i)
			}
		}
		u.add(rules)
	}
}

func grantsIn(v ast.Value) (grants [][]SiteGrant) {
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
