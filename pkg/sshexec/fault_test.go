package sshexec

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// marks is a file on the host into which every command writes its number.
type marks struct{ file string }

func newMarks(t *testing.T) *marks {
	t.Helper()
	dir, err := os.MkdirTemp("", "marks")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &marks{filepath.Join(dir, "marks")}
	if err := os.WriteFile(m.file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, m.file} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *marks) step(i int) tool.Step { return line(fmt.Sprintf("echo mark-%d- >>%s", i, m.file)) }

// check compares what ran with what was reported.
func (m *marks) check(t *testing.T, reports []tool.Report) {
	t.Helper()
	text, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	executed := map[string]int{}
	for line := range strings.Lines(string(text)) {
		executed[strings.TrimSpace(line)]++
	}
	agree(t, executed, reports)
}

// agree compares how often each command was executed with what was reported of it.
func agree(t *testing.T, executed map[string]int, reports []tool.Report) {
	t.Helper()
	outcomes := map[tool.Outcome]int{}
	for i, r := range reports {
		ran := executed[fmt.Sprintf("mark-%d-", i)]
		outcomes[r.Outcome]++
		switch {
		case ran > 1:
			t.Errorf("run %d was executed %d times: %s", i, ran, describe(r))
		case r.Outcome == tool.Finished && ran != 1 && signalOf(r) == "", r.Outcome == tool.NotStarted && ran != 0:
			t.Errorf("run %d was executed %d times, but reported as %s", i, ran, describe(r))
		case r.Outcome != tool.Finished && r.Err == nil:
			t.Errorf("run %d does not say what happened: %s", i, describe(r))
		}
	}
	t.Logf("outcomes: %v", outcomes)
}

// signalOf is the signal that ended a run, which may have done so before it did
// anything.
func signalOf(r tool.Report) string {
	if len(r.Outputs) == 0 {
		return ""
	}
	return r.Outputs[len(r.Outputs)-1].Signal
}

// hasty is a clock by which a breaker's cool-off is over soon.
func hasty(o *Options) { clock(1000)(o) }

// clock goes so many times as fast as others.
func clock(faster time.Duration) func(*Options) {
	return func(o *Options) {
		began := time.Now()
		o.Now = func() time.Time { return began.Add(faster * time.Since(began)) }
	}
}

// Wherever the connection is cut on the way to the host, a command runs at most
// once, and the outcome is what happened.
func TestCutAtEveryStage(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	host := login(t)
	m := newMarks(t)
	var reports []tool.Report
	for at := 0; at < 4500; at += 60 + rand.IntN(20) {
		p := sshtest.StartProxy(t, s.Addr, 0)
		l := newLab(t, s.Key, []string{known(p.Addr(), s)}, hasty)
		p.CutAfter(at)
		reports = append(reports, l.Run(t.Context(), job(target(host, p.Addr()), m.step(len(reports)))))
	}
	eventually(t, "what runs has run", func() bool { return len(processes(t, m.file)) == 0 })
	m.check(t, reports)
}

func TestCutAtRandomMoments(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)}, hasty)
	host := target(login(t), p.Addr())
	m := newMarks(t)
	reports := make([]tool.Report, 600)

	ctx, cancel := context.WithCancel(t.Context())
	var cutter, workers sync.WaitGroup
	cutter.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
			p.CutAfter(rand.IntN(3000))
		}
	})
	next := make(chan int)
	for range 8 {
		workers.Go(func() {
			for i := range next {
				reports[i] = l.Run(t.Context(), job(host, m.step(i)))
			}
		})
	}
	for i := range reports {
		next <- i
	}
	close(next)
	workers.Wait()
	cancel()
	cutter.Wait()
	time.Sleep(100 * time.Millisecond) // the last unknown ones may still run
	m.check(t, reports)
}

func TestServerFaults(t *testing.T) {
	exit := func(ch ssh.Channel, status uint32) {
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&struct{ Status uint32 }{status}))
	}
	var release chan struct{} // closed when a test ends
	for _, tc := range []struct {
		name   string
		faults sshtest.Faults
		check  func(t *testing.T, r tool.Report)
	}{
		{
			"no exit status",
			sshtest.Faults{Exec: func(_ string, ch ssh.Channel) bool { fmt.Fprint(ch, "half"); return true }},
			func(t *testing.T, r tool.Report) {
				failed(t, r, tool.Unknown, tool.FailDropped)
				if string(r.Outputs[0].Stdout.Kept) != "half" {
					t.Errorf("got %s", describe(r))
				}
			},
		},
		{
			"commands are refused",
			sshtest.Faults{Refuse: commands},
			func(t *testing.T, r tool.Report) { failed(t, r, tool.NotStarted, tool.FailExecRefused) },
		},
		{
			"two exit statuses",
			sshtest.Faults{Exec: func(_ string, ch ssh.Channel) bool { exit(ch, 3); exit(ch, 4); return true }},
			func(t *testing.T, r tool.Report) { finished(t, r, 3) },
		},
		{
			"unknown requests",
			sshtest.Faults{Exec: func(_ string, ch ssh.Channel) bool {
				for range 100 {
					_, _ = ch.SendRequest("nonsense", false, []byte("x"))
				}
				if ok, err := ch.SendRequest("question", true, nil); ok || err != nil {
					t.Errorf("a question was answered %v, %v", ok, err)
				}
				exit(ch, 0)
				return true
			}},
			func(t *testing.T, r tool.Report) { finished(t, r, 0) },
		},
		{
			"a malformed exit status",
			sshtest.Faults{Exec: func(_ string, ch ssh.Channel) bool {
				_, _ = ch.SendRequest("exit-status", false, []byte{1})
				return true
			}},
			func(t *testing.T, r tool.Report) { failed(t, r, tool.Unknown, tool.FailDropped) },
		},
		{
			"keepalives without an answer",
			sshtest.Faults{NoReply: true, Exec: func(string, ssh.Channel) bool { <-release; return true }},
			func(t *testing.T, r tool.Report) { failed(t, r, tool.Unknown, tool.FailDropped) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			release = make(chan struct{})
			l, _, host := faulty(t, tc.faults, func(o *Options) {
				o.Keepalive, o.KeepaliveReply = 300*time.Millisecond, 700*time.Millisecond
			})
			t.Cleanup(func() { close(release) })
			tc.check(t, l.Run(t.Context(), job(host, line("anything"))))
		})
	}
}

// What the host asks of us must not block the connection.
func TestServerMayAsk(t *testing.T) {
	l, _, host := faulty(t, sshtest.Faults{Greet: func(c *ssh.ServerConn) {
		for range 200 {
			_, _, _ = c.SendRequest("hostkeys-00@openssh.com", false, nil)
		}
		if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); ok || err != nil {
			t.Errorf("a keepalive was answered %v, %v", ok, err)
		}
		for range 50 {
			if _, _, err := c.OpenChannel("forwarded-tcpip", nil); err == nil {
				t.Error("a channel was accepted")
			}
		}
	}})
	storm(t, l, 20, 4, func(int) tool.Job { return job(host, line("true")) })
}

// A server that holds every connection up for a while is not asked by many
// callers at once.
func TestHandshakesAreFew(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	l, _, host := faulty(t, sshtest.Faults{Conn: func(c net.Conn) net.Conn {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(30 * time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
		return c
	}})
	storm(t, l, 16, 16, func(i int) tool.Job {
		j := job(host, line("true"))
		j.Subject = fmt.Sprint("subject ", i)
		return j
	})
	if most > handshakesAtOnce {
		t.Errorf("%d handshakes at once", most)
	}
}

func TestServerDemo(t *testing.T) {
	t.Parallel()
	key, public, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := sshtest.Serve(ctx, sshtest.Options{User: "demo", AuthorizedKey: public, Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, key, []string{s.KnownHostsLine()})
	host := target("demo", s.Addr())
	if out := finished(t, l.Run(t.Context(), job(host, line("pwd; exit 3"))), 3); string(out.Stdout.Kept) != "/\n" {
		t.Errorf("got %q", out.Stdout.Kept)
	}
	if r := l.Run(t.Context(), job(host, line("kill -TERM $$"))); r.Outputs[0].Signal != "TERM" {
		t.Errorf("got %s", describe(r))
	}
	if out := finished(t, l.Run(t.Context(), job(host, line("sleep 5.5 & echo ok"))), 0); string(out.Stdout.Kept) != "ok\n" {
		t.Errorf("got %q", out.Stdout.Kept)
	}
	odd := oddTime(t)
	j := job(host, line("setsid sleep "+odd+" & sleep "+odd))
	j.Limits.Seconds = 1
	if r := l.Run(t.Context(), j); r.Stop != tool.StopTimeout || !r.Stopped || len(processes(t, odd)) > 0 {
		t.Errorf("got %s", describe(r))
	}
	failed(t, l.Run(t.Context(), job(target("someone", s.Addr()), line("true"))), tool.NotStarted, tool.FailAuth)

	done := make(chan tool.Report)
	go func() { done <- l.Run(context.Background(), job(host, line("sleep "+odd))) }()
	eventually(t, "it runs", func() bool { return len(processes(t, odd)) > 0 })
	cancel()
	s.Close()
	eventually(t, "what ran has ended", func() bool { return len(processes(t, odd)) == 0 })
	if r := <-done; r.Outcome == tool.NotStarted {
		t.Errorf("got %s", describe(r))
	}
}
