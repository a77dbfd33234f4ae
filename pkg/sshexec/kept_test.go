package sshexec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// kept is a target over a connection that is kept open.
func kept(id string, t tool.Target) tool.Target {
	t.Conn.ID = id
	return t
}

// connected is what opening a connection has told.
func connected(t *testing.T, l *lab, host tool.Target) tool.Connected {
	t.Helper()
	r := l.Run(t.Context(), job(host, tool.OpenConnection()))
	if r.Outcome != tool.Finished || r.Err != nil || len(r.Outputs) != 1 {
		t.Fatalf("not connected: %s", describe(r))
	}
	made, ok := r.Outputs[0].Answer.(tool.Connected)
	if !ok {
		t.Fatalf("answered %#v", r.Outputs[0].Answer)
	}
	return made
}

func TestConnect(t *testing.T) {
	t.Parallel()
	l, s, host := sshd(t, sshtest.OpenSSHOptions{})
	want := tool.Connected{
		Address: "127.0.0.1", HostKey: "ssh-ed25519 " + ssh.FingerprintSHA256(s.HostKey), Directory: "/",
	}
	if got := connected(t, l, kept("a", host)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if n := l.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
	finished(t, l.Run(t.Context(), job(kept("a", host), line("true"))), 0)
	if n := l.Stats().Connections; n != 1 {
		t.Errorf("the command has a connection of its own")
	}
	failed(t, l.Run(t.Context(), job(kept("b", target("nobody-here", s.Addr)), tool.OpenConnection())), tool.NotStarted, tool.FailAuth)
}

// A host that runs no commands, or none but its own, is connected; where a login
// begins is then not known.
func TestConnectWhereNothingRuns(t *testing.T) {
	t.Parallel()
	key, public, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]sshtest.Faults{
		"refuses":   {Refuse: commands},
		"says else": {Exec: saying("welcome\n")},
		"says much": {Exec: saying(strings.Repeat("x", 1<<20))},
	} {
		s, err := sshtest.Serve(t.Context(), sshtest.Options{User: "tester", AuthorizedKey: public, Faults: f})
		if err != nil {
			t.Fatal(err)
		}
		l := newLab(t, key, []string{s.KnownHostsLine()})
		if got := connected(t, l, kept("a", target("tester", s.Addr()))); got.Directory != "" || !strings.HasPrefix(got.HostKey, "ssh-ed25519 SHA256:") || got.Address == "" {
			t.Errorf("%s: %+v", name, got)
		}
		s.Close()
	}
}

// saying answers every command with a text.
func saying(text string) func(string, ssh.Channel) bool {
	return func(_ string, ch ssh.Channel) bool {
		fmt.Fprint(ch, text)
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&struct{ Status uint32 }{0}))
		return true
	}
}

func TestDirectoryIn(t *testing.T) {
	for out, want := range map[string]string{
		"M\n/home/x\n":          "/home/x",
		"hello\nM\n/home/x\n":   "/home/x",
		"M\n/home/x":            "",
		"M\n/a\n/b\n":           "",
		"M\nC:\\Users\n":        "",
		"/home/x\n":             "",
		"M\nM\n/home/x\n":       "",
		"M\n/with space, 'é'\n": "/with space, 'é'",
	} {
		if got := directoryIn([]byte(out), "M"); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}

// What is kept open is shared with nobody, outlives idleness, and is gone when it
// is disconnected, with what others have untouched.
func TestKeptConnections(t *testing.T) {
	t.Parallel()
	l, s, host := sshd(t, sshtest.OpenSSHOptions{}, func(o *Options) {
		o.IdleClose, o.Keepalive = 50*time.Millisecond, 20*time.Millisecond
	})
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	hop := kept("hop", host)
	through := target(host.User, s.Addr, hop)
	through.Alias = "inner"
	for _, at := range []tool.Target{hop, kept("other", host), kept("inner", through)} {
		connected(t, l, at)
	}
	eventually(t, "what is pooled is closed", func() bool { return l.Stats().Connections == 3 })
	time.Sleep(200 * time.Millisecond)
	if n := l.Stats().Connections; n != 3 {
		t.Errorf("%d are left of three", n)
	}
	l.Disconnect([]string{"inner", "hop", "unknown"})
	if n := l.Stats().Connections; n != 1 {
		t.Errorf("%d connections after the end of two", n)
	}
	finished(t, l.Run(t.Context(), job(kept("other", host), line("true"))), 0)
	l.Disconnect([]string{"other"})
	if n := l.Stats().Connections; n != 0 {
		t.Errorf("%d connections after the end of all", n)
	}
}

// Of what a subject has in the pool, nothing is closed under a command, and what
// is kept open stays.
func TestForget(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	connected(t, l, kept("a", host))
	other := job(host, line("true"))
	other.Subject = "another"
	finished(t, l.Run(t.Context(), other), 0)
	odd := oddTime(t)
	done := make(chan tool.Report)
	go func() { done <- l.Run(t.Context(), job(host, line("sleep "+odd+" & sleep 0.5; kill $!"))) }()
	eventually(t, "it runs", func() bool { return len(processes(t, odd)) > 0 })
	l.Forget("tester")
	finished(t, <-done, 0)
	eventually(t, "one of three is closed", func() bool { return l.Stats().Connections == 2 })
	l.Forget("another")
	eventually(t, "the kept one is left", func() bool { return l.Stats().Connections == 1 })
}

// in is a line as if it had been judged in a directory.
func in(dir, text string) tool.Step {
	s := line(text)
	s.Do.(tool.Shell).Command.Cwd = dir
	return s
}

// A line runs in its directory or not at all, and says which.
func TestWorkingDirectory(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	home, err := os.MkdirTemp("", "cwd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	dir := filepath.Join(home, "q$(echo X>&2)`touch x`'\" ;#")
	if err := errors.Join(os.Chmod(home, 0o755), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	out := finished(t, l.Run(t.Context(), job(host, in(dir, "pwd; cat"))), 0)
	if string(out.Stdout.Kept) != dir+"\n" || out.Stderr.Bytes != 0 {
		t.Errorf("stdout %q, stderr %q", out.Stdout.Kept, out.Stderr.Kept)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	m := newMarks(t)
	for _, text := range []string{"true; ", "false || ", "true & "} {
		r := l.Run(t.Context(), job(host, in(dir, text+m.step(0).Do.(tool.Shell).Command.Canonical)))
		failed(t, r, tool.NotStarted, tool.FailNoDirectory)
		m.check(t, []tool.Report{r})
	}
	if r := l.Run(t.Context(), job(host, in(dir, "true"))); !strings.Contains(r.Err.Message, strconv.Quote(dir)) {
		t.Errorf("does not name the directory: %s", r.Err.Message)
	}
	little := job(host, in(dir, "true"))
	little.Limits.OutputBytes = 1
	failed(t, l.Run(t.Context(), little), tool.NotStarted, tool.FailNoDirectory)
	r := l.Run(t.Context(), job(host, line("true"), in(dir, "true")))
	if failed(t, r, tool.Finished, tool.FailNoDirectory); len(r.Outputs) != 1 {
		t.Errorf("got %s", describe(r))
	}
	// What looks alike is the command's own doing.
	for _, text := range []string{"exit 97", "echo lost >&2; exit 97"} {
		finished(t, l.Run(t.Context(), job(host, in("/", text))), shell.NoDirectory)
	}
}

// A directory is entered by the account that works there, and only if it is the one
// that was judged.
func TestEnter(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	home, err := os.MkdirTemp("", "cwd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	closed, lines := filepath.Join(home, "closed"), filepath.Join(home, "two\nlines\n")
	link := filepath.Join(home, "link")
	if err := errors.Join(os.Chmod(home, 0o755), os.Mkdir(closed, 0), os.Mkdir(lines, 0o755), os.Symlink("/tmp", link)); err != nil {
		t.Fatal(err)
	}
	enter := func(dir string) tool.Report {
		return l.Run(t.Context(), job(host, tool.Step{Do: tool.Enter{Path: dir}}))
	}
	for _, dir := range []string{home, lines} {
		if r := enter(dir); r.Err != nil || r.Outputs[0].Answer != dir {
			t.Errorf("got %s", describe(r))
		}
	}
	failed(t, enter(link), tool.Finished, tool.FailChanged)
	failed(t, enter(filepath.Join(home, "gone")), tool.NotStarted, tool.FailNoDirectory)
	if host.User != "root" {
		failed(t, enter(closed), tool.NotStarted, tool.FailNoDirectory)
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	step := line("cat; echo end")
	do := step.Do.(tool.Shell)
	do.Stdin = []byte(strings.Repeat("x\n", 100_000))
	step.Do = do
	out := finished(t, l.Run(t.Context(), job(host, step)), 0)
	if want := string(do.Stdin) + "end\n"; string(out.Stdout.Kept) != want {
		t.Errorf("got %d bytes of %d", len(out.Stdout.Kept), len(want))
	}
}
