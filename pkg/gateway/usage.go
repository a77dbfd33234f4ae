package gateway

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
)

// usage counts what is going on, so that policy can bound it. A call is counted
// from before its decision until its end; what it is told leaves itself out.
type usage struct {
	mu       sync.Mutex
	subjects map[string]*subjectUsage
}

type subjectUsage struct {
	running int
	onHost  map[string]int
	calls   minute
}

// begin counts a call and says what was going on without it. The returned
// function ends the counting.
func (u *usage) begin(subject, alias string, now time.Time) (policy.Usage, func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.of(subject, now)
	before := policy.Usage{
		Running:         policy.UsageRunning{Subject: s.running, Host: s.onHost[alias]},
		CallsLastMinute: policy.UsageCalls{Subject: s.calls.sum(now)},
	}
	s.running++
	s.onHost[alias]++
	s.calls.add(now)
	return before, func() { u.end(s, alias) }
}

func (u *usage) end(s *subjectUsage, alias string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.running--
	if s.onHost[alias]--; s.onHost[alias] == 0 {
		delete(s.onHost, alias)
	}
}

// manySubjects is when those who have been quiet for a minute are forgotten.
const manySubjects = 1024

func (u *usage) of(subject string, now time.Time) *subjectUsage {
	if u.subjects == nil {
		u.subjects = map[string]*subjectUsage{}
	}
	if len(u.subjects) > manySubjects {
		for id, s := range u.subjects {
			if s.running == 0 && s.calls.sum(now) == 0 {
				delete(u.subjects, id)
			}
		}
	}
	if u.subjects[subject] == nil {
		u.subjects[subject] = &subjectUsage{onHost: map[string]int{}}
	}
	return u.subjects[subject]
}

// minute counts events of the last sixty seconds in sixty buckets.
type minute struct {
	counts [60]int
	stamps [60]int64 // unix second that a bucket was last used for
}

func (m *minute) add(now time.Time) {
	second := now.Unix()
	i := second % int64(len(m.counts))
	if m.stamps[i] != second {
		m.stamps[i], m.counts[i] = second, 0
	}
	m.counts[i]++
}

func (m *minute) sum(now time.Time) int {
	total, second := 0, now.Unix()
	for i, stamp := range m.stamps {
		if second-stamp < int64(len(m.counts)) {
			total += m.counts[i]
		}
	}
	return total
}
