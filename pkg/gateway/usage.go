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
	running occupied // calls and tasks
	tasks   occupied // of those, tasks
	calls   minute
}

// occupied counts what runs, in all and by host.
type occupied struct {
	all    int
	onHost map[string]int
}

func (o *occupied) add(alias string, n int) {
	o.all += n
	count(o.onHost, alias, n)
}

// begin counts a call and says what was going on without it. The returned
// function ends the counting.
func (u *usage) begin(subject, alias string, now time.Time) (policy.Usage, func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.of(subject, now)
	before := s.usage(alias, now)
	s.running.add(alias, 1)
	s.calls.add(now)
	return before, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		s.running.add(alias, -1)
	}
}

// note counts a call that does not run anything itself, and says what is going
// on beside tasks: those wait for each other.
func (u *usage) note(subject, alias string, now time.Time) policy.Usage {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.of(subject, now)
	before := s.usage(alias, now)
	before.Running.Subject -= s.tasks.all
	before.Running.Host -= s.tasks.onHost[alias]
	s.calls.add(now)
	return before
}

// resume counts a task that begins to run.
func (u *usage) resume(subject, alias string, now time.Time) (policy.Usage, func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.of(subject, now)
	before := s.usage(alias, now)
	s.running.add(alias, 1)
	s.tasks.add(alias, 1)
	return before, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		s.running.add(alias, -1)
		s.tasks.add(alias, -1)
	}
}

// running is how much of a subject runs on a host.
func (u *usage) running(subject, alias string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.subjects[subject]; s != nil {
		return s.running.onHost[alias]
	}
	return 0
}

func (s *subjectUsage) usage(alias string, now time.Time) policy.Usage {
	return policy.Usage{
		Running:         policy.UsageRunning{Subject: s.running.all, Host: s.running.onHost[alias]},
		CallsLastMinute: policy.UsageCalls{Subject: s.calls.sum(now)},
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
			if s.running.all == 0 && s.calls.sum(now) == 0 {
				delete(u.subjects, id)
			}
		}
	}
	if u.subjects[subject] == nil {
		u.subjects[subject] = &subjectUsage{running: occupied{onHost: map[string]int{}}, tasks: occupied{onHost: map[string]int{}}}
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
