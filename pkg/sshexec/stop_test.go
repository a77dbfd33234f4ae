package sshexec

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// trees are what a command leaves behind when only its shell is killed. Each
// process of a tree sleeps for the same odd time, by which it is found.
var trees = []struct {
	name  string
	shell string // with SLEEP for the command
	count int
}{
	{"plain", "SLEEP & SLEEP", 2},
	{"nohup", "nohup SLEEP >/dev/null 2>&1 & SLEEP", 2},
	{"setsid", "setsid SLEEP >/dev/null 2>&1 & setsid setsid sh -c 'SLEEP; SLEEP' & SLEEP", 3},
	{"deaf to SIGTERM", "trap '' TERM; SLEEP & SLEEP; SLEEP; SLEEP", 2},
}

// oddTime is a time to sleep that no other process sleeps for.
func oddTime(t testing.TB) string {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1e9))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("300.%09d", n)
}

// runUntil runs a job and cancels it with a cause as soon as ready says so.
func runUntil(t *testing.T, l *lab, j tool.Job, cause error, ready func() bool) tool.Report {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	reports := make(chan tool.Report, 1)
	go func() { reports <- l.Run(ctx, j) }()
	eventually(t, "the command runs", ready)
	cancel(cause)
	return <-reports
}

func TestStopEndsTheWholeTree(t *testing.T) {
	user, sudoer := sshtest.AddUser(t, false), sshtest.AddUser(t, true)
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	l := newLab(t, s.Key, []string{s.KnownLine})
	for _, login := range []struct {
		name, user string
		step       func(string) tool.Step
	}{
		{"root", sshtest.AddRootUser(t), line},
		{"user", user, line},
		{"sudo", sudoer, func(text string) tool.Step {
			return sudoLine("sudo -n sh -c " + "\"" + text + "\"")
		}},
	} {
		for _, tree := range trees {
			t.Run(login.name+"/"+tree.name, func(t *testing.T) {
				t.Parallel()
				odd := oddTime(t)
				j := job(target(login.user, s.Addr), login.step(strings.ReplaceAll(tree.shell, "SLEEP", "sleep "+odd)))
				r := runUntil(t, l, j, tool.StopCancelled, func() bool { return len(processes(t, odd)) == tree.count })
				if left := processes(t, odd); len(left) > 0 {
					t.Errorf("still running: %v", left)
				}
				if r.Stop != tool.StopCancelled || !r.Stopped || len(r.Survivors) > 0 || r.Outcome != tool.Finished || r.Err != nil {
					t.Errorf("got %s, stopped %v", describe(r), r.Stopped)
				}
			})
		}
	}
}

func TestStopCauses(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	for _, tc := range []struct {
		cause error
		want  tool.Stop
	}{
		{tool.StopDisconnect, tool.StopDisconnect},
		{tool.StopShutdown, tool.StopShutdown},
		{context.DeadlineExceeded, tool.StopTimeout},
		{nil, tool.StopCancelled},
	} {
		t.Run(string(tc.want), func(t *testing.T) {
			odd := oddTime(t)
			r := runUntil(t, l, job(host, line("sleep "+odd)), tc.cause, func() bool { return len(processes(t, odd)) > 0 })
			if r.Stop != tc.want || !r.Stopped {
				t.Errorf("got %s", describe(r))
			}
		})
	}
}

func TestStopAtTheTimeLimit(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	odd := oddTime(t)
	j := job(host, line("echo begun; sleep "+odd), line("echo never"))
	j.Limits.Seconds = 1
	r := l.Run(t.Context(), j)
	if r.Stop != tool.StopTimeout || !r.Stopped || len(processes(t, odd)) > 0 {
		t.Errorf("got %s", describe(r))
	}
	if len(r.Outputs) != 1 || string(r.Outputs[0].Stdout.Kept) != "begun\n" {
		t.Errorf("output before the stop: %s", describe(r))
	}
}

// A stop that comes while the login shell still starts, before there is a
// marker to find, must end the command too.
func TestStopAtAnyMoment(t *testing.T) {
	t.Parallel()
	user := sshtest.AddUser(t, false)
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	l := newLab(t, s.Key, []string{s.KnownLine})
	finished(t, l.Run(t.Context(), job(target(user, s.Addr), line("true"))), 0)
	for _, name := range []string{user, sshtest.AddRootUser(t)} {
		t.Run(name, func(t *testing.T) {
			for i := range 25 {
				odd := oddTime(t)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*400*time.Microsecond)
				r := l.Run(ctx, job(target(name, s.Addr), line("setsid sleep "+odd+" & sleep "+odd)))
				cancel()
				if r.Stop != tool.StopTimeout || !r.Stopped {
					t.Errorf("after %d: %s", i, describe(r))
				}
				if left := processes(t, odd); len(left) > 0 {
					t.Errorf("after %d: %v left: %s", i, left, describe(r))
				}
			}
		})
	}
}

// Sessions that run must not keep a stop from getting one.
func TestStopOnAFullConnection(t *testing.T) {
	t.Parallel()
	for _, allowed := range []int{1, 3, 10} {
		t.Run(fmt.Sprint("MaxSessions ", allowed), func(t *testing.T) {
			l, _, host := sshd(t, sshtest.OpenSSHOptions{MaxSessions: allowed}, func(o *Options) { o.ConnsPerHost = 1 })
			odd := oddTime(t)
			running := min(8, max(1, allowed-1))
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var jobs sync.WaitGroup
			for range running {
				jobs.Go(func() {
					if r := l.Run(ctx, job(host, line("sleep "+odd))); !r.Stopped {
						t.Errorf("got %s", describe(r))
					}
				})
			}
			eventually(t, "all run", func() bool { return len(processes(t, odd)) == running })
			cancel(tool.StopCancelled)
			jobs.Wait()
			if left := processes(t, odd); len(left) > 0 {
				t.Errorf("%d left", len(left))
			}
		})
	}
}

func TestCloseStopsWhatRuns(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	odd := oddTime(t)
	reports := make(chan tool.Report, 12)
	for range cap(reports) {
		go func() { reports <- l.Run(context.Background(), job(host, line("setsid sleep "+odd+"& sleep "+odd))) }()
	}
	eventually(t, "all run", func() bool { return len(processes(t, odd)) == 2*cap(reports) })
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left := processes(t, odd); len(left) > 0 {
		t.Errorf("%d left", len(left))
	}
	for range cap(reports) {
		if r := <-reports; r.Stop != tool.StopShutdown || !r.Stopped {
			t.Errorf("got %s", describe(r))
		}
	}
}

// Where root cannot be reached any more, what it runs is reported, not denied.
func TestStopReportsSurvivors(t *testing.T) {
	t.Parallel()
	sudoer := sshtest.AddUser(t, true)
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	l := newLab(t, s.Key, []string{s.KnownLine})
	odd := oddTime(t)
	// The analyser has not seen the sudo, as in a script on the host.
	j := job(target(sudoer, s.Addr), line("sudo -n sh -c 'trap \"\" TERM; while :; do sleep "+odd+"; done'; true"))
	r := runUntil(t, l, j, tool.StopCancelled, func() bool { return len(processes(t, odd)) > 0 })
	left := processes(t, odd)
	defer killAll(t, odd)
	if len(left) == 0 || r.Stopped || len(r.Survivors) == 0 {
		t.Errorf("%d still run, reported: %s", len(left), describe(r))
	}
}

// A stop that cannot reach the host says so.
func TestStopOnADeadConnection(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)})
	odd := oddTime(t)
	host := target(login(t), p.Addr())
	began := time.Now()
	r := runUntil(t, l, job(host, line("sleep "+odd)), tool.StopTimeout, func() bool {
		if len(processes(t, odd)) == 0 {
			return false
		}
		p.Freeze()
		began = time.Now()
		return true
	})
	if r.Outcome != tool.Unknown || r.Stopped || r.Stop != tool.StopTimeout || r.Err == nil || r.Err.Code != tool.FailStop {
		t.Errorf("got %s", describe(r))
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	killAll(t, odd)
}

// The script must work with nothing but busybox, and hit nothing else.
func TestStopScript(t *testing.T) {
	t.Parallel()
	busybox := sshtest.Require(t, "busybox", "busybox")
	blind := strings.Replace(stopScript, "| grep -q b;", "| false;", 1)
	if blind == stopScript {
		t.Fatal("the script looks at grep differently")
	}
	for _, tc := range []struct {
		name   string
		sh     []string
		script string
	}{
		{"sh", []string{"/bin/sh", "-s"}, stopScript},
		{"bash", []string{sshtest.Require(t, "bash", "bash"), "-s"}, stopScript},
		{"grep that stops at nulls", []string{"/bin/sh", "-s"}, blind},
		{"busybox", []string{busybox, "sh", "-s"}, onlyBusybox(t, busybox, stopScript)},
		{"busybox with such a grep", []string{busybox, "sh", "-s"}, onlyBusybox(t, busybox, blind)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			odd, other := oddTime(t), oddTime(t)
			start(t, "SALLYPORT_TASK=someone-else", "sleep "+other)
			start(t, "SALLYPORT_TASK=this-one", "sleep "+odd+" & exec setsid sleep "+odd)
			eventually(t, "both run", func() bool { return len(processes(t, odd)) == 2 && len(processes(t, other)) == 1 })

			cmd := exec.Command(tc.sh[0], tc.sh[1:]...)
			cmd.Stdin = strings.NewReader("task=this-one\n" + tc.script)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			result := parseSweep(out)
			if result.err != nil || len(result.survivors) > 0 || result.root != (os.Geteuid() == 0) || !strings.Contains(string(out), "scanned\n") {
				t.Errorf("it said %q", out)
			}
			eventually(t, "both are gone", func() bool { return len(processes(t, odd)) == 0 })
			if len(processes(t, other)) != 1 {
				t.Error("another task was hit")
			}
		})
	}
}

// onlyBusybox lets the script find nothing but busybox's programs.
func onlyBusybox(t *testing.T, busybox, script string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"grep", "awk", "tr", "id", "sleep"} {
		if err := os.Symlink(busybox, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
	if !strings.Contains(script, path) {
		t.Fatal("the script sets its PATH differently")
	}
	return strings.Replace(script, path, "PATH="+dir+"\n", 1)
}

func start(t *testing.T, env, text string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", text)
	cmd.Env = append(os.Environ(), env)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
}

func TestElevator(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   tool.Do
		want string
	}{
		{"wrapper", sudoLine("x").Do, "sudo"},
		{"none", line("x").Do, ""},
		{"a sudo that was not looked through", tool.Shell{Command: &shell.Document{Commands: []shell.Command{{Program: "ls"}, {Program: "sudo"}}}}, "sudo"},
		{"words", tool.Exec{Argv: []string{"/usr/bin/doas", "id"}}, "doas"},
		{"words without", tool.Exec{Argv: []string{"id"}}, ""},
	} {
		if got := elevator(tool.Step{Do: tc.do}); got != tc.want {
			t.Errorf("%s: got %q", tc.name, got)
		}
	}
}

func TestParseSweep(t *testing.T) {
	long := strings.Repeat("é", survivorText)
	for _, tc := range []struct {
		name, out string
		survivors int
		root, ok  bool
	}{
		{"nothing", "", 0, false, false},
		{"all gone", "uid 0\nscanned\ndone\n", 0, true, true},
		{"cut short", "uid 0\nscanned\n", 0, true, false},
		{"survivors", "uid 1000\nscanned\nsurvivor 12 sleep 5\nsurvivor 13 \x1b[31m" + long + "\ndone\n", 2, false, true},
		{"noise of a login shell", "Welcome!\nuid 1000\nsurvivor x y\nscanned\ndone\n", 0, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := parseSweep([]byte(tc.out))
			if len(got.survivors) != tc.survivors || got.root != tc.root || (got.err == nil) != tc.ok {
				t.Errorf("got %+v", got)
			}
			for _, s := range got.survivors {
				if strings.ContainsRune(s.Command, 0x1b) || len(s.Command) > survivorText {
					t.Errorf("unfit to be shown: %q", s.Command)
				}
			}
		})
	}
}

// A server whose commands end without a status, or that reports nothing, is
// not believed to have ended them.
func TestStopNeedsProof(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	l, _, host := faulty(t, sshtest.Faults{Exec: func(command string, ch ssh.Channel) bool {
		if strings.HasPrefix(command, "exec /bin/sh -s") {
			return false // the script runs, and finds nothing
		}
		<-release
		return true
	}})
	j := job(host, line("whatever"))
	j.Limits.Seconds = 1
	r := l.Run(t.Context(), j)
	if r.Outcome != tool.Unknown || r.Stopped || r.Err == nil || r.Err.Code != tool.FailStop {
		t.Errorf("got %s", describe(r))
	}
}
