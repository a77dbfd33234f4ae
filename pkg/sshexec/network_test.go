package sshexec

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// pace is how soon a dead host is to be noticed, and how long calls may take. The
// promise is made for the defaults; a test run in passing is in more of a hurry.
type pace struct {
	keepalive, reply time.Duration // zero for the defaults
	noticed          time.Duration
	seconds          int // that calls may take
}

func paceOf() pace {
	if thorough() {
		return pace{noticed: 10 * time.Second, seconds: 3}
	}
	return pace{keepalive: time.Second, reply: time.Second, noticed: 4 * time.Second, seconds: 1}
}

const (
	// overrun is by how much a call may outlive its deadline.
	overrun = time.Second
	// busy is what a loaded machine may take besides.
	busy = 800 * time.Millisecond
)

// networkFaults are what can become of a host, as far as its callers see.
var networkFaults = map[string]func(*sshtest.Network){
	"packets dropped": (*sshtest.Network).Drop,
	"link cut":        (*sshtest.Network).Cut,
	"sshd stopped":    func(w *sshtest.Network) { w.Freeze(true) },
	"half open":       func(w *sshtest.Network) { w.Crash(); w.Heal() },
	"crashed":         (*sshtest.Network).Crash,
	"reset":           (*sshtest.Network).Reset,
}

// faultLab is a host in a network of its own, perhaps behind another one.
type faultLab struct {
	*lab
	host  tool.Target
	marks *marks
	fails *sshtest.Network // what the fault comes to
}

func newFaultLab(t *testing.T, hop bool, atHop bool) *faultLab {
	t.Helper()
	outer := sshtest.NewNetwork(t, nil)
	first := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Network: outer})
	user := login(t)
	f := &faultLab{host: target(user, first.Addr), marks: newMarks(t), fails: outer}
	known := []string{first.KnownLine}
	if hop {
		inner := sshtest.NewNetwork(t, outer)
		second := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Network: inner, Login: first})
		via := f.host
		via.Alias = "bastion"
		f.host = target(user, second.Addr, via)
		known = append(known, second.KnownLine)
		if !atHop {
			f.fails = inner
		}
	}
	f.lab = newLab(t, first.Key, known, hasty, func(o *Options) {
		o.Keepalive, o.KeepaliveReply = paceOf().keepalive, paceOf().reply
	})
	finished(t, f.Run(t.Context(), job(f.host, line("true"))), 0)
	return f
}

// Whatever becomes of a host or of a hop to it, while a command runs, while one is
// stopped, or before one is sent: it is noticed in time, the outcome is the right
// one, nobody waits much longer than was agreed, and nothing runs twice.
func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	for name, fail := range networkFaults {
		for where, hop := range map[string][2]bool{"": {}, ", behind a hop": {true, false}, " at the hop": {true, true}} {
			if where != "" && !thorough() && name != "packets dropped" && name != "sshd stopped" {
				continue
			}
			t.Run(name+where, func(t *testing.T) {
				t.Parallel()
				newFaultLab(t, hop[0], hop[1]).check(t, fail)
			})
		}
	}
}

func (f *faultLab) check(t *testing.T, fail func(*sshtest.Network)) {
	odd := oddTime(t)
	t.Cleanup(func() { killAll(t, odd) })
	running := func(mark, seconds int) tool.Job {
		j := job(f.host, line(fmt.Sprintf("echo mark-%d- >>%s; sleep %s", mark, f.marks.file, odd)))
		j.Limits.Seconds = seconds
		return j
	}
	reports := make([]tool.Report, 3)
	ended := make([]time.Time, 3)
	var calls sync.WaitGroup
	start := func(i int, j tool.Job) {
		calls.Go(func() {
			reports[i] = f.Run(t.Context(), j)
			ended[i] = time.Now()
		})
	}
	pace := paceOf()
	limit := time.Duration(pace.seconds) * time.Second
	began := time.Now()
	start(0, running(0, 0))
	start(1, running(1, pace.seconds))
	eventually(t, "both run", func() bool { return strings.Count(f.marks.text(t), "mark-") == 2 })
	failedAt := time.Now()
	fail(f.fails)
	late := job(f.host, f.marks.step(2))
	late.Limits.Seconds = pace.seconds
	lateAt := time.Now()
	start(2, late)
	calls.Wait()

	t.Logf("noticed after %v; deadlines outlived by %v and %v", ended[0].Sub(failedAt), ended[1].Sub(began)-limit, ended[2].Sub(lateAt)-limit)
	failed(t, reports[0], tool.Unknown, tool.FailDropped)
	if took := ended[0].Sub(failedAt); took > pace.noticed+busy {
		t.Errorf("it was noticed after %v", took)
	}
	if r := reports[1]; r.Outcome != tool.Unknown || r.Err == nil || r.Stopped {
		t.Errorf("what was to be stopped: %s", describe(r))
	}
	if over := ended[1].Sub(began) - limit; over > overrun+busy {
		t.Errorf("a call that was stopped outlived its deadline by %v", over)
	}
	if over := ended[2].Sub(lateAt) - limit; over > overrun+busy {
		t.Errorf("a call that came late outlived its deadline by %v", over)
	}
	f.fails.Heal()
	f.marks.check(t, reports)
}

// text is what was written so far.
func (m *marks) text(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// After a fault the next call goes the same way, and what is kept open is the same
// connection to its owner.
func TestNetworkHeals(t *testing.T) {
	t.Parallel()
	for where, atHop := range map[string]bool{"behind a hop": false, "at the hop": true} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			f := newFaultLab(t, true, atHop)
			host := kept("a", f.host)
			connected(t, f.lab, host)
			f.fails.Drop()
			eventually(t, "it is noticed", func() bool { return !f.holds("a") })
			f.fails.Heal()
			finished(t, f.Run(t.Context(), job(host, line("true"))), 0)
			if !f.holds("a") {
				t.Error("the connection is not kept")
			}
		})
	}
}

// holds says that there is a live connection for one that is kept open.
func (l *lab) holds(id string) bool {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	for key, h := range l.pool.hosts {
		if key.kept == id && len(h.conns) > 0 {
			return true
		}
	}
	return false
}

// Connections are reset, and the processes that serve them killed, at random
// moments of many commands at once: none runs twice, and each outcome is the right
// one.
func TestRandomCuts(t *testing.T) {
	t.Parallel()
	for where, hop := range map[string][2]bool{"direct": {}, "behind a hop": {true, false}, "at the hop": {true, true}} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			newFaultLab(t, hop[0], hop[1]).cut(t, long(25, 10_000/3))
		})
	}
}

// cut cuts the connections again and again, each time when some command has ended
// since the last one, and so others are on their way.
func (f *faultLab) cut(t *testing.T, times int) {
	var over atomic.Bool
	var ended atomic.Int64
	var cutter, workers sync.WaitGroup
	cutter.Go(func() {
		defer over.Store(true)
		for range times {
			for last := ended.Load(); ended.Load() == last; {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(rand.N(8 * time.Millisecond))
			if rand.IntN(2) == 0 {
				f.fails.KillOne(rand.Int())
				continue
			}
			f.fails.Reset()
			f.fails.Heal()
		}
	})
	var mu sync.Mutex
	var reports []tool.Report
	for range 4 {
		workers.Go(func() {
			for !over.Load() {
				mu.Lock()
				i := len(reports)
				reports = append(reports, tool.Report{})
				mu.Unlock()
				r := f.Run(t.Context(), job(f.host, f.marks.step(i)))
				if r.Outcome == tool.Finished {
					ended.Add(1)
				}
				mu.Lock()
				reports[i] = r
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	cutter.Wait()
	eventually(t, "what runs has run", func() bool { return len(processes(t, f.marks.file)) == 0 })
	time.Sleep(100 * time.Millisecond) // a shell that only just starts does not name the file yet
	f.marks.check(t, reports)
}
