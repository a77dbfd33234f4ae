package replay

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
)

// Unused tells which rules were of no use for some time.
type Unused struct {
	Days  int          `json:"days"`
	Since *time.Time   `json:"since"` // so many days before the last decision; null: there is none
	Rules []UnusedRule `json:"rules"` // by kind and place
	Of    int          `json:"of"`    // all rules that were watched
}

// UnusedRule is a rule, and when it was of use before.
type UnusedRule struct {
	policy.Rule
	Last *time.Time `json:"last"` // null: never, as far as the logs go back
}

// uses is when rules were last of use.
type uses struct {
	rules  map[int]time.Time     // by index
	either map[string]eitherUsed // by what they are
}

// eitherUsed is rules of which one was of use, any of them.
type eitherUsed struct {
	rules []int
	last  time.Time
}

// mostEither is of how many sets of rules it is remembered that one was of use;
// beyond that all are taken to have been.
const mostEither = 10_000

func newUses() uses { return uses{map[int]time.Time{}, map[string]eitherUsed{}} }

func (u uses) add(d decision) {
	u.note(d.Used, d.Time)
	for _, rules := range d.Either {
		key := fmt.Sprint(rules)
		known, ok := u.either[key]
		switch {
		case !ok && len(u.either) >= mostEither:
			u.note(rules, d.Time)
		case !ok || d.Time.After(known.last):
			u.either[key] = eitherUsed{rules, d.Time}
		}
	}
}

func (u uses) note(rules []int, at time.Time) {
	for _, rule := range rules {
		if at.After(u.rules[rule]) {
			u.rules[rule] = at
		}
	}
}

// settle takes all rules of a set to have been of use if it is of none of them
// known: it may have been any. So all rules of no use may go at once.
func (u uses) settle(since time.Time) {
	for _, key := range slices.Sorted(maps.Keys(u.either)) {
		set := u.either[key]
		begin := since
		if set.last.Before(since) {
			begin = set.last
		}
		known := slices.ContainsFunc(set.rules, func(rule int) bool {
			last, used := u.rules[rule]
			return used && !last.Before(begin)
		})
		if !known {
			u.note(set.rules, set.last)
		}
	}
}

// unused are the rules that were not of use in the days before the last decision.
func (u uses) unused(rules []policy.Rule, days int, to *time.Time) *Unused {
	out := &Unused{Days: days, Rules: []UnusedRule{}, Of: len(rules)}
	var since time.Time
	if to != nil {
		since = to.AddDate(0, 0, -days)
		out.Since = &since
	}
	u.settle(since)
	for i, rule := range rules {
		last, used := u.rules[i]
		switch {
		case !used:
			out.Rules = append(out.Rules, UnusedRule{rule, nil})
		case last.Before(since):
			out.Rules = append(out.Rules, UnusedRule{rule, &last})
		}
	}
	return out
}

// notes say how far what is told of unused rules can be relied on.
func (r *Report) notes() []string {
	var notes []string
	if r.From != nil && r.From.After(*r.Unused.Since) {
		notes = append(notes, "the logs do not go back so far: they begin at "+shown(*r.From))
	}
	if n := r.Decisions - r.Judged; n > 0 {
		notes = append(notes, plural(n, "decision")+" could not be judged, and may have made use of any rule")
	}
	return notes
}
