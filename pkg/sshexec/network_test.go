package sshexec

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// pace is how soon a dead host is to be noticed. The promise is made for the
// defaults; a test run in passing is in more of a hurry.
type pace struct {
	keepalive, reply time.Duration // zero for the defaults
	noticed          time.Duration
}

func paceOf() pace {
	if thorough() {
		return pace{noticed: 10 * time.Second}
	}
	return pace{keepalive: time.Second, reply: time.Second, noticed: 4 * time.Second}
}

const (
	// callSeconds is how long calls may take.
	callSeconds = 3
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

// Whatever becomes of a host or of a hop to it, while a command runs or a file is
// written, while one is stopped, or before one is sent: it is noticed in time, the
// outcome is the right one, nobody waits much longer than was agreed, nothing runs
// twice, and a file is wholly old or wholly new.
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
	odd, pace := oddTime(t), paceOf()
	t.Cleanup(func() { killAll(t, odd) })
	file := openDir(t) + "/file"
	answerOf[tool.Written](t, f.lab, f.host, tool.Write{Path: file, Content: []byte(version(0))})
	running := func(mark, seconds int) tool.Job {
		j := job(f.host, line(fmt.Sprintf("echo mark-%d- >>%s; sleep %s", mark, f.marks.file, odd)))
		j.Limits.Seconds = seconds
		return j
	}
	runs, stopped := f.start(t, running(0, 0)), f.start(t, running(1, callSeconds))
	eventually(t, "both run", func() bool { return strings.Count(f.marks.text(t), "mark-") == 2 })
	written := f.start(t, fileJob(f.host, tool.Write{Path: file, Content: []byte(strings.Repeat(version(1), 30))}))
	eventually(t, "it is being written", func() bool { return written.isOver() || len(names(t, filepath.Dir(file))) > len("file") })
	failedAt := time.Now()
	fail(f.fails)
	lateRun, lateRead := job(f.host, f.marks.step(2)), fileJob(f.host, tool.Read{Path: file})
	lateRun.Limits.Seconds, lateRead.Limits.Seconds = callSeconds, callSeconds
	late, read := f.start(t, lateRun), f.start(t, lateRead)
	for _, c := range []*faultCall{runs, stopped, written, late, read} {
		<-c.over
	}

	t.Logf("noticed after %v, and %v by a write; deadlines outlived by %v, %v and %v",
		runs.ended.Sub(failedAt), written.ended.Sub(failedAt), stopped.outlived(), late.outlived(), read.outlived())
	failed(t, runs.report, tool.Unknown, tool.FailDropped)
	for _, c := range []*faultCall{runs, written} {
		if took := c.ended.Sub(failedAt); took > pace.noticed+busy {
			t.Errorf("it was noticed after %v: %s", took, describe(c.report))
		}
	}
	if r := stopped.report; r.Outcome != tool.Unknown || r.Err == nil || r.Stopped {
		t.Errorf("what was to be stopped: %s", describe(r))
	}
	if r := read.report; r.Outcome != tool.NotStarted || r.Err == nil {
		t.Errorf("what was to be read: %s", describe(r))
	}
	for _, c := range []*faultCall{stopped, late, read} {
		if c.outlived() > overrun+busy {
			t.Errorf("a call outlived its deadline by %v: %s", c.outlived(), describe(c.report))
		}
	}
	f.fails.Heal()
	f.marks.check(t, []tool.Report{runs.report, stopped.report, late.report})
	is, whole := mustRead(t, file), map[string]tool.Outcome{version(0): tool.NotStarted, strings.Repeat(version(1), 30): tool.Finished}
	if as, ok := whole[is]; !ok || written.report.Outcome != as && written.report.Outcome != tool.Unknown {
		t.Errorf("a file of %d bytes, beginning with %.30q, is reported as %s", len(is), is, describe(written.report))
	}
}

// faultCall is a call that a fault befalls.
type faultCall struct {
	deadline, ended time.Time
	report          tool.Report
	over            chan struct{}
}

func (f *faultLab) start(t *testing.T, j tool.Job) *faultCall {
	c := &faultCall{deadline: time.Now().Add(time.Duration(j.Limits.Seconds) * time.Second), over: make(chan struct{})}
	go func() {
		defer close(c.over)
		c.report = f.Run(t.Context(), j)
		c.ended = time.Now()
	}()
	return c
}

func (c *faultCall) isOver() bool { return isClosed(c.over) }

// outlived is how long after its deadline the call was over.
func (c *faultCall) outlived() time.Duration { return c.ended.Sub(c.deadline) }

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
