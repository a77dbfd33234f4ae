package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

// badSite is a site with hosts that each have one thing wrong, under an alias
// that says what.
func badSite(t *testing.T) site {
	t.Helper()
	s := newSite(t)
	port := s.sshd.Addr.Port()
	s.write(t, "sallyport.yml", "log_level: error\npolicy: {timeout: 1s}\nssh: {connect_timeout: 2s}\n"+
		"logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	s.write(t, "servers.yml", fmt.Sprintf(`hosts:
  - {alias: good, host: 127.0.0.1, port: %[1]d, credentials: test}
  - {alias: unresolvable, host: no-such-name.invalid, credentials: test}
  - {alias: silent, host: 127.0.0.1, port: %[2]d, credentials: test}
  - {alias: closing, host: 127.0.0.1, port: %[3]d, credentials: test}
  - {alias: nobody, host: 127.0.0.1, port: %[4]d, credentials: test}
  - {alias: unknown-key, host: 127.0.0.1, port: %[1]d, credentials: test, host_key_alias: unknown.example}
  - {alias: changed-key, host: 127.0.0.1, port: %[1]d, credentials: test, host_key_alias: changed.example}
  - {alias: wrong-user, host: 127.0.0.1, port: %[1]d, credentials: stranger}
  - {alias: encrypted, host: 127.0.0.1, port: %[1]d, credentials: encrypted}
  - {alias: blocked, host: 127.0.0.9, port: %[1]d, credentials: test}
  - {alias: appliance, host: 127.0.0.1, port: %[1]d, credentials: test, kind: network}
`, port, silentPort(t), closingPort(t), freePort(t)), 0o600)
	s.write(t, "credentials.yml", fmt.Sprintf(`entries:
  - {name: test, username: %s, key_path: login}
  - {name: stranger, username: nobody, key_path: stranger}
  - {name: encrypted, username: root, key_path: encrypted, key_passphrase_secret: wrong}
`, osUser()), 0o600)
	s.write(t, "policy.yml", "network: {block_ips: [127.0.0.9]}\nrules:\n  - {action: allow, profile: readonly}\n", 0o600)
	stranger, other, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "keys/stranger", string(stranger), 0o600)
	s.write(t, "keys/known_hosts", s.sshd.KnownLine+"\n"+
		fmt.Sprintf("changed.example %s %s\n", other.Type(), base64.StdEncoding.EncodeToString(other.Marshal())), 0o600)
	s.write(t, "secrets/wrong", "another phrase", 0o600)
	encrypt := exec.Command(sshtest.Require(t, "ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "secret-phrase", "-f", filepath.Join(s.dir, "keys/encrypted"))
	if out, err := encrypt.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	return s
}

type callArgs map[string]any

func runArgs(alias, command string) callArgs { return callArgs{"alias": alias, "command": command} }

func (a callArgs) with(name string, value any) callArgs {
	a[name] = value
	return a
}

// Whatever is wrong with a call, the answer is an error that names the culprit
// and a way out, it is on record, and the gateway goes on.
func TestBadInput(t *testing.T) {
	s := badSite(t)
	client := s.serveHTTP(t)
	for name, tc := range map[string]struct {
		tool string
		args callArgs
		code string // in the answer and in the audit stream
		says []string
	}{
		"unknown argument":     {"ssh_run", runArgs("good", "uptime").with("sudo", true), "bad_arguments", []string{`"sudo"`, "alias, command"}},
		"missing argument":     {"ssh_run", callArgs{"alias": "good"}, "bad_arguments", []string{`"command"`, "required"}},
		"mistyped argument":    {"ssh_run", runArgs("good", "uptime").with("max_seconds", "9"), "bad_arguments", []string{`"max_seconds"`, "integer"}},
		"out of range":         {"ssh_run", runArgs("good", "uptime").with("max_seconds", 0), "bad_arguments", []string{`"max_seconds"`, "from 1"}},
		"case variant":         {"ssh_run", runArgs("good", "uptime").with("COMMAND", "id"), "bad_arguments", []string{`"COMMAND"`, `"command"`}},
		"unknown host":         {"ssh_run", runArgs("moon", "uptime"), "unknown_host", []string{`"moon"`, "ssh_list_hosts"}},
		"NUL":                  {"ssh_run", runArgs("good", "uptime\x00"), "command_not_understood", []string{"U+0000"}},
		"escape character":     {"ssh_run", runArgs("good", "echo \x1b[2J"), "command_not_understood", []string{"U+001B"}},
		"invisible character":  {"ssh_run", runArgs("good", "echo a\u200bb"), "command_not_understood", []string{"U+200B"}},
		"over-long text":       {"ssh_run", runArgs("good", "echo "+strings.Repeat("a", 17_000)), "command_not_understood", []string{"16384"}},
		"unresolvable name":    {"ssh_run", runArgs("unresolvable", "uptime"), "network_", []string{"no-such-name.invalid", "servers.yml"}},
		"host never answers":   {"ssh_run", runArgs("silent", "uptime"), "connect_timeout", []string{"silent"}},
		"host closes":          {"ssh_run", runArgs("closing", "uptime"), "connection_dropped", []string{"closing"}},
		"nobody listens":       {"ssh_run", runArgs("nobody", "uptime"), "connection_refused", []string{"nobody"}},
		"unknown host key":     {"ssh_run", runArgs("unknown-key", "uptime"), "host_key_unknown", []string{"SHA256:", "known_hosts"}},
		"changed host key":     {"ssh_run", runArgs("changed-key", "uptime"), "host_key_changed", []string{"SHA256:", "known_hosts"}},
		"login refused":        {"ssh_run", runArgs("wrong-user", "uptime"), "authentication", []string{"nobody"}},
		"wrong passphrase":     {"ssh_run", runArgs("encrypted", "uptime"), "credentials_unusable", []string{"encrypted", "passphrase"}},
		"blocked address":      {"ssh_run", runArgs("blocked", "uptime"), "network_", []string{"127.0.0.9"}},
		"kind without a shell": {"ssh_run", runArgs("appliance", "uptime"), "host_", []string{"network"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(auditLines(t, s))
			answer, err := client.Call(t.Context(), tc.tool, tc.args)
			if err != nil {
				t.Fatal(err)
			}
			if !answer.IsError || !strings.Contains(string(answer.Structured), tc.code) {
				t.Errorf("not an error with code %s: %s", tc.code, answer.Structured)
			}
			for _, words := range tc.says {
				if !strings.Contains(answer.Text, words) {
					t.Errorf("the answer does not say %q: %s", words, answer.Text)
				}
			}
			if strings.Contains(string(answer.Structured)+answer.Text, "secret-phrase") {
				t.Error("the answer holds a secret")
			}
			lines := auditLines(t, s)
			if len(lines) == before || !strings.Contains(lines[len(lines)-1], tc.code) {
				t.Errorf("not on record with code %s: %v", tc.code, lines[before:])
			}
		})
	}
	_, err := client.Call(t.Context(), "ssh_rum", callArgs{})
	lines := auditLines(t, s)
	if err == nil || !strings.Contains(err.Error(), "ssh_run") || !strings.Contains(lines[len(lines)-1], "unknown_tool") {
		t.Errorf("unknown tool: %v; last record %s", err, lines[len(lines)-1])
	}
	if answer, err := client.Call(t.Context(), "ssh_run", runArgs("good", "echo still here")); err != nil || answer.IsError {
		t.Errorf("afterwards: %v %s", err, answer.Text)
	}
}

// A full disk refuses calls with a code of its own, and they work again when
// there is room.
func TestFullDisk(t *testing.T) {
	s := newSite(t)
	small := filepath.Join(s.dir, "small")
	mount(t, small)
	s.write(t, "sallyport.yml", "log_level: error\npolicy: {timeout: 1s}\nlogs: {decision: {file: small/decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	client := s.serveHTTP(t)
	uptime := map[string]any{"alias": "readonly", "command": "df /run-1"}
	if answer, err := client.Call(t.Context(), "ssh_run", uptime); err != nil || answer.IsError {
		t.Fatalf("before: %v %s", err, answer.Text)
	}
	s.started(t)
	fill(t, filepath.Join(small, "filler"))
	refused := mustCall(t, client, uptime)
	for range 10 { // the last page of the file has room for a few lines
		if refused.IsError {
			break
		}
		s.started(t)
		refused = mustCall(t, client, uptime)
	}
	if !refused.IsError || !strings.Contains(string(refused.Structured), "log") {
		t.Errorf("on a full disk: %s", refused.Structured)
	}
	if started := s.started(t); started != nil {
		t.Errorf("started without a record: %v", started)
	}
	if err := os.Remove(filepath.Join(small, "filler")); err != nil {
		t.Fatal(err)
	}
	if answer := mustCall(t, client, uptime); answer.IsError {
		t.Errorf("with room again: %s", answer.Text)
	}
	for i, line := range readLinesOf(t, filepath.Join(small, "decisions.jsonl")) {
		if !json.Valid([]byte(line)) {
			t.Errorf("decision log line %d is torn: %s", i+1, line)
		}
	}
}

func mustCall(t *testing.T, client *mcpclient.Session, args map[string]any) mcpclient.Answer {
	t.Helper()
	answer, err := client.Call(t.Context(), "ssh_run", args)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func auditLines(t *testing.T, s site) []string {
	t.Helper()
	return readLinesOf(t, filepath.Join(s.dir, "audit.jsonl"))
}

func readLinesOf(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		lines = append(lines, scan.Text())
	}
	return lines
}

// silentPort accepts connections and never says a word.
func silentPort(t *testing.T) int {
	return listen(t, func(net.Conn) {})
}

// closingPort hangs up in the middle of the greeting.
func closingPort(t *testing.T) int {
	return listen(t, func(c net.Conn) {
		_, _ = c.Write([]byte("SSH-2.0-half"))
		c.Close()
	})
}

func listen(t *testing.T, serve func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				for _, c := range open {
					c.Close()
				}
				return
			}
			open = append(open, c)
			serve(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// mount puts a file system of 64 KiB at a path.
func mount(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount a small file system (this test runs as root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 512); ; {
		if _, err := f.Write(page); err != nil {
			return
		}
	}
}
