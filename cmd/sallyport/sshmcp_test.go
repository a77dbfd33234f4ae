package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

// The weaknesses of SSH-MCP, W1 to W17, and the vectors that were drawn from them,
// as far as they are about sessions, commands and files, against real hosts: go test
// -run 'SSHMCP/W3\b' has one of them. W6 and W8 were those of tools for telephony,
// and are here what their arguments can do to connections and files.

// harbour is two hosts, each of which could be a way to the other, and a gateway
// that serves two subjects. Where it is open, its policy permits everything.
type harbour struct {
	site
	user          string
	first, second *sshtest.OpenSSH
	stack         *stack
	url           string
}

const permitsAll = `# METADATA
# title: Everything is permitted that was understood
package sallyport

# METADATA
# entrypoint: true
decision := {
	"allow": opaque == [], "redact": [], "record": "full", "approval": null,
	"limits": {"seconds": 300, "output_bytes": 1048576, "concurrent": 0},
	"reasons": [{"code": "opaque", "title": "not understood", "remedy": "", "detail": ""} | some _ in opaque],
}

opaque := [op | some op in input.ops; op.action == "shell.run"; not op.command.canonical]
`

func newHarbour(t *testing.T, open bool) *harbour {
	t.Helper()
	h := &harbour{site: site{dir: t.TempDir()}, user: sshtest.AddUser(t, false)}
	h.first = sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{MoreHosts: []string{"127.0.0.2"}})
	h.second = sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Login: h.first})
	bundle := ""
	if open {
		bundle = "bundle: open, "
		h.write(t, "open/.manifest", `{"revision": "open", "rego_version": 1, "roots": ["sallyport"]}`, 0o600)
		h.write(t, "open/open.rego", permitsAll, 0o600)
	}
	h.write(t, "sallyport.yml", "log_level: error\ntoolsets: [all]\npolicy: {"+bundle+"timeout: 1s}\n"+
		"tokens: [{id: agent-7, sha256: "+sha256Hex("seven")+"}, {id: agent-8, sha256: "+sha256Hex("eight")+"}]\n"+
		"logs: {record: full, decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	h.write(t, "servers.yml", fmt.Sprintf(`hosts:
  - {alias: bastion, host: %[1]s, port: %[2]d, credentials: test}
  - {alias: inner, host: %[3]s, port: %[4]d, credentials: test, via: bastion}
  - {alias: stranger, host: 127.0.0.2, port: %[2]d, credentials: test}
`, h.first.Addr.Addr(), h.first.Addr.Port(), h.second.Addr.Addr(), h.second.Addr.Port()), 0o600)
	h.write(t, "credentials.yml", fmt.Sprintf("entries:\n  - {name: test, username: %s, key_path: login}\n", h.user), 0o600)
	h.write(t, "policy.yml", "rules:\n  - {action: allow, subjects: [agent-7], profile: readonly}\n", 0o600)
	h.write(t, "keys/login", string(h.first.Key), 0o600)
	h.write(t, "keys/known_hosts", h.first.KnownLine+"\n"+h.second.KnownLine+"\n", 0o600)
	h.stack, h.url = h.inProcess(t)
	return h
}

// session is a client with a session of its own.
type session struct {
	*mcpclient.Session
	t *testing.T
}

func (h *harbour) session(t *testing.T) session {
	t.Helper()
	return session{as(t, h.url, "seven", true), t}
}

// told is what the tests look at of any result.
type told struct {
	mcpclient.Answer
	Status, Target, Cwd, Outcome, Stdout, Stderr, Signal string
	Default, Reused, Timeout, Truncated                  bool
	Closed                                               []string
	ExitCode                                             int   `json:"exit_code"`
	BytesOut                                             int64 `json:"bytes_out"`
	BytesErr                                             int64 `json:"bytes_err"`
	Content                                              string
	Entries                                              []json.RawMessage
	PublicKey                                            string `json:"public_key"`
	HostKey                                              string `json:"host_key"`
	Error                                                struct{ Code string }
	Reasons                                              []struct{ Code string }
	Hostname, OS, Kernel, Arch, Shell                    string
}

func (s session) call(tool string, args callArgs) told {
	s.t.Helper()
	answer, err := s.Call(s.t.Context(), tool, args)
	if err != nil {
		s.t.Fatalf("%s %v: %v", tool, args, err)
	}
	got := told{Answer: answer}
	if err := json.Unmarshal(answer.Structured, &got); err != nil {
		s.t.Fatalf("%s %v: %v: %s", tool, args, err, answer.Structured)
	}
	return got
}

func (s session) connect(args callArgs) told {
	s.t.Helper()
	got := s.call("connect", args)
	if got.IsError {
		s.t.Fatalf("connect %v: %s", args, got.Text)
	}
	return got
}

func (s session) run(command string, more ...any) told {
	s.t.Helper()
	args := callArgs{"command": command}
	for i := 0; i < len(more); i += 2 {
		args[more[i].(string)] = more[i+1]
	}
	return s.call("run", args)
}

// to describes one of the hosts to the gateway.
func (h *harbour) to(s *sshtest.OpenSSH, more ...any) callArgs {
	args := callArgs{"host": s.Addr.Addr().String(), "port": int(s.Addr.Port()), "username": h.user, "private_key_path": "login"}
	for i := 0; i < len(more); i += 2 {
		args[more[i].(string)] = more[i+1]
	}
	return args
}

// logins is how often somebody has logged in to a host.
func logins(s *sshtest.OpenSSH) int { return strings.Count(s.Log(), "Accepted publickey") }

// scratch is a directory on the hosts, which are this machine.
func (h *harbour) scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "harbour")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSSHMCPVectors(t *testing.T) {
	h := newHarbour(t, true)
	for name, check := range map[string]func(*testing.T, *harbour){
		"W3, cwd q$(echo X>&2): nothing executed":                            directoryWithCode,
		"W4, cwd removed: clear error, nothing run":                          directoryRemoved,
		"W5: ends of lines, comments, open constructs":                       endsOfLines,
		"W6, host 127.0.0.1; echo X #: an argument error":                    hostWithCode,
		"W9: names that begin with - are no options":                         namesLikeOptions,
		"W10: 3 MB on stderr":                                                manyErrors,
		"W11, disconnect primary: no default":                                defaultIsClosed,
		"W11, bastion removed: dependent closed, never direct":               bastionIsClosed,
		"W11, connections lost: by the same way, judged anew, nothing twice": connectionsLost,
		"W11, link dropped during reads: clean errors, SFTP usable after it": linkDropped,
		"W14, false: exit 1 is visible":                                      exitIsVisible,
		"W16, disconnect during a call: closed when that has ended":          closedAfterACall,
		"W17, password: in no result, log or process list":                   passwordIsNowhere,
		"timeout 1 with sleep 5: no process survives":                        timeLimit,
		"same alias, other port or key: a conflict":                          conflicts,
		"two calls on one host do not wait for each other":                   sideBySide,
		"described host: pinned, by key and by identity":                     describedHost,
		"info": facts,
	} {
		t.Run(name, func(t *testing.T) { check(t, h) })
	}
}

func directoryWithCode(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	dir := filepath.Join(h.scratch(t), "q$(echo X>&2)")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	got := s.run("pwd", "cwd", dir)
	if got.Stdout != dir+"\n" || got.Stderr != "" || got.ExitCode != 0 || got.Cwd != dir {
		t.Errorf("%+v", got)
	}
}

func directoryRemoved(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	dir := filepath.Join(h.scratch(t), "gone")
	mark := filepath.Join(h.scratch(t), "mark")
	for _, line := range []string{"touch " + mark, "false; touch " + mark, "false || touch " + mark, "false && true; touch " + mark} {
		got := s.run(line, "cwd", dir)
		if !got.IsError || got.Error.Code != "no_directory" || got.Outcome != "not_started" {
			t.Errorf("%s: %s", line, got.Text)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("something ran")
	}
}

func endsOfLines(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	for line, want := range map[string]string{
		"echo a # b":       "a\n",
		"echo a\n":         "a\n",
		"echo a;":          "a\n",
		"echo a\necho b\n": "a\nb\n",
		"echo a &":         "a\n",
		"sleep 1 &":        "",
	} {
		if got := s.run(line); got.IsError || got.Stdout != want || got.ExitCode != 0 || got.Cwd == "" {
			t.Errorf("%q: %+v", line, got)
		}
	}
	for _, line := range []string{"", " \n", "echo 'a", "echo $(", "(echo a", "echo a |", "echo a <<E", "if true"} {
		if got := s.run(line); !got.IsError || got.Status != "denied" && got.Status != "invalid" {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

func manyErrors(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	got := s.run("head -c 3000000 /dev/zero 1>&2; head -c 12000000 /dev/zero; echo end", "max_output_bytes", 1000)
	if got.IsError || !got.Truncated || got.BytesErr != 3_000_000 || got.BytesOut != 12_000_004 || got.ExitCode != 0 || !strings.HasSuffix(got.Stdout, "end\n") {
		t.Errorf("%v %d %d, exit %d: %.200q", got.Truncated, got.BytesErr, got.BytesOut, got.ExitCode, got.Text)
	}
}

func defaultIsClosed(t *testing.T, h *harbour) {
	s := h.session(t)
	first := s.connect(callArgs{"host": "bastion"})
	second := s.connect(callArgs{"host": "inner"})
	if !first.Default || second.Default {
		t.Errorf("default: %v, %v", first.Default, second.Default)
	}
	if got := s.run("true"); got.Target != "bastion" {
		t.Errorf("ran on %s", got.Target)
	}
	if got := s.call("disconnect", callArgs{"alias": "primary"}); !slices.Equal(got.Closed, []string{"bastion"}) {
		t.Errorf("closed %v", got.Closed)
	}
	if got := s.run("true"); got.Error.Code != "no_connection" {
		t.Errorf("without a target it ran on %s: %s", got.Target, got.Text)
	}
	if got := s.run("true", "target", "inner"); got.IsError {
		t.Error(got.Text)
	}
}

func bastionIsClosed(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(h.to(h.first, "alias", "hop"))
	s.connect(h.to(h.second, "alias", "deep", "via", "hop"))
	s.connect(h.to(h.first, "alias", "deeper", "via", "deep"))
	if got := s.run("echo deep", "target", "deeper"); got.Stdout != "deep\n" {
		t.Fatal(got.Text)
	}
	before := logins(h.second)
	if got := s.call("disconnect", callArgs{"alias": "hop"}); !slices.Equal(got.Closed, []string{"deep", "deeper", "hop"}) {
		t.Errorf("closed %v", got.Closed)
	}
	for _, alias := range []string{"hop", "deep", "deeper"} {
		if got := s.run("true", "target", alias); got.Error.Code != "unknown_target" {
			t.Errorf("%s: %s", alias, got.Text)
		}
	}
	if n := logins(h.second); n != before {
		t.Errorf("%d logins without the bastion", n-before)
	}
}

// hangUp kills what serves the connections of the harbour's user, and waits until
// the gateway has noticed.
func (h *harbour) hangUp(t *testing.T) {
	t.Helper()
	h.kill(t)
	eventually(t, "it is noticed", func() bool { return h.stack.runner.Stats().Connections == 0 })
}

// kill returns when none of them can do anything any more.
func (h *harbour) kill(t *testing.T) {
	t.Helper()
	account, err := user.Lookup(h.user)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	var killed []int
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(status), "Name:\tsshd\n") || !strings.Contains(string(status), "\nUid:\t"+account.Uid+"\t") {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(file, "/")[2]); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed = append(killed, pid)
		}
	}
	eventually(t, "they have ended", func() bool {
		return !slices.ContainsFunc(killed, func(pid int) bool { return syscall.Kill(pid, 0) == nil })
	})
}

func connectionsLost(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(h.to(h.first, "alias", "hop"))
	s.connect(h.to(h.second, "alias", "deep", "via", "hop"))
	first, second, decided := logins(h.first), logins(h.second), h.decisions(t)
	h.hangUp(t)
	if got := s.run("echo again", "target", "deep"); got.Stdout != "again\n" {
		t.Error(got.Text)
	}
	if n := h.decisions(t) - decided; n != 1 {
		t.Errorf("%d decisions for a call", n)
	}
	if a, b := logins(h.first)-first, logins(h.second)-second; a != 1 || b != 1 {
		t.Errorf("%d logins at the hop, %d behind it", a, b)
	}
	mark := filepath.Join(h.scratch(t), "mark")
	line := "sleep 1000.40625"
	var calls sync.WaitGroup
	calls.Go(func() {
		if got := s.run("echo once >>"+mark+"; "+line, "target", "deep"); got.Outcome != "unknown" || got.Error.Code != "connection_dropped" {
			t.Errorf("%+v", got)
		}
	})
	eventually(t, "it runs", func() bool { return processOf(line) != "" })
	h.hangUp(t)
	calls.Wait()
	if got := s.run("cat "+mark, "target", "deep"); got.Stdout != "once\n" {
		t.Errorf("it has written %q", got.Stdout)
	}
	if pid, err := strconv.Atoi(processOf(line)); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (h *harbour) decisions(t *testing.T) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(h.dir, "decisions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(log), "\n")
}

// Connections are cut again and again while files are read and written over them:
// a call has its whole answer or says that nothing was done, a file is one of those
// that were written, and what comes after works.
func linkDropped(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(h.to(h.first, "alias", "hop"))
	s.connect(h.to(h.second, "alias", "deep", "via", "hop"))
	file := filepath.Join(h.scratch(t), "file")
	content := func(n int) string { return strings.Repeat(fmt.Sprintf("version %03d\n", n), 30_000) }
	write := func(n int) told {
		return s.call("write", callArgs{"target": "deep", "path": file, "content": content(n), "skip_validate": true})
	}
	read := func() told { return s.call("read", callArgs{"target": "deep", "path": file}) }
	if got := write(0); got.IsError {
		t.Fatal(got.Text)
	}
	var over atomic.Bool
	var cutter sync.WaitGroup
	var cutting sync.Mutex // what is being killed may still write
	cut := func() {
		cutting.Lock()
		defer cutting.Unlock()
		h.kill(t)
	}
	cutter.Go(func() {
		for !over.Load() {
			time.Sleep(rand.N(400 * time.Millisecond))
			cut()
		}
	})
	defer func() {
		over.Store(true)
		cutter.Wait()
	}()
	now, codes := 0, map[string]int{}
	for n := 1; n <= long(4, 500); n++ {
		wrote := write(n)
		if !wrote.IsError {
			now = n
		} else if wrote.Outcome == "unknown" {
			cutting.Lock()
			if is, err := os.ReadFile(file); err == nil && string(is) == content(n) {
				now = n
			}
			cutting.Unlock()
		}
		got := read()
		for _, r := range []told{wrote, got} {
			codes[r.Error.Code]++
			if r.IsError && !slices.Contains([]string{"connection_dropped", "cooling_off", "unreachable"}, r.Error.Code) {
				t.Errorf("%.600s", r.Structured)
			}
		}
		if is, err := os.ReadFile(file); err != nil || string(is) != content(now) {
			t.Fatalf("%v: the file begins with %.12q, not as version %d", err, is, now)
		}
		if !got.IsError && got.Content != content(now) {
			t.Errorf("read %.12q, which is not version %d", got.Content, now)
		}
	}
	over.Store(true)
	cutter.Wait()
	t.Logf("codes: %v", codes)
	eventually(t, "files can be read again", func() bool { return read().Content == content(now) })
}

// Nothing is closed under a running call, and nothing new begins on what is to be
// closed.
func closedAfterACall(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	line := "sleep 1.28125"
	var calls sync.WaitGroup
	calls.Go(func() {
		if got := s.run(line + "; echo whole"); got.IsError || got.Stdout != "whole\n" {
			t.Errorf("%+v", got)
		}
	})
	eventually(t, "it runs", func() bool { return processOf(line) != "" })
	if got := s.call("disconnect", nil); got.IsError {
		t.Error(got.Text)
	}
	if got := s.run("true"); got.Error.Code != "no_connection" {
		t.Errorf("%+v", got)
	}
	calls.Wait()
	eventually(t, "it is closed", func() bool { return h.stack.runner.Stats().Connections == 0 })
}

// passwordIsNowhere looks for a password that was sent, where SSH-MCP had it.
func passwordIsNowhere(t *testing.T, h *harbour) {
	const password = "planted-pass-word"
	s := h.session(t)
	own := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Login: h.first}) // which need not like us afterwards
	got := s.call("connect", callArgs{
		"host": own.Addr.Addr().String(), "port": int(own.Addr.Port()), "username": h.user, "password": password, "alias": "p",
		"host_key": fingerprintOf(t, own),
	})
	if got.Error.Code != "authentication" {
		t.Errorf("%+v", got)
	}
	texts := map[string]string{"the result": got.Text + string(got.Structured), "sshd's log": own.Log()}
	for _, name := range []string{"decisions.jsonl", "audit.jsonl"} {
		text, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	for where, text := range texts {
		if strings.Contains(text, password) {
			t.Errorf("%s has the password", where)
		}
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), password) {
			t.Errorf("a process has the password: %q", text)
		}
	}
}

// hostWithCode has names of hosts that are more than that.
func hostWithCode(t *testing.T, h *harbour) {
	s := h.session(t)
	mark := filepath.Join(h.scratch(t), "mark")
	before := strings.Count(h.first.Log(), "Connection from")
	for _, host := range []string{
		"127.0.0.1; echo X #", "127.0.0.1; touch " + mark + " #", "$(touch " + mark + ")", "`touch " + mark + "`", "127.0.0.1\ntouch " + mark,
		"-oProxyCommand=touch " + mark, "127.0.0.1 127.0.0.2", "[127.0.0.1]", "root@127.0.0.1", "127.0.0.1%lo",
	} {
		got := s.call("connect", h.to(h.first, "host", host))
		if !got.IsError || got.Status != "invalid" && got.Status != "denied" {
			t.Errorf("%q: %s: %s", host, got.Status, got.Text)
		}
	}
	for _, host := range []string{"127.0.0.1:22", "127.1", "0x7f000001", "2130706433"} { // of which resolvers make addresses
		if got := s.call("connect", h.to(h.first, "host", host)); !got.IsError {
			t.Errorf("%q: %s", host, got.Text)
		}
	}
	if _, err := os.Stat(mark); err == nil || strings.Count(h.first.Log(), "Connection from") != before {
		t.Errorf("somebody was spoken to, or something ran: %v", err)
	}
}

// namesLikeOptions are those of files and directories for programs of the host.
func namesLikeOptions(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	dir := h.scratch(t)
	for _, name := range []string{"-P", "-delete", "--"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "--help"), []byte("kept\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		if got := s.run("pwd", "cwd", filepath.Join(dir, name)); got.Stdout != filepath.Join(dir, name)+"\n" {
			t.Errorf("%+v", got)
		}
		s.run("cd " + dir)
		if got := s.call("list_dir", callArgs{"path": name}); got.IsError || len(got.Entries) != 1 {
			t.Errorf("%s", got.Structured)
		}
		if got := s.run("cd ./" + name); got.Cwd != filepath.Join(dir, name) {
			t.Errorf("%+v", got)
		}
		if got := s.call("read", callArgs{"path": "--help"}); got.Content != "kept\n" {
			t.Errorf("%s", got.Structured)
		}
		if got := s.call("write", callArgs{"path": "-rf", "content": "new\n"}); got.IsError {
			t.Errorf("%s", got.Structured)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name, "-rf")); err != nil || string(got) != "new\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func exitIsVisible(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	for line, exit := range map[string]int{"false": 1, "sh -c 'exit 77'": 77, "no-such-program": 127, "true": 0} {
		got := s.run(line)
		if got.IsError || got.ExitCode != exit || exit > 0 && !strings.Contains(got.Text, fmt.Sprintf("exit status %d", exit)) {
			t.Errorf("%s: exit %d, %q", line, got.ExitCode, got.Text)
		}
	}
}

func timeLimit(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	line := "sleep 5.0625"
	got := s.run(line+" & "+line, "timeout", 1)
	if !got.IsError || !got.Timeout || got.Status != "stopped" || processOf(line) != "" {
		t.Errorf("%+v", got)
	}
}

func conflicts(t *testing.T, h *harbour) {
	s := h.session(t)
	made := s.connect(h.to(h.first, "alias", "a"))
	if again := s.connect(h.to(h.first, "alias", "a")); made.Reused || !again.Reused {
		t.Errorf("reused: %v, then %v", made.Reused, again.Reused)
	}
	for name, args := range map[string]callArgs{
		"port": h.to(h.second, "alias", "a"),
		"key":  h.to(h.first, "alias", "a", "private_key_path", "other"),
		"user": h.to(h.first, "alias", "a", "username", "root"),
		"via":  h.to(h.first, "alias", "a", "via", "inner"),
	} {
		if got := s.call("connect", args); got.Error.Code != "connection_conflict" {
			t.Errorf("other %s: %s", name, got.Text)
		}
	}
}

func sideBySide(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	fifo := filepath.Join(h.scratch(t), "fifo")
	if out, err := exec.Command("mkfifo", "-m", "666", fifo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if got := s.run("cat " + fifo); got.Stdout != "go on\n" {
			t.Errorf("%+v", got)
		}
	})
	if got := s.run("tee "+fifo, "stdin", "go on\n", "timeout", 20); got.Stdout != "go on\n" {
		t.Errorf("%+v", got)
	}
	waiting.Wait()
}

func describedHost(t *testing.T, h *harbour) {
	s := h.session(t)
	unknown := callArgs{"host": "127.0.0.1", "port": int(h.first.Addr.Port()), "username": h.user}
	if got := s.call("connect", unknown); got.Error.Code != "authentication" { // the identity is nowhere yet
		t.Errorf("%+v", got)
	}
	third := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Login: h.first})
	if got := s.call("connect", h.to(third)); got.Error.Code != "host_key_unknown" {
		t.Errorf("%s", got.Text)
	}
	pin := fingerprintOf(t, third)
	if got := s.call("connect", h.to(h.first, "host_key", pin)); got.Error.Code != "host_key_changed" {
		t.Errorf("%s", got.Text)
	}
	got := s.connect(h.to(third, "host_key", pin))
	if got.Target != h.user+"@127.0.0.1" || got.HostKey != "ssh-ed25519 "+pin {
		t.Errorf("%+v", got)
	}
	id := s.call("identity", nil)
	own := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	own.Authorize(t, id.PublicKey)
	args := callArgs{"host": "127.0.0.1", "port": int(own.Addr.Port()), "username": h.user, "host_key": fingerprintOf(t, own), "alias": "own"}
	if s.connect(args); s.run("true", "target", "own").IsError {
		t.Error("nothing runs there")
	}
	other := session{as(t, h.url, "eight", true), t}
	if got := other.call("connect", args); got.Error.Code != "authentication" {
		t.Errorf("another subject has the same identity: %s", got.Text)
	}
}

// fingerprintOf is the SHA-256 fingerprint of a host's key.
func fingerprintOf(t *testing.T, s *sshtest.OpenSSH) string {
	t.Helper()
	keygen := exec.Command(sshtest.Require(t, "ssh-keygen", "openssh-client"), "-lf", "-")
	_, key, _ := strings.Cut(s.KnownLine, " ")
	keygen.Stdin = strings.NewReader(key + "\n")
	out, err := keygen.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))[1]
}

func facts(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "bastion"})
	got := s.call("info", nil)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := exec.Command("uname", "-r").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got.IsError || got.Hostname != name || got.Kernel != strings.TrimSpace(string(kernel)) || got.OS == "" || got.OS == "Linux" || got.Arch == "" || got.Shell != "/bin/sh" || got.Target != "bastion" {
		t.Errorf("%+v", got)
	}
}

// Under the shipped policy: what is not granted is refused before a packet is sent,
// and all of it is on both logs.
func TestSSHMCPShippedPolicy(t *testing.T) {
	h := newHarbour(t, false)
	s, other := h.session(t), session{as(t, h.url, "eight", true), t}

	t.Run("W1: policy and records", func(t *testing.T) {
		if got := s.connect(callArgs{"host": "inner"}); got.Status != "ok" {
			t.Error(got.Text)
		}
		if got := s.run("uptime"); got.Status != "ok" {
			t.Error(got.Text)
		}
		if got := s.call("info", nil); got.Status != "ok" || got.Kernel == "" {
			t.Error(got.Text)
		}
		if got := s.run("touch /tmp/x"); got.Status != "denied" {
			t.Error(got.Text)
		}
		for _, tool := range []string{"connect", "info"} {
			args := callArgs{"host": "inner"}
			if tool == "info" {
				args = callArgs{"target": "inner"}
			}
			if got := other.call(tool, args); got.Status != "denied" || !strings.Contains(got.Text, "host_not_granted") {
				t.Errorf("%s: %s", tool, got.Text)
			}
		}
		if got := other.run("uptime", "target", "inner"); got.Status != "denied" {
			t.Error(got.Text)
		}
		s.call("disconnect", nil)
		types := map[audit.Type]int{}
		for _, e := range h.events(t) {
			types[e.Type]++
		}
		if types[audit.ConnOpen] != 1 || types[audit.ConnClose] != 1 || types[audit.Refused] != 4 {
			t.Errorf("on record: %v", types)
		}
		log, err := os.ReadFile(filepath.Join(h.dir, "decisions.jsonl"))
		if err != nil || strings.Count(string(log), `"action":"conn.open"`) != 2 || strings.Count(string(log), `"action":"host.read"`) < 2 {
			t.Errorf("the decision log has not all: %v", err)
		}
	})

	t.Run("W2: host keys, identities, session ids", func(t *testing.T) {
		if got := s.call("connect", callArgs{"host": "stranger"}); got.Error.Code != "host_key_unknown" {
			t.Error(got.Text)
		}
		mine, theirs := s.call("identity", nil), other.call("identity", nil)
		if mine.PublicKey == "" || mine.PublicKey == theirs.PublicKey || s.call("identity", nil).PublicKey != mine.PublicKey {
			t.Errorf("identities: %q, %q", mine.PublicKey, theirs.PublicKey)
		}
		text, err := os.ReadFile(filepath.Join(h.dir, "audit.jsonl"))
		if err != nil || strings.Count(string(text), string(audit.IdentityMade)) != 2 {
			t.Errorf("identities on record: %v", err)
		}
	})

	t.Run("W15: no hosts and no files of the caller's choice", func(t *testing.T) {
		spoken := func() int {
			return strings.Count(h.first.Log(), "Connection from") + strings.Count(h.second.Log(), "Connection from")
		}
		before := spoken()
		for _, args := range []callArgs{h.to(h.first), h.to(h.second, "via", "bastion"), h.to(h.first, "host", "169.254.169.254"), h.to(h.first, "private_key_path", "/etc/shadow")} {
			if got := s.call("connect", args); got.Status != "denied" {
				t.Errorf("%v: %s", args, got.Text)
			}
		}
		if n := spoken(); n != before {
			t.Errorf("a refused host was spoken to: %s", h.first.Log())
		}
	})
}

// A host that is not in the inventory, where a rule lets the caller go: by the users,
// keys and ways of the rule and no others, and what is done there is judged like
// anything else.
func TestSSHMCPPermittedHosts(t *testing.T) {
	h := newHarbour(t, false)
	lab := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Host: "127.0.0.3", Login: h.first})
	behind := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Host: "127.0.0.4", Login: h.first})
	h.write(t, "keys/known_hosts", h.first.KnownLine+"\n"+h.second.KnownLine+"\n"+lab.KnownLine+"\n"+behind.KnownLine+"\n", 0o600)
	h.write(t, "policy.yml", fmt.Sprintf(`rules:
  - {action: allow, aliases: [bastion, inner], subjects: [agent-7], profile: readonly}
  - {action: allow, tags: [lab], profile: readonly}
connect:
  adhoc:
    - {action: allow, cidrs: [127.0.0.3/32], ports: [%d], users: [%[2]s], keys: [login], subjects: [agent-7], tags: [lab], via: [bastion]}
    - {action: allow, cidrs: [127.0.0.4/32], ports: [%[3]d], users: [%[2]s], keys: [login], subjects: [agent-7], tags: [lab]}
`, lab.Addr.Port(), h.user, behind.Addr.Port()), 0o600)
	if _, err := h.stack.gateway.Reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	s := h.session(t)
	s.connect(h.to(lab, "alias", "lab", "via", "bastion"))
	s.connect(h.to(behind, "alias", "behind", "via", "lab"))
	for _, alias := range []string{"lab", "behind"} {
		if got := s.run("uptime", "target", alias); got.Status != "ok" {
			t.Error(got.Text)
		}
		if got := s.call("info", callArgs{"target": alias}); got.Status != "ok" || got.Kernel == "" {
			t.Error(got.Text)
		}
		if got := s.run("touch /tmp/x", "target", alias); got.Status != "denied" {
			t.Error(got.Text)
		}
	}
	for name, args := range map[string]callArgs{
		"another way":      h.to(lab),
		"another user":     h.to(behind, "username", "root"),
		"another key":      h.to(behind, "private_key_path", "other"),
		"another address":  h.to(behind, "host", "127.0.0.5"),
		"of the inventory": h.to(h.first),
	} {
		if got := s.call("connect", args); got.Status != "denied" {
			t.Errorf("%s: %s", name, got.Text)
		}
	}
	if got := (session{as(t, h.url, "eight", true), t}).call("connect", h.to(behind)); got.Status != "denied" {
		t.Errorf("another subject: %s", got.Text)
	}
	if got := s.call("disconnect", callArgs{"alias": "lab"}); !slices.Equal(got.Closed, []string{"behind", "lab"}) {
		t.Errorf("%+v", got)
	}
}

// A key that is not to be had is answered alike, whyever that is.
func TestSSHMCPKeysAreNoOracle(t *testing.T) {
	h := newHarbour(t, true)
	h.write(t, "keys/open", string(h.first.Key), 0o644)
	h.write(t, "keys/noise", "x", 0o600)
	s := h.session(t)
	var answers []string
	for _, name := range []string{"missing", "open", "noise", "/etc/shadow", "../servers.yml", "/no/such/file"} {
		got := s.call("connect", h.to(h.first, "private_key_path", name, "alias", "x"))
		answers = append(answers, strings.Join(strings.Split(got.Text, "\n")[:2], ""))
		if got.Error.Code != "credentials_unusable" {
			t.Errorf("%s: %s", name, got.Text)
		}
	}
	if answers = slices.Compact(answers); len(answers) != 1 {
		t.Errorf("answers differ: %q", answers)
	}
}

func (h *harbour) events(t *testing.T) []audit.Event {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var events []audit.Event
	for line := range strings.Lines(string(text)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// With a session go its connections, within a second, those of hops and of the pool
// among them; and nothing is left of many.
func TestSSHMCPSessionsLeaveNothing(t *testing.T) {
	h := newHarbour(t, true)
	t.Run("W16, DELETE: no connection is left", func(t *testing.T) { sessionEnds(t, h) })
	t.Run("W16: nothing is left of many sessions", func(t *testing.T) { manySessions(t, h) })
}

func sessionEnds(t *testing.T, h *harbour) {
	s := h.session(t)
	s.connect(callArgs{"host": "inner"})
	s.connect(h.to(h.second, "alias", "deep", "via", "inner"))
	s.call("ssh_run", callArgs{"alias": "bastion", "command": "true"})
	if n := h.stack.runner.Stats().Connections; n != 3 { // one of them is the way to the others, and that of ssh_run
		t.Fatalf("%d connections", n)
	}
	ended := time.Now()
	s.Close() // DELETE
	eventually(t, "no connection is left", func() bool { return h.stack.runner.Stats().Connections == 0 })
	if took := time.Since(ended); took > 3*time.Second { // one, on a machine that has time
		t.Errorf("closed after %v", took)
	}
}

func manySessions(t *testing.T, h *harbour) {
	goroutines, files := settled()
	for range long(200, 10_000) / 20 {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				client, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: h.url, Token: "seven", Name: "e2e", Version: "1", Legacy: true})
				if err != nil {
					t.Error(err)
					return
				}
				defer client.Close()
				if i%10 == 0 {
					got := session{client, t}.call("connect", callArgs{"host": "bastion"})
					if got.IsError {
						t.Error(got.Text)
					}
				}
			})
		}
		all.Wait()
	}
	eventually(t, "no connection is left", func() bool { return h.stack.runner.Stats().Connections == 0 })
	http.DefaultClient.CloseIdleConnections()
	after, filesAfter := settled()
	t.Logf("goroutines %d -> %d, descriptors %d -> %d", goroutines, after, files, filesAfter)
	if after > goroutines+20 || filesAfter > files+20 {
		t.Errorf("goroutines %d -> %d, descriptors %d -> %d", goroutines, after, files, filesAfter)
	}
}

// A name space that is no session outlives the session in which it was used, and
// belongs to its subject all the same.
func TestSSHMCPSessionKey(t *testing.T) {
	h := newHarbour(t, true)
	with := func(token string, legacy bool) session {
		client, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: h.url, Token: token, Name: "e2e", Version: "1", Legacy: legacy, SessionKey: "flow-1"})
		if err != nil {
			t.Fatal(err)
		}
		return session{client, t}
	}
	first := with("seven", true)
	first.connect(callArgs{"host": "bastion"})
	first.Close()
	for _, legacy := range []bool{true, false} {
		again := with("seven", legacy)
		if got := again.run("true"); got.IsError {
			t.Errorf("legacy %v: %s", legacy, got.Text)
		}
		again.Close()
	}
	other := with("eight", true)
	defer other.Close()
	if got := other.run("true"); got.Error.Code != "no_connection" {
		t.Errorf("another subject: %s", got.Text)
	}
	plain := h.session(t)
	if got := plain.run("true"); got.Error.Code != "no_connection" {
		t.Errorf("another namespace: %s", got.Text)
	}
}
