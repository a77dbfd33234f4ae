package sshexec

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// version is the content of the n-th write. A part of it is none.
func version(n int) string { return strings.Repeat(fmt.Sprintf("version %09d\n", n), 80_000) }

// numberOf is which version a file is.
func numberOf(t testing.TB, file string) int {
	t.Helper()
	content := mustRead(t, file)
	var n int
	if _, err := fmt.Sscanf(content, "version %d\n", &n); err != nil || content != version(n) {
		t.Fatalf("the file is not whole: %d bytes beginning with %.40q", len(content), content)
	}
	return n
}

// A file is wholly old or wholly new, and what is reported is what happened,
// whatever dies meanwhile: sshd, the SFTP server, a hop, or the network.
func TestKillTheHost(t *testing.T) {
	t.Parallel()
	me := login(t)
	for _, tc := range []struct {
		name string
		kill func(host, hop *sshtest.OpenSSH, p *sshtest.Proxy)
	}{
		{"sshd", func(host, _ *sshtest.OpenSSH, _ *sshtest.Proxy) { host.KillSessions() }},
		{"hop", func(_, hop *sshtest.OpenSSH, _ *sshtest.Proxy) { hop.KillSessions() }},
		{"network", func(_, _ *sshtest.OpenSSH, p *sshtest.Proxy) { p.Cut() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{SFTP: "/usr/lib/openssh/sftp-server"})
			hop := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Login: s})
			p := sshtest.StartProxy(t, hop.Addr, 0)
			l := newLab(t, s.Key, []string{s.KnownLine, known(p.Addr(), hop)}, hasty)
			via := target(me, p.Addr())
			via.Alias = "hop"
			host := target(me, s.Addr, via)
			file := openDir(t) + "/file"
			answerOf[tool.Written](t, l, host, tool.Write{Path: file, Content: []byte(version(0))})
			outcomes := map[tool.Outcome]int{}
			now := 0
			for n := 1; n <= long(10, 500); n++ {
				// A write takes about 50 ms, connecting about 200 ms.
				crash := time.AfterFunc(time.Duration(rand.N(250))*time.Millisecond, func() { tc.kill(s, hop, p) })
				r := l.Run(t.Context(), fileJob(host, tool.Write{Path: file, Content: []byte(version(n))}))
				crash.Stop()
				outcomes[r.Outcome]++
				is := numberOf(t, file)
				switch {
				case r.Outcome == tool.Finished && is != n, r.Outcome == tool.NotStarted && is != now, is != n && is != now:
					t.Fatalf("version %d after %d, reported as %s", is, now, describe(r))
				}
				now = is
			}
			t.Logf("outcomes: %v", outcomes)
		})
	}
}

// gatewayJob is what a gateway that is to be killed is told.
type gatewayJob struct {
	Key, KnownHosts, File, User string
	At                          netip.AddrPort
	From                        int
}

// TestMainKilled is the gateway of TestKillTheGateway: it writes one version after
// the other until it is killed, and says which it begins.
func TestMainKilled(t *testing.T) {
	text := os.Getenv("SALLYPORT_KILLED")
	if text == "" {
		t.Skip("for TestKillTheGateway")
	}
	var j gatewayJob
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, []byte(j.Key), []string{j.KnownHosts})
	for n := j.From; ; n++ {
		fmt.Fprintf(os.Stderr, "begins %d\n", n)
		answerOf[tool.Written](t, l, target(j.User, j.At), tool.Write{Path: j.File, Content: []byte(version(n))})
	}
}

// A gateway that is killed leaves files that are wholly old or wholly new, and a
// temporary file that the next one clears away when it is old.
func TestKillTheGateway(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	j := gatewayJob{Key: string(s.Key), KnownHosts: s.KnownLine, File: dir + "/file", User: login(t), At: s.Addr}
	l := newLab(t, s.Key, []string{s.KnownLine})
	answerOf[tool.Written](t, l, target(j.User, j.At), tool.Write{Path: j.File, Content: []byte(version(0))})
	for range long(4, 100) {
		before := numberOf(t, j.File)
		j.From = before + 1
		last := j.runAndKill(t)
		if is := numberOf(t, j.File); is < before || is > last {
			t.Fatalf("version %d: began at %d and had come to %d", is, before, last)
		}
		for _, name := range strings.Fields(names(t, dir)) {
			if name != "file" && !strings.HasPrefix(name, ".file"+temporary) {
				t.Errorf("left: %s", name)
			}
		}
		makeOld(t, dir)
	}
	eventually(t, "the litter is cleared away", func() bool {
		makeOld(t, dir) // the last server may only just have made it
		answerOf[tool.Written](t, l, target(j.User, j.At), tool.Write{Path: j.File, Content: []byte(version(0))})
		return names(t, dir) == "file"
	})
}

// runAndKill runs a gateway for a while and says which version it wrote last.
func (j gatewayJob) runAndKill(t *testing.T) (last int) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestMainKilled$")
	cmd.Env = append(os.Environ(), "SALLYPORT_KILLED="+string(text))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last = j.From
	if _, err := fmt.Fscanf(out, "begins %d\n", &last); err != nil {
		t.Fatalf("the gateway did not begin: %v", err)
	}
	// The first write opens the connection, which takes about 100 ms.
	time.AfterFunc(time.Duration(60+rand.N(200))*time.Millisecond, cancel)
	rest, _ := io.ReadAll(out)
	_ = cmd.Wait()
	for line := range strings.Lines(string(rest)) {
		_, _ = fmt.Sscanf(line, "begins %d\n", &last)
	}
	return last
}

// makeOld makes what is left lying old enough to be cleaned up.
func makeOld(t *testing.T, dir string) {
	t.Helper()
	litter, err := filepath.Glob(dir + "/.file" + temporary + "*")
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-2 * litterAge)
	for _, name := range litter {
		if err := os.Chtimes(name, then, then); err != nil {
			t.Fatal(err)
		}
	}
}
