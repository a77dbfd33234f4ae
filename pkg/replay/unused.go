package replay

import (
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

// uses is when each rule was last of use, by its index.
type uses map[int]time.Time

func (u uses) add(d decision) {
	for _, rule := range d.Used {
		if d.Time.After(u[rule]) {
			u[rule] = d.Time
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
	for i, rule := range rules {
		last, used := u[i]
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
