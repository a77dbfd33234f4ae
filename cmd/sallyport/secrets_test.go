package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

// thisRun tells the secrets of this test from those of another at the same time.
var thisRun = rand.Text()

// canaries are secrets, by where they are kept. All of them reach the gateway,
// and nothing that it says, writes or starts may hold one.
var canaries = map[string]string{
	"prefixed variable": "canary-a-" + thisRun, // the one password that is right
	"declared variable": "canary-b-" + thisRun,
	".env":              "canary-c-" + thisRun,
	"secret file":       "canary-d-" + thisRun,
	"credentials.yml":   "canary-e-" + thisRun,
	"passphrase":        "canary-f-" + thisRun,
	"wrong passphrase":  "canary-g-" + thisRun,
	"token":             "canary-h-" + thisRun,
	"argument":          "canary-i-" + thisRun,
	"wrong argument":    "canary-j-" + thisRun,
}

// canariesIn are the sources of the secrets that a text holds, as they are or
// in an encoding.
func canariesIn(text []byte) (found []string) {
	for source, secret := range canaries {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
			if bytes.Contains(bytes.ToLower(text), []byte(strings.ToLower(form))) {
				found = append(found, source)
			}
		}
	}
	return found
}

// keeper is a site whose hosts log in with a secret of each kind, from each
// place where one can be.
func keeper(t *testing.T) (s site, env []string) {
	t.Helper()
	s = newSite(t)
	user := sshtest.AddUser(t, false)
	set := exec.Command(sshtest.Require(t, "chpasswd", "passwd"))
	set.Stdin = strings.NewReader(user + ":" + canaries["prefixed variable"] + "\n")
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
	byPassword := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Config: []string{"PasswordAuthentication yes"}})
	s.permitSleep(t)
	s.write(t, "sallyport.yml", "log_level: debug\ntoolsets: [fleet, core]\nhttp: {listen: '127.0.0.1:0'}\npolicy: {custom: [policies], timeout: 1s}\n"+
		"secrets: {env_allow: [INJECTED_PW]}\ntokens: [{id: agent-7, sha256: "+sha256Hex(canaries["token"])+"}]\n"+
		"logs: {record: full, decision: {file: decisions.jsonl, stderr: true}, audit: {file: audit.jsonl, stderr: true}}\n", 0o600)
	var servers strings.Builder
	host := func(name string, port uint16) {
		fmt.Fprintf(&servers, "  - {alias: %[1]s, host: 127.0.0.1, port: %[2]d, credentials: %[1]s}\n", name, port)
	}
	for _, name := range []string{"right", "second", "injected", "dotenv", "file", "inline"} {
		host(name, byPassword.Addr.Port())
	}
	host("key", s.sshd.Addr.Port())
	host("wrong-phrase", s.sshd.Addr.Port())
	host("silent", uint16(silentPort(t)))
	s.write(t, "servers.yml", "hosts:\n"+servers.String(), 0o600)
	s.write(t, "credentials.yml", fmt.Sprintf(`entries:
  - {name: right, username: %[1]s, password_secret: sp_pw}
  - {name: second, username: %[1]s, key_path: stranger, password_secret: sp_pw}
  - {name: injected, username: %[1]s, password_secret: injected_pw}
  - {name: dotenv, username: %[1]s, password_secret: dotenv_pw}
  - {name: file, username: %[1]s, password_secret: file_pw}
  - {name: inline, username: %[1]s, password: %[2]s}
  - {name: silent, username: %[1]s, password_secret: sp_pw}
  - {name: key, username: %[3]s, key_path: encrypted, key_passphrase_secret: phrase}
  - {name: wrong-phrase, username: %[3]s, key_path: encrypted, key_passphrase_secret: wrong_phrase}
`, user, canaries["credentials.yml"], osUser()), 0o600)
	s.write(t, "policy.yml", "rules:\n  - {action: allow, profile: diagnose}\n", 0o600)
	s.write(t, "secrets/.env", "DOTENV_PW="+canaries[".env"]+"\nphrase='"+canaries["passphrase"]+"'\nwrong_phrase="+canaries["wrong passphrase"]+"\n", 0o600)
	s.write(t, "secrets/file_pw", canaries["secret file"]+"\n", 0o600)
	stranger, _, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "keys/stranger", string(stranger), 0o600)
	s.write(t, "keys/encrypted", string(s.sshd.Key), 0o600)
	encrypt := exec.Command(sshtest.Require(t, "ssh-keygen", "openssh-client"), "-q", "-p", "-P", "", "-N", canaries["passphrase"], "-f", filepath.Join(s.dir, "keys/encrypted"))
	if out, err := encrypt.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	s.write(t, "keys/known_hosts", s.sshd.KnownLine+"\n"+byPassword.KnownLine+"\n", 0o600)
	return s, []string{"MCP_SSH_SECRET_SP_PW=" + canaries["prefixed variable"], "INJECTED_PW=" + canaries["declared variable"], "GOTRACEBACK=all"}
}

// Secrets from every place are used, and show nowhere: not in results, logs or
// debug output, not in what validate says, not on a process list of either
// side, not in an environment but the one they came in, not in a crash.
func TestSecretsShowNowhere(t *testing.T) {
	s, env := keeper(t)
	var said bytes.Buffer // all that a client or an operator gets to see
	stderr, err := os.Create(filepath.Join(s.dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	gateway := gatewayProcess(t, "serve", "--config", s.dir, "--transport", "http")
	gateway.Env, gateway.Stderr = append(os.Environ(), env...), stderr
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Process.Kill() })
	client, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: s.urlIn(t, stderr.Name()), Token: canaries["token"], Name: "e2e", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	call := func(tool string, args map[string]any) mcpclient.Answer {
		answer, err := client.Call(t.Context(), tool, args)
		fmt.Fprintln(&said, answer.Text, string(answer.Structured), err)
		return answer
	}

	for _, alias := range []string{"right", "second", "key"} {
		line := "sleep " + strconv.Itoa(1000+len(alias)) + ".25"
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			call("ssh_run", runArgs(alias, line))
		}()
		eventually(t, alias+" logs in and runs", func() bool { return processOf(line) != "" })
		checkProcesses(t, gateway.Process.Pid)
		if pid, err := strconv.Atoi(processOf(line)); err == nil {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
		<-ended
	}
	for _, alias := range []string{"injected", "dotenv", "file", "inline", "wrong-phrase"} {
		if answer := call("ssh_run", runArgs(alias, "uptime")); !answer.IsError {
			t.Errorf("%s logs in with a wrong secret: %s", alias, answer.Text)
		}
		call("ssh_plan", runArgs(alias, "uptime"))
		call("ssh_describe_host", callArgs{"alias": alias})
	}
	s.write(t, "secrets/.env", canaries[".env"]+"\n", 0o600)
	call("ssh_reload_config", nil)
	for _, output := range []string{"text", "json"} {
		validate := gatewayProcess(t, "validate", "--config", s.dir, "--output", output)
		validate.Env = gateway.Env
		out, _ := validate.CombinedOutput() // it is not valid, and says so
		if !bytes.Contains(out, []byte("line 1 is not KEY=value")) {
			t.Errorf("validate: %s", out)
		}
		said.Write(out)
	}

	call("connect", callArgs{"host": "127.0.0.1", "username": "u", "password": canaries["argument"]})
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = client.Call(t.Context(), "ssh_run", runArgs("silent", "uptime")) // a login is in memory while it waits
	}()
	eventually(t, "the gateway waits for a host", func() bool { return strings.Contains(s.lastLine(t, "audit.jsonl", `"alias":"silent"`), "started") })
	if err := gateway.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	_ = gateway.Wait()
	<-answered
	files := map[string][]byte{"an answer or validate": said.Bytes()}
	for _, name := range []string{"stderr", "decisions.jsonl", "audit.jsonl"} {
		if files[name], err = os.ReadFile(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if dump := files["stderr"]; !bytes.Contains(dump, []byte("SIGQUIT")) || !bytes.Contains(dump, []byte("sshexec.(*Executor)")) {
		t.Error("there is no dump of a gateway that waits for a host")
	}
	private := strings.Split(string(s.sshd.Key), "\n")[3] // a line of the key itself
	for name, text := range files {
		if found := canariesIn(text); len(found) > 0 || bytes.Contains(text, []byte(private)) {
			t.Errorf("%s shows the secrets of %q, or the key", name, found)
		}
	}
}

// Passwords that a caller sends are used, and show nowhere either: whether they are
// right or wrong, no text at all, refused or in conflict, and in a crash while a
// host is waited for.
func TestSecretArgumentsShowNowhere(t *testing.T) {
	h := newHarbour(t, true)
	set := exec.Command(sshtest.Require(t, "chpasswd", "passwd"))
	set.Stdin = strings.NewReader(h.user + ":" + canaries["argument"] + "\n")
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("chpasswd: %v: %s", err, out)
	}
	byPassword := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Config: []string{"PasswordAuthentication yes"}})
	settings, err := os.ReadFile(filepath.Join(h.dir, "sallyport.yml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write(t, "sallyport.yml", strings.Replace(string(settings), "log_level: error", "log_level: debug\nhttp: {listen: '127.0.0.1:0'}", 1), 0o600)
	h.write(t, "keys/known_hosts", byPassword.KnownLine+"\n", 0o600)
	stderr, err := os.Create(filepath.Join(h.dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	gateway := gatewayProcess(t, "serve", "--config", h.dir, "--transport", "http")
	gateway.Env, gateway.Stderr = append(os.Environ(), "GOTRACEBACK=all"), stderr
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Process.Kill() })
	s := session{as(t, h.urlIn(t, stderr.Name()), "seven", true), t}
	var said bytes.Buffer
	try := func(status string, args callArgs) {
		t.Helper()
		got := s.call("connect", args)
		if fmt.Fprintln(&said, got.Text, string(got.Structured)); got.Status != status {
			t.Errorf("%s, want %s: %s", got.Status, status, got.Text)
		}
	}
	with := func(password any, more ...any) callArgs {
		args := callArgs{"host": "127.0.0.1", "port": int(byPassword.Addr.Port()), "username": h.user, "password": password}
		for i := 0; i < len(more); i += 2 {
			args[more[i].(string)] = more[i+1]
		}
		return args
	}
	try("ok", with(canaries["argument"], "alias", "a"))
	try("ok", with(canaries["argument"], "alias", "a"))
	try("invalid", with(canaries["wrong argument"], "alias", "a"))                  // a conflict
	try("invalid", with([]string{canaries["argument"]}))                            // no text
	try("invalid", with(canaries["argument"], "private_key_path", "x"))             // two ways
	try("invalid", with(canaries["argument"], "host", "inner"))                     // of the inventory
	try("failed", with(canaries["argument"], "host", "127.0.0.9", "alias", "down")) // nobody there
	try("failed", with(canaries["wrong argument"], "alias", "b"))
	line := "sleep 1000.3125"
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		got := s.run(line, "target", "a", "timeout", 3)
		fmt.Fprintln(&said, got.Text)
	}()
	eventually(t, "a command runs", func() bool { return processOf(line) != "" })
	checkNoProcessHas(t, gateway.Process.Pid)
	<-ended
	go func() {
		_, _ = s.Call(t.Context(), "connect", with(canaries["argument"], "port", silentPort(t), "alias", "mute"))
	}()
	eventually(t, "the gateway waits for a host", func() bool { return strings.Contains(h.lastLine(t, "audit.jsonl", `"alias":"mute"`), "started") })
	if err := gateway.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	_ = gateway.Wait()
	for _, name := range []string{"stderr", "decisions.jsonl", "audit.jsonl"} {
		text, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil || len(text) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		if found := canariesIn(text); len(found) > 0 {
			t.Errorf("%s shows the secrets of %q", name, found)
		}
	}
	if found := canariesIn(said.Bytes()); len(found) > 0 {
		t.Errorf("an answer shows the secrets of %q", found)
	}
}

// urlIn waits until a gateway that logs to a file serves.
func (s site) urlIn(t *testing.T, log string) (url string) {
	t.Helper()
	eventually(t, "the gateway serves", func() bool {
		for _, line := range readLinesOf(t, log) {
			var record struct{ Msg, URL string }
			if json.Unmarshal([]byte(line), &record) == nil && record.Msg == "serving" {
				url = record.URL
			}
		}
		return url != ""
	})
	return url
}

// checkProcesses looks through the words and the environments of all processes
// of this machine, which are those of the remote side, too. Only the gateway's
// own environment holds what was given to it there.
func checkProcesses(t *testing.T, gateway int) {
	t.Helper()
	seen := checkNoProcessHas(t, gateway)
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", gateway))
	if err != nil || len(canariesIn(own)) != 2 || seen < 4 {
		t.Errorf("the check does not find what is there: %v, %d files", err, seen)
	}
}

func checkNoProcessHas(t *testing.T, gateway int) (seen int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join("/proc", e.Name(), file))
			if err != nil || file == "environ" && pid == gateway {
				continue // it has ended
			}
			seen++
			if found := canariesIn(text); len(found) > 0 {
				t.Errorf("%s of process %d shows the secrets of %q", file, pid, found)
			}
		}
	}
	return seen
}
