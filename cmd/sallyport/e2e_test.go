package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/mcpserver"
	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/policies"
)

// site is a real sshd, whose users have no start-up files and whose programs are stand-ins that write down how they
// were started, and a configuration that leads to it: one host for each
// profile, under the profile's name.
type site struct {
	dir      string
	standIns string
	starts   string // file that the stand-ins write to
	sshd     *sshtest.OpenSSH
}

// standIn notes its name and words, each in brackets, and reads its input to
// the end when that is a pipe, as the program it stands for would.
const standIn = `#!/bin/sh
line="${0##*/}"
for word in "$@"; do line="$line [$word]"; done
printf '%%s\n' "$line" >>%s
if [ -p /dev/stdin ]; then while read -r _; do :; done; fi
`

func newSite(t testing.TB, moreHosts ...string) site {
	t.Helper()
	s := site{dir: t.TempDir()}
	s.standIns, s.starts = filepath.Join(s.dir, "bin"), filepath.Join(s.dir, "starts")
	if err := os.Mkdir(s.standIns, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"uptime", "whoami", "uname", "hostname", "date", "df", "free", "du", "ls", "cat", "head", "tail", "wc", "grep", "ss", "ps",
		"systemctl", "journalctl", "docker", "sort", "uniq", "cut", "tr", "sed", "awk", "find", "git", "curl", "id", "touch", "tee", "sh", "bash", "python3",
	} {
		s.write(t, filepath.Join("bin", name), fmt.Sprintf(standIn, s.starts), 0o755)
	}
	for _, wrapper := range []string{"sudo", "timeout", "nice"} {
		s.write(t, filepath.Join("bin", wrapper), fmt.Sprintf(standIn, s.starts), 0o755)
	}
	s.sshd = sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{MoreHosts: moreHosts, Config: []string{"SetEnv PATH=" + s.standIns + " HOME=" + s.dir}})
	s.writeConfig(t)
	return s
}

func (s site) write(t testing.TB, name, content string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func (s site) writeConfig(t testing.TB) {
	t.Helper()
	var servers, rules strings.Builder
	for _, name := range policies.Profiles() {
		fmt.Fprintf(&servers, "  - {alias: %s, host: %s, port: %d, credentials: test}\n", name, s.sshd.Addr.Addr(), s.sshd.Addr.Port())
		fmt.Fprintf(&rules, "  - {action: allow, aliases: [%s], profile: %s}\n", name, name)
	}
	s.write(t, "sallyport.yml", "log_level: error\npolicy: {timeout: 1s}\nlogs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	s.write(t, "servers.yml", "hosts:\n"+servers.String(), 0o600)
	s.write(t, "credentials.yml", fmt.Sprintf("entries:\n  - {name: test, username: %s, key_path: login}\n", osUser()), 0o600)
	s.write(t, "policy.yml", "rules:\n"+rules.String(), 0o600)
	s.write(t, "keys/login", string(s.sshd.Key), 0o600)
	s.write(t, "keys/known_hosts", s.sshd.KnownLine+"\n", 0o600)
}

// started is what the stand-ins wrote down since the last time, sorted: the
// commands of a pipeline start in any order.
func (s site) started(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(s.starts)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	_ = os.Remove(s.starts)
	if len(b) == 0 {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	slices.Sort(lines)
	return lines
}

// serveHTTP runs the gateway in this process until the test ends.
func (s site) serveHTTP(t *testing.T) *mcpclient.Session {
	t.Helper()
	_, url := s.inProcess(t)
	return connect(t, url)
}

// inProcess is the gateway in this process, and where it serves.
func (s site) inProcess(t testing.TB) (st *stack, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	st, err := assemble(ctx, stackOptions{
		load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: s.dir, Env: noEnv}) },
		stderr: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	o, err := httpOptions(st.config.Load().Settings)
	if err != nil {
		t.Fatal(err)
	}
	o.Listen = "127.0.0.1:0"
	o.Metrics = st.metrics()
	server := mcpserver.New(mcpserver.Options{Name: "sallyport", Version: "test", Gateway: st.gateway, Logger: st.log})
	ready, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- server.ListenAndServe(ctx, o, func(a net.Addr) { ready <- a }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
		if err := st.close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	select {
	case a := <-ready:
		return st, fmt.Sprintf("http://%s/mcp", a)
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return nil, ""
}

type corpusCase struct {
	ID      string `json:"id"`
	Command string `json:"command"`
	Profile string `json:"policy_context"`
	Expect  string `json:"expect"`
}

func corpus(t *testing.T) []corpusCase {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "testdata", "corpus", "commands-dev.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []corpusCase
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var c corpusCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	return cases
}

// The corpus on a real host: what is denied starts nothing there, and what is
// allowed starts the programs, with the words, that the text itself starts in
// a POSIX shell.
func TestCorpusOnARealHost(t *testing.T) {
	s := newSite(t)
	client := s.serveHTTP(t)
	for _, c := range corpus(t) {
		answer, err := client.Call(t.Context(), "ssh_run", map[string]any{"alias": c.Profile, "command": c.Command})
		if err != nil {
			t.Fatalf("%s: %v", c.ID, err)
		}
		status, _ := statusOf(answer.Structured)
		onHost := s.started(t)
		if c.Expect == "deny" {
			if status == "ok" || onHost != nil {
				t.Errorf("%s: %q: status %s, started %v", c.ID, c.Command, status, onHost)
			}
			continue
		}
		if status != "ok" {
			t.Errorf("%s: %q: status %s: %s", c.ID, c.Command, status, answer.Text)
			continue
		}
		raw := exec.Command("/bin/sh", "-c", c.Command)
		raw.Env = []string{"PATH=" + s.standIns}
		_ = raw.Run() // its status is the command's own
		if here := s.started(t); !slices.Equal(onHost, here) {
			t.Errorf("%s: %q: started on the host %q, in sh %q", c.ID, c.Command, onHost, here)
		}
	}
	if _, err := os.Stat("/tmp/gw-marker"); err == nil {
		t.Error("a denied case left its marker")
	}
}

// A thousand calls, sixteen at a time: none is lost or mixed up, and nothing
// is left behind.
func TestManyRunsLoseNothing(t *testing.T) {
	s := newSite(t)
	client := s.serveHTTP(t)
	call := func(n int) error {
		answer, err := client.Call(t.Context(), "ssh_run", map[string]any{"alias": "readonly", "command": fmt.Sprintf("echo run-%d", n)})
		if err != nil {
			return err
		}
		var result struct{ Output string }
		if err := json.Unmarshal(answer.Structured, &result); err != nil {
			return err
		}
		if want := fmt.Sprintf("run-%d", n); answer.IsError || result.Output != want {
			return fmt.Errorf("call %d: %q", n, answer.Text)
		}
		return nil
	}
	burst := func(from, to int) {
		var wg sync.WaitGroup
		numbers := make(chan int)
		for range 16 {
			wg.Go(func() {
				for n := range numbers {
					if err := call(n); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for n := from; n < to; n++ {
			numbers <- n
		}
		close(numbers)
		wg.Wait()
	}
	burst(0, 50)
	goroutines, files := settled()
	burst(50, 1050)
	after, filesAfter := settled()
	if after > goroutines+20 || filesAfter > files+20 {
		t.Errorf("goroutines %d -> %d, descriptors %d -> %d", goroutines, after, files, filesAfter)
	}
}

// long is how often something is done: short in a sample, and as long as it takes
// to trust it with SALLYPORT_LONG=1.
func long(short, long int) int {
	if os.Getenv("SALLYPORT_LONG") != "" {
		return long
	}
	return short
}

// settled counts goroutines and descriptors once they have stopped falling.
func settled() (goroutines, files int) {
	goroutines = runtime.NumGoroutine()
	for range 20 {
		time.Sleep(50 * time.Millisecond)
		if n := runtime.NumGoroutine(); n < goroutines {
			goroutines = n
		}
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	return goroutines, len(fds)
}

// gatewayProcess runs this very program as a process of its own.
func gatewayProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return programAs(t, "sallyport", args...)
}

// programAs runs one of the programs that TestMain knows.
func programAs(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return exec.Command(link, args...)
}

// After kill -9 both logs are valid to their last line, and nothing ran on the
// host that has no decision before it.
func TestKillMinusNine(t *testing.T) {
	s := newSite(t)
	gateway := gatewayProcess(t, "serve", "--config", s.dir, "--transport", "http", "--listen", "127.0.0.1:0", "--log-level", "info")
	stderr, err := gateway.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Process.Kill() })
	url := servingURL(t, stderr)
	client, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: url, Name: "e2e", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for worker := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := client.Call(ctx, "ssh_run", map[string]any{"alias": "readonly", "command": fmt.Sprintf("df /run-%d-%d", worker, n)})
				if err != nil {
					return
				}
			}
		})
	}
	waitForLines(t, s.starts, 100)
	if err := gateway.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = gateway.Wait()
	wg.Wait()
	decided := decidedCommands(t, filepath.Join(s.dir, "decisions.jsonl"))
	for _, start := range s.started(t) {
		command := strings.NewReplacer("[", "", "]", "").Replace(start)
		if !decided[audit.CommandHash(command)] {
			t.Errorf("%q ran without a decision on the log", command)
		}
	}
	if report, err := audit.VerifyFiles(filepath.Join(s.dir, "audit.jsonl")); err != nil {
		t.Errorf("audit stream after kill -9: %v", err)
	} else if report.Lines < 100 {
		t.Errorf("audit stream has %d lines", report.Lines)
	}
}

func servingURL(t *testing.T, stderr io.Reader) string {
	t.Helper()
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		var record struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &record) == nil && record.Msg == "serving" {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return record.URL
		}
		t.Log(lines.Text())
	}
	t.Fatal("the gateway ended before it served")
	return ""
}

func waitForLines(t *testing.T, path string, n int) {
	t.Helper()
	for range 600 {
		b, _ := os.ReadFile(path)
		if bytes.Count(b, []byte("\n")) >= n {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s never had %d lines", path, n)
}

// decidedCommands are the hashes of the commands that the decision log allows. Its last line
// may be torn; every other one must be whole.
func decidedCommands(t *testing.T, path string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := b[:bytes.LastIndexByte(b, '\n')]
	decided := map[string]bool{}
	for i, line := range bytes.Split(whole, []byte("\n")) {
		var event struct {
			Custom struct{ Hash string }
			Result struct{ Allow bool }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			t.Errorf("decision log line %d: %v", i+1, err)
			continue
		}
		if event.Result.Allow {
			decided[event.Custom.Hash] = true
		}
	}
	return decided
}
