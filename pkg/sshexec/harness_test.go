package sshexec

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// thorough says that the tests of faults, races and many at once are to run for as
// long as it takes to trust them: SALLYPORT_LONG=1 go test -timeout 1h. Otherwise
// they are a sample.
func thorough() bool { return os.Getenv("SALLYPORT_LONG") != "" }

// long is how often something is done, short in a sample.
func long(short, long int) int {
	if thorough() {
		return long
	}
	return short
}

// lab is an executor and what it logs in with: a key by the name of the
// target's credentials.
type lab struct {
	*Executor
	mu   sync.Mutex
	keys map[string][]byte
}

// login gives credentials another key.
func (l *lab) login(credentials string, key []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[credentials] = key
}

func (l *lab) logins(_ context.Context, t tool.Target) (Login, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Login{Key: l.keys[t.Credentials], KeyName: "test key"}, nil
}

// newLab makes an executor that knows the hosts of the known_hosts lines and has
// a key for targets whose credentials have no name. It is closed with the test, and must then
// have left nothing behind.
func newLab(t testing.TB, key []byte, known []string, change ...func(*Options)) *lab {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(strings.Join(known, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	trust, err := NewTrust(TrustOptions{KnownHosts: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{keys: map[string][]byte{"": key}}
	o := Options{Trust: trust, Logins: l.logins}
	for _, c := range change {
		c(&o)
	}
	l.Executor = New(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if s := l.Stats(); s.Connections+s.Dialing+s.Sessions+s.Running+s.Waiting != 0 {
			t.Errorf("left after close: %+v", s)
		}
	})
	return l
}

// target is a host of a lab.
func target(user string, at netip.AddrPort, via ...tool.Target) tool.Target {
	return tool.Target{
		Alias: "web1", Hostname: at.Addr().String(), Port: int(at.Port()), User: user,
		Address: at.Addr(), Addresses: []netip.Addr{at.Addr()}, Via: via,
	}
}

// line is the step of a command line as if it had been judged.
func line(text string) tool.Step {
	return tool.Step{
		Op: tool.Op{Action: tool.ShellRun, Effect: tool.Execute},
		Do: tool.Shell{Command: &shell.Document{Text: text, Certainty: shell.Static, Canonical: text}},
	}
}

// sudoLine is line for a command that the analyser has found to use sudo.
func sudoLine(text string) tool.Step {
	s := line(text)
	s.Do.(tool.Shell).Command.Commands = []shell.Command{{Wrappers: []shell.Wrapper{{Program: "sudo"}}, User: "root"}}
	return s
}

func job(t tool.Target, steps ...tool.Step) tool.Job {
	return tool.Job{Subject: "tester", Target: t, Steps: steps, Limits: tool.Limits{OutputBytes: 1 << 20}}
}

// login is a user to log in as. For root it is another one, because root's shell
// may be slow to start where people work as root.
func login(t testing.TB) string {
	t.Helper()
	if os.Geteuid() == 0 {
		return sshtest.AddUser(t, false)
	}
	return sshtest.Me(t)
}

// sshd starts an sshd and an executor for it, and gives a target on it.
func sshd(t testing.TB, o sshtest.OpenSSHOptions, change ...func(*Options)) (*lab, *sshtest.OpenSSH, tool.Target) {
	t.Helper()
	s := sshtest.StartOpenSSH(t, o)
	l := newLab(t, s.Key, []string{s.KnownLine}, change...)
	return l, s, target(login(t), s.Addr)
}

// serve starts a server with faults, and gives the key to log in with.
func serve(t testing.TB, f sshtest.Faults) (*sshtest.Server, []byte) {
	t.Helper()
	key, public, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sshtest.Serve(context.Background(), sshtest.Options{User: "tester", AuthorizedKey: public, Faults: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, key
}

// faulty starts a server with faults and an executor for it.
func faulty(t testing.TB, f sshtest.Faults, change ...func(*Options)) (*lab, *sshtest.Server, tool.Target) {
	t.Helper()
	s, key := serve(t, f)
	l := newLab(t, key, []string{s.KnownHostsLine()}, change...)
	return l, s, target("tester", s.Addr())
}

// commands are refused by a server that has this for its faults.
func commands(_ int, r *ssh.Request) bool { return r.Type == "exec" }

// known is the known_hosts line of a host under another address.
func known(at netip.AddrPort, s *sshtest.OpenSSH) string {
	return "[" + at.Addr().String() + "]:" + strings.Split(at.String(), ":")[1] + " " +
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.HostKey)))
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never came: %s", what)
}

// finished fails the test unless the job has finished with an exit status.
func finished(t testing.TB, r tool.Report, exit int) tool.Output {
	t.Helper()
	if r.Outcome != tool.Finished || r.Err != nil || len(r.Outputs) == 0 {
		t.Fatalf("not finished: %s", describe(r))
	}
	out := r.Outputs[len(r.Outputs)-1]
	if out.Exit == nil || *out.Exit != exit {
		t.Fatalf("exit is not %d: %s", exit, describe(r))
	}
	return out
}

// failed fails the test unless the job has failed in this way.
func failed(t testing.TB, r tool.Report, outcome tool.Outcome, code tool.FailureCode) {
	t.Helper()
	if r.Outcome != outcome || r.Err == nil || r.Err.Code != code {
		t.Fatalf("want %s with %s, got %s", outcome, code, describe(r))
	}
	if r.Err.Message == "" || r.Err.Remedy == "" {
		t.Errorf("%s has no message or no remedy: %+v", code, r.Err)
	}
}

func describe(r tool.Report) string {
	var b strings.Builder
	b.WriteString(string(r.Outcome) + " stop=" + string(r.Stop))
	if r.Err != nil {
		b.WriteString(" err=" + string(r.Err.Code) + ": " + r.Err.Error())
	}
	for _, s := range r.Survivors {
		b.WriteString(" survivor=" + s.Command)
	}
	for _, o := range r.Outputs {
		b.WriteString(" stdout=" + string(o.Stdout.Kept) + " stderr=" + string(o.Stderr.Kept) + " signal=" + o.Signal)
		if o.Exit != nil {
			b.WriteString(" exit=" + string(rune('0'+*o.Exit%10)))
		}
	}
	return b.String()
}

// processes lists the pids of running processes with word on their command
// line.
func processes(t testing.TB, word string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && slices.Contains(strings.Split(string(text), "\x00"), word) {
			pids = append(pids, strings.Split(f, "/")[2])
		}
	}
	return pids
}

// killAll ends what a test has left on the host on purpose.
func killAll(t testing.TB, word string) {
	t.Helper()
	for _, p := range processes(t, word) {
		if pid, err := strconv.Atoi(p); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
