package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
)

// eventually polls until a condition holds; a busy machine may take its time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 400 {
		if holds() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func connect(t *testing.T, url string) *mcpclient.Session {
	t.Helper()
	client, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: url, Name: "e2e", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// sleeper is a site on which something may run that takes time.
func sleeper(t *testing.T) site {
	t.Helper()
	s := newSite(t)
	s.permitSleep(t)
	s.write(t, "sallyport.yml", "log_level: info\nhttp: {listen: \"127.0.0.1:0\"}\npolicy: {custom: [policies], timeout: 1s}\n"+
		"logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	return s
}

// startGateway runs the gateway over HTTP as a process, which is told to end
// with the test and must do so in order.
func startGateway(t *testing.T, s site) (gateway *exec.Cmd, url string) {
	t.Helper()
	gateway = gatewayProcess(t, "serve", "--config", s.dir, "--transport", "http")
	stderr, err := gateway.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = gateway.Process.Signal(syscall.SIGTERM)
		if err := gateway.Wait(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
	})
	return gateway, servingURL(t, stderr)
}

func TestReloadOnChangeAndSignal(t *testing.T) {
	s := sleeper(t)
	gateway, url := startGateway(t, s)
	client := connect(t, url)
	allowed := func() bool {
		return !mustCall(t, client, runArgs("readonly", "uptime")).IsError
	}
	if !allowed() {
		t.Fatal("uptime is not allowed at the start")
	}
	good, err := os.ReadFile(filepath.Join(s.dir, "policy.yml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "policy.yml", "rules: []\n", 0o600)
	eventually(t, "a changed file takes a grant away", func() bool { return !allowed() })

	s.write(t, "policy.yml", "rulez: []\n", 0o600)
	eventually(t, "a bad file is on record", func() bool { return strings.Contains(lastAudit(t, s, audit.Reload), "rulez") })
	if allowed() {
		t.Error("a bad file changed what is allowed")
	}

	s.write(t, "policy.yml", string(good), 0o600)
	if err := gateway.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "SIGHUP brings the grant back", allowed)

	s.write(t, "keys/known_hosts", "@revoked * "+strings.SplitN(s.sshd.KnownLine, " ", 2)[1]+"\n"+s.sshd.KnownLine+"\n", 0o600)
	eventually(t, "a revoked host key ends what was connected before", func() bool {
		return strings.Contains(mustCall(t, client, runArgs("readonly", "uptime")).Text, "host_key_revoked")
	})
}

// The team's own packages are read again, too, and a broken one changes nothing.
func TestReloadOfBundles(t *testing.T) {
	s := sleeper(t)
	_, url := startGateway(t, s)
	client := connect(t, url)
	refused := func(with string) func() bool {
		return func() bool { return strings.Contains(mustCall(t, client, runArgs("readonly", "uptime")).Text, with) }
	}
	if refused("custom_denied")() {
		t.Fatal("refused at the start")
	}
	s.write(t, "policies/custom/demo.rego", "package custom.demo\n\ndeny contains \"frozen\" if input.call.effect == \"execute\"\n", 0o600)
	eventually(t, "a changed package counts", refused("frozen"))
	s.write(t, "policies/custom/demo.rego", "package custom.demo\n\nbroken(", 0o600)
	eventually(t, "a broken one is on record", func() bool { return strings.Contains(lastAudit(t, s, audit.Reload), "demo.rego") })
	if !refused("frozen")() {
		t.Error("a broken package took the last good one away")
	}
	s.write(t, "policies/custom/more/demo.rego", "package custom.demo\n", 0o600)
	s.write(t, "policies/custom/demo.rego", "package custom.demo\n", 0o600)
	eventually(t, "it is taken back", func() bool { return !refused("custom_denied")() })
	s.write(t, "policies/custom/more/demo.rego", "package custom.demo\n\ndeny contains \"below\" if input.call.effect == \"execute\"\n", 0o600)
	eventually(t, "a new directory is watched", refused("below"))
}

// A token that is taken out of the settings counts no more, without a restart;
// other settings are named as those that need one.
func TestReloadOfTokens(t *testing.T) {
	s := sleeper(t)
	settings := func(token, more string) {
		s.write(t, "sallyport.yml", "http: {listen: \"127.0.0.1:0\"}\npolicy: {custom: [policies], timeout: 1s}\n"+
			"tokens: [{id: agent-7, sha256: "+sha256Hex(token)+"}]\n"+more+
			"logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	}
	settings("first", "")
	_, url := startGateway(t, s)
	status := func(token string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if status("first") == http.StatusUnauthorized || status("second") != http.StatusUnauthorized {
		t.Fatal("the first token is not the one that counts at the start")
	}
	settings("second", "")
	eventually(t, "the second token counts", func() bool { return status("second") != http.StatusUnauthorized })
	if status("first") != http.StatusUnauthorized {
		t.Error("the first one still does")
	}
	settings("second", "limits: {calls: 7}\n")
	eventually(t, "the setting is named", func() bool { return strings.Contains(lastAudit(t, s, audit.Reload), "limits.calls changed") })
}

// lastAudit is the last line of a type in the audit stream.
func lastAudit(t *testing.T, s site, kind audit.Type) (last string) {
	t.Helper()
	for _, line := range auditLines(t, s) {
		if strings.Contains(line, `"type":"`+string(kind)+`"`) {
			last = line
		}
	}
	return last
}

// However a call ends before its command does, the command ends on the host and
// the audit stream says how.
func TestWhatRunsIsStopped(t *testing.T) {
	const line = "sleep 271.82"
	for name, tc := range map[string]struct {
		end  func(t *testing.T, gateway *exec.Cmd, cancel context.CancelFunc)
		stop string
	}{
		"shutdown": {func(t *testing.T, gateway *exec.Cmd, _ context.CancelFunc) {
			if err := gateway.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}, `"stop":"shutdown"`},
		"caller gone": {func(_ *testing.T, _ *exec.Cmd, cancel context.CancelFunc) { cancel() }, `"stop":"disconnect"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := sleeper(t)
			gateway, url := startGateway(t, s)
			client := connect(t, url)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = client.Call(ctx, "ssh_run", runArgs("diagnose", line))
			}()
			eventually(t, "the command runs", func() bool { return processOf(line) != "" })
			tc.end(t, gateway, cancel)
			eventually(t, "the command is gone", func() bool { return processOf(line) == "" })
			eventually(t, "its end is on record", func() bool { return strings.Contains(lastAudit(t, s, audit.Finished), tc.stop) })
			cancel()
			<-ended
		})
	}
}

// A shutdown that has no time left cuts commands off, and that is on record for
// a task and for a call alike.
func TestShutdownWithoutTimeIsOnRecord(t *testing.T) {
	s := sleeper(t)
	st, err := assemble(t.Context(), stackOptions{
		load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: s.dir, Env: noEnv}) },
		stderr: io.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{"ssh_run_async": "sleep 314.15", "ssh_run": "sleep 314.16"}
	var calling sync.WaitGroup
	for name, line := range lines {
		args, err := json.Marshal(runArgs("diagnose", line))
		if err != nil {
			t.Fatal(err)
		}
		calling.Go(func() { st.gateway.Call(context.Background(), localCaller(""), name, args, nil) })
		eventually(t, line+" runs", func() bool { return processOf(line) != "" })
		t.Cleanup(func() { _ = exec.Command("kill", processOf(line)).Run() }) // nobody else will
	}
	none, cancel := context.WithCancel(t.Context())
	cancel()
	if err := st.close(none); err == nil {
		t.Error("a shutdown that cut commands off says nothing of it")
	}
	for name := range lines {
		if last := s.lastLine(t, "audit.jsonl", `"tool":"`+name+`"`); !strings.Contains(last, `"type":"finished"`) || !strings.Contains(last, `"stop":"shutdown"`) {
			t.Errorf("the end of %s is not on record: %s", name, last)
		}
	}
	calling.Wait()
}

// Over stdio the end of input is the end of the caller.
func TestEndOfInputStopsWhatRuns(t *testing.T) {
	const line = "sleep 161.80"
	s := sleeper(t)
	gateway := gatewayProcess(t, "serve", "--config", s.dir)
	stdin, err := gateway.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	gateway.Stdout = &stdout
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Process.Kill() })
	for _, message := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"e2e","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"ssh_run","arguments":{"alias":"diagnose","command":"` + line + `"}}}`,
	} {
		if _, err := io.WriteString(stdin, message+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the command runs", func() bool { return processOf(line) != "" })
	stdin.Close()
	if err := gateway.Wait(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	if pid := processOf(line); pid != "" {
		t.Errorf("process %s outlived the gateway", pid)
	}
	if last := lastAudit(t, s, audit.Finished); !strings.Contains(last, `"stop":"disconnect"`) {
		t.Errorf("last record: %s", last)
	}
	for _, out := range bytes.Split(bytes.TrimSpace(stdout.Bytes()), []byte("\n")) {
		if !bytes.HasPrefix(out, []byte(`{"`)) {
			t.Errorf("on stdout: %s", out)
		}
	}
}

// A configuration that does not load is told of by what keeps it from loading:
// what it would have been warned of is about nothing that anybody uses.
func TestFailedReloadTellsNoWarnings(t *testing.T) {
	const warned = "limits: {host_key_auto_add: true}\nrules: [{action: allow, profile: readonly}]\n"
	settings := func(more string) string {
		return "log_level: warn\npolicy: {custom: [team]}\nlogs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n" + more
	}
	for name, tc := range map[string]struct{ file, content, problem string }{
		"a bad file":     {"servers.yml", "hots: []\n", "servers.yml:1: unknown key"},
		"a bad bundle":   {"team/team.rego", "package custom.team\n\ndeny contains 1 if input.hots\n", "team.rego:3: policy.custom: rego_type_error"},
		"a fixed change": {"sallyport.yml", settings("limits: {calls: 7}\n"), "limits.calls changed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write(t, "sallyport.yml", settings(""), 0o600)
			s.write(t, "team/team.rego", "package custom.team\n", 0o600)
			var stderr bytes.Buffer
			st, err := assemble(t.Context(), stackOptions{
				load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: s.dir, Env: noEnv}) },
				stderr: &stderr,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer st.close(t.Context())
			last := st.config.Load()
			s.write(t, "policy.yml", warned, 0o600)
			s.write(t, tc.file, tc.content, 0o600)
			if _, err := st.gateway.Reload(t.Context(), "test"); err == nil || !strings.Contains(err.Error(), tc.problem) {
				t.Fatalf("reload gives %v, want %q", err, tc.problem)
			}
			if st.config.Load() != last {
				t.Error("the last good configuration is gone")
			}
			for where, text := range map[string]string{"log": stderr.String(), "audit stream": lastAudit(t, s, audit.Reload)} {
				if !strings.Contains(text, tc.problem) || strings.Contains(text, "host_key_auto_add") {
					t.Errorf("%s: %s", where, text)
				}
			}
		})
	}
}
