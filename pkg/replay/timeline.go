package replay

import (
	"maps"
	"slices"
	"time"
)

// timeline counts decisions by time, in steps that become longer when there are
// too many.
type timeline struct {
	width int // index in widths
	steps map[int64]*Step
}

// widths are how long a step may be, in seconds.
var widths = []int64{60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400, 28 * 86400, 364 * 86400, 3640 * 86400, 1 << 40}

func newTimeline() timeline { return timeline{steps: map[int64]*Step{}} }

func (t *timeline) add(d decision) {
	s := t.step(d.Time.Unix())
	s.Judged++
	if d.Change != "" {
		s.Changed.add(d.Change)
	}
	for len(t.steps) > mostSteps {
		t.widen()
	}
}

// step is the one that a time is in. There were no decisions before 1970.
func (t *timeline) step(at int64) *Step {
	key := max(at, 0) / widths[t.width]
	if t.steps[key] == nil {
		t.steps[key] = &Step{From: time.Unix(key*widths[t.width], 0).UTC()}
	}
	return t.steps[key]
}

func (t *timeline) widen() {
	steps := t.steps
	t.steps = map[int64]*Step{}
	t.width++
	for _, s := range steps {
		wide := t.step(s.From.Unix())
		wide.Judged += s.Judged
		wide.Changed.merge(s.Changed)
	}
}

func (t *timeline) timeline() Timeline {
	out := Timeline{StepSeconds: widths[t.width], Steps: []Step{}}
	for _, key := range slices.Sorted(maps.Keys(t.steps)) {
		out.Steps = append(out.Steps, *t.steps[key])
	}
	return out
}
