package replay

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
)

// What a replay keeps at most, whatever is in the logs.
const (
	mostNames    = 10_000 // of hosts, subjects, tools or rules each; the rest are Others
	mostCauses   = 200    // why decisions were not judged
	mostProblems = 100
	mostSteps    = 240 // of the timeline
)

// tally counts decisions as they come.
type tally struct {
	examples int // of each group
	report   Report
	kinds    map[policy.Change]*Group
	groups   [4]groups // rules, hosts, subjects, tools
	then     map[string]map[string]int
	causes   map[NotJudged]int
	line     timeline
	uses     uses
}

func newTally(examples int) *tally {
	t := &tally{
		examples: examples, kinds: map[policy.Change]*Group{}, then: map[string]map[string]int{},
		causes: map[NotJudged]int{}, line: newTimeline(), uses: newUses(),
	}
	for i := range t.groups {
		t.groups[i] = groups{}
	}
	return t
}

const (
	byRule = iota
	byHost
	bySubject
	byTool
)

func (t *tally) add(log string, d decision) {
	t.report.Decisions++
	t.addTime(d.Time)
	t.addRevisions(d.Bundles)
	t.uses.add(d)
	if d.Status != policy.Judged {
		t.addNotJudged(log, d)
		return
	}
	t.report.Judged++
	if d.InPart {
		t.report.JudgedInPart++
	}
	t.line.add(d)
	named := []*Group{
		t.groups[byHost].of(d.Host), t.groups[bySubject].of(d.Subject), t.groups[byTool].of(d.Tool),
	}
	for _, g := range named {
		g.Judged++
	}
	if d.Change == "" {
		t.report.Unchanged++
		return
	}
	t.report.Changed.add(d.Change)
	for _, rule := range d.Rules {
		g := t.groups[byRule].of(rule)
		g.Judged++
		named = append(named, g)
	}
	t.addChange(exampleOf(log, d), append(named, t.kind(d.Change)))
}

func (t *tally) kind(c policy.Change) *Group {
	if t.kinds[c] == nil {
		t.kinds[c] = &Group{}
	}
	return t.kinds[c]
}

func (t *tally) addChange(e Example, in []*Group) {
	for _, g := range in {
		g.Changed.add(e.Change)
		if len(g.Examples) < t.examples {
			g.Examples = append(g.Examples, e)
		}
	}
}

func (t *tally) addTime(at time.Time) {
	if at.IsZero() {
		return
	}
	if t.report.From == nil || at.Before(*t.report.From) {
		t.report.From = &at
	}
	if t.report.To == nil || at.After(*t.report.To) {
		t.report.To = &at
	}
}

func (t *tally) addRevisions(bundles map[string]string) {
	for name, revision := range bundles {
		if t.then[name] == nil {
			t.then[name] = map[string]int{}
		}
		if _, known := t.then[name][revision]; !known && len(t.then[name]) >= mostCauses {
			revision = Others
		}
		t.then[name][revision]++
	}
}

func (t *tally) addNotJudged(log string, d decision) {
	why := NotJudged{Status: d.Status, Cause: d.Cause}
	if _, known := t.causes[why]; !known && len(t.causes) >= mostCauses {
		why.Cause = Others
	}
	t.causes[why]++
	if d.Status == policy.Unreadable && len(t.report.Problems) < mostProblems {
		t.report.Problems = append(t.report.Problems, Problem{log, d.line, d.Cause})
	}
}

// groups are decisions by a name.
type groups map[string]*Group

func (g groups) of(name string) *Group {
	if g[name] == nil {
		if len(g) >= mostNames {
			name = Others
		}
		if g[name] == nil {
			g[name] = &Group{Name: name}
		}
	}
	return g[name]
}

// changed are the groups in which anything changed, those with most changes
// first.
func (g groups) changed() []Group {
	all := []Group{}
	for _, group := range g {
		if group.Changed.All > 0 {
			all = append(all, *group)
		}
	}
	slices.SortFunc(all, func(a, b Group) int {
		return cmp.Or(b.Changed.All-a.Changed.All, strings.Compare(a.Name, b.Name))
	})
	return all
}

// finish makes the report.
func (t *tally) finish(found readings, now map[string]string) *Report {
	r := t.report
	r.Version, r.Logs, r.Bundles = ReportVersion, list(found.logs), t.bundles(now)
	r.Problems = list(append(r.Problems, found.problems...))
	r.NotJudged = t.notJudged()
	r.Examples = []Example{}
	for _, c := range Changes {
		r.Examples = append(r.Examples, t.kind(c).Examples...)
	}
	r.Rules, r.Hosts = t.groups[byRule].changed(), t.groups[byHost].changed()
	r.Subjects, r.Tools = t.groups[bySubject].changed(), t.groups[byTool].changed()
	r.Timeline = t.line.timeline()
	return &r
}

// Changes are the kinds of changes, the gravest first.
var Changes = []policy.Change{
	policy.NewlyAllowed, policy.NewlyDenied, policy.LimitsChange, policy.ReasonChange, policy.OtherChange,
}

func (t *tally) bundles(now map[string]string) []Bundle {
	names := maps.Clone(now)
	for name := range t.then {
		names[name] = now[name]
	}
	all := []Bundle{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		b := Bundle{Name: name, Now: now[name], Then: []Revision{}}
		for _, revision := range slices.Sorted(maps.Keys(t.then[name])) {
			b.Then = append(b.Then, Revision{revision, t.then[name][revision]})
		}
		all = append(all, b)
	}
	return all
}

func (t *tally) notJudged() []NotJudged {
	all := []NotJudged{}
	for why, n := range t.causes {
		why.Decisions = n
		all = append(all, why)
	}
	slices.SortFunc(all, func(a, b NotJudged) int {
		return cmp.Or(b.Decisions-a.Decisions, strings.Compare(string(a.Status), string(b.Status)), strings.Compare(a.Cause, b.Cause))
	})
	return all
}
