package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/audit"
)

// Words of calls and of their output, none of which any record may show.
const (
	wordOne = "plover"
	wordTwo = "xyzzy"
)

// TestOrchestratorRecords provokes every kind of record that
// mcp-ssh-orchestrator writes, by the name it has there, and those that it
// should have written, and finds what stands for it in the two logs. Progress
// is told to the caller over MCP and is no record.
func TestOrchestratorRecords(t *testing.T) {
	p := newParity(t)
	run := func(alias, command string) func(*testing.T) {
		return func(t *testing.T) { p.run(t, alias, command) }
	}
	const decisions, stream = "decisions.jsonl", "audit.jsonl"
	for _, row := range []struct {
		record  string
		provoke func(*testing.T)
		log     string
		with    []string // what one line, written meanwhile, holds
	}{
		{"policy_decision", run("web1", "echo "+wordOne), decisions, []string{`"timestamp":"2`, `"alias":"web1"`, `"hash":"`, `"allow":true`, `"mode":"run"`}},
		{"policy_decision of a plan", func(t *testing.T) { p.call(t, "ssh_plan", runArgs("web1", "echo "+wordOne)) }, decisions, []string{`"mode":"plan"`, `"hash":"`}},
		{"audit", run("web1", "echo "+wordOne), stream, []string{
			`"type":"finished"`, `"ts":"2`, `"alias":"web1"`, `"hash":"`, `"exit_code":0`, `"duration_ms":`, `"bytes_out":7`, `"bytes_err":0`,
			`"cancelled":false`, `"timeout":false`, `"target_ip":"127.0.0.1"`, `"decision_id":"`, `"subject":"`, `"tool":"ssh_run"`,
		}},
		{"audit of a time limit", func(t *testing.T) { p.call(t, "ssh_run", runArgs("web1", "sleep 60").with("max_seconds", 1)) }, stream, []string{`"type":"finished"`, `"timeout":true`, `"stop":"timeout"`, `"survivors":0`}},
		{"trace", run("web1", "uptime"), stream, []string{`"type":"finished"`, `"duration_ms":`}},
		{"command_bypass_attempt", run("web1", `"r"m -r''f / `+wordOne), decisions, []string{`"code":"command_text_denied"`, `"allow":false`}},
		{"command_bypass_attempt, in the other log", run("web1", `"r"m -r''f / `+wordOne), stream, []string{`"type":"refused"`, `"failure":"command_`}},
		{"command_chain_parsed", run("web1", "echo "+wordOne+" && echo "+wordTwo), decisions, []string{`"shape":"list"`, `"features":["and"]`}},
		{"command_chain_denied", run("web1", "uptime && "+wordOne), stream, []string{`"type":"refused"`, `"failure":"command_program"`}},
		{"null_byte_injection_attempt", run("web1", wordOne+"\x00"), decisions, []string{`"code":"command_not_understood"`, `"error":{"code":"bad_text"`}},
		{"control_character_injection_attempt", run("web1", wordOne+"\x1b"), stream, []string{`"type":"refused"`, `"failure":"command_not_understood"`}},
		{"a bad argument", func(t *testing.T) { p.run(t, "web1/", wordOne) }, stream, []string{`"type":"invalid"`, `"failure":"bad_arguments"`}},
		{"a network denial", run("forbidden", "echo "+wordOne), stream, []string{`"type":"refused"`, `"failure":"network_blocked"`, `"target_ip":"` + forbidden + `"`}},
		{"dns_rate_limit_exceeded", func(t *testing.T) {
			eventually(t, "look-ups are limited", func() bool {
				for range 12 {
					p.run(t, "unknown", "uptime")
				}
				return strings.Contains(p.lastLine(t, stream, `"alias":"unknown"`), "network_lookup_limit")
			})
		}, stream, []string{`"type":"refused"`, `"failure":"network_lookup_limit"`, `"alias":"unknown"`}},
		{"the same, in the other log", run("unknown", "uptime"), decisions, []string{`"resolver":"`, `"code":"network_unresolved"`}},
		{"run_exception", run("nobody", "echo "+wordOne), stream, []string{`"type":"finished"`, `"outcome":"not_started"`, `"failure":"connection_refused"`, `"exit_code":null`}},
		{"describe_host_exception", func(t *testing.T) { p.call(t, "ssh_describe_host", callArgs{"alias": "moon"}) }, stream, []string{`"tool":"ssh_describe_host"`, `"failure":"unknown_host"`}},
		{"run_on_tag: policy_decision", func(t *testing.T) { p.onTag(t, callArgs{"tag": "mixed", "command": "echo " + wordOne}) }, decisions, []string{`"mode":"run"`, `"alias":"barred"`, `"allow":false`}},
		{"run_on_tag: audit", func(t *testing.T) { p.onTag(t, callArgs{"tag": "mixed", "command": "echo " + wordOne}) }, stream, []string{`"type":"finished"`, `"tool":"ssh_run_on_tag"`, `"alias":"mixed"`, `"bytes_out":7`}},
		{"run_on_tag_host_failed", func(t *testing.T) { p.onTag(t, callArgs{"tag": "mixed", "command": "echo " + wordOne}) }, stream, []string{`"type":"finished"`, `"tool":"ssh_run_on_tag"`, `"alias":"nobody"`, `"failure":"connection_refused"`}},
		{"async: policy_decision", p.ended("web1", "echo "+wordOne), decisions, []string{`"mode":"run"`, `"alias":"web1"`, `"allow":true`}},
		{"async_task_event created", p.ended("web1", "echo "+wordOne), stream, []string{`"type":"started"`, `"tool":"ssh_run_async"`, `"hash":"`}},
		{"async_task_event completed", p.ended("web1", "echo "+wordOne), stream, []string{`"type":"finished"`, `"tool":"ssh_run_async"`, `"exit_code":0`, `"bytes_out":7`}},
		{"async_task_event failed", p.ended("nobody", "echo "+wordOne), stream, []string{`"type":"finished"`, `"tool":"ssh_run_async"`, `"outcome":"not_started"`, `"failure":"connection_refused"`}},
		{"async_task_event cancelled", func(t *testing.T) {
			id := p.submit(t, "web1", "sleep 1000")
			p.task(t, "ssh_cancel_async_task", about(id))
			p.task(t, "ssh_get_task_result", about(id).with("wait_seconds", 30))
		}, stream, []string{`"type":"finished"`, `"tool":"ssh_run_async"`, `"stop":"cancelled"`, `"cancelled":true`}},
		{"async: a denial", func(t *testing.T) { p.call(t, "ssh_run_async", runArgs("web1", wordOne)) }, stream, []string{`"type":"refused"`, `"tool":"ssh_run_async"`, `"failure":"command_program"`}},
		{"cancel", func(t *testing.T) { p.call(t, "ssh_cancel", about("moon:1")) }, stream, []string{`"type":"finished"`, `"tool":"ssh_cancel"`}},
		{"get_task_status_exception", p.unknownTask("ssh_get_task_status"), stream, []string{`"tool":"ssh_get_task_status"`, `"failure":"unknown_task"`}},
		{"get_task_result_exception", p.unknownTask("ssh_get_task_result"), stream, []string{`"tool":"ssh_get_task_result"`, `"failure":"unknown_task"`}},
		{"get_task_output_exception", p.unknownTask("ssh_get_task_output"), stream, []string{`"tool":"ssh_get_task_output"`, `"failure":"unknown_task"`}},
		{"resource_host_error", func(t *testing.T) { _, _ = p.client.Read(t.Context(), "ssh://host/moon") }, stream, []string{`"tool":"read_host"`, `"failure":"unknown_host"`}},
		{"reload", func(t *testing.T) { p.call(t, "ssh_reload_config", nil) }, stream, []string{`"type":"reload"`, `"subject":"`}},
		{"config_error", p.bad("servers.yml", "hosts: [\n"), stream, p.unloaded("servers.yml:", "not YAML")},
		{"config_error, a file too large", p.bad("servers.yml", strings.Repeat("#", 10<<20+1)), stream, p.unloaded("servers.yml:", "larger than")},
		{"path_traversal_attempt, key", p.badEntry("key_path: ../shadow"), stream, p.unloaded("credentials.yml:", "'..'")},
		{"path_traversal_attempt, secret", p.badEntry("password_secret: file:../x"), stream, p.unloaded("credentials.yml:", "not the name of a secret file")},
		{"file_validation_failed", p.badEntry("key_path: ."), stream, p.unloaded("credentials.yml:", "the directory of keys itself")},
		{"input_length_limit_exceeded", p.badEntry("password_secret: " + strings.Repeat("s", 101)), stream, p.unloaded("credentials.yml:", "longer than 100 characters")},
		{"invalid_secret_name", p.badEntry("password_secret: 'a b'"), stream, p.unloaded("credentials.yml:", "is not the name of a secret")},
		{"insecure_file_permissions", p.badFile("secrets/.env", "pw=CANARY", 0o644, "password_secret: pw"), stream, p.unloaded("secrets/.env", "mode 0644 is open to others")},
		{"insecure_file_permissions, at a login", func(t *testing.T) {
			p.chmod(t, "keys/stranger", 0o644)
			p.run(t, "stranger", "uptime")
			p.chmod(t, "keys/stranger", 0o600)
		}, stream, []string{`"type":"finished"`, `"outcome":"not_started"`, `"failure":"credentials_unusable"`, "mode 0644 is open to others"}},
		{"env_file_parse_error", p.badFile("secrets/.env", "CANARY", 0o600, "password_secret: pw"), stream, p.unloaded("secrets/.env", "line 1 is not KEY=value")},
		{"file_size_limit_exceeded", p.badFile("secrets/.env", strings.Repeat("#", 100<<10+1), 0o600, "password_secret: pw"), stream, p.unloaded("secrets/.env", "larger than 102400 bytes")},
		{"load_host_keys_failed", p.bad("keys/known_hosts", "@revoked nonsense\n"), stream, p.unloaded("known_hosts:1", "cannot be understood")},
		{"host_key_policy_deprecated", p.bad("policy.yml", "limits: {host_key_auto_add: true}\n"), stream, []string{`"type":"reload"`, "host_key_auto_add: true is ignored"}},
	} {
		t.Run(row.record, func(t *testing.T) {
			before := len(readLinesOf(t, filepath.Join(p.dir, row.log)))
			row.provoke(t)
			lines := readLinesOf(t, filepath.Join(p.dir, row.log))[before:]
			if !anyHolds(lines, row.with) {
				t.Errorf("no record with %q among\n%s", row.with, strings.Join(lines, "\n"))
			}
		})
	}
	for _, log := range []string{decisions, stream} {
		for _, word := range []string{wordOne, wordTwo, "CANARY"} {
			if line := p.lastLine(t, log, word); line != "" {
				t.Errorf("%s shows %q: %s", log, word, line)
			}
		}
	}
}

// ended runs a command as a task and waits for its end.
func (p *parity) ended(alias, command string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		p.task(t, "ssh_get_task_result", about(p.submit(t, alias, command)).with("wait_seconds", 30))
	}
}

func (p *parity) unknownTask(name string) func(*testing.T) {
	return func(t *testing.T) { p.call(t, name, about("web1:1")) }
}

func (s site) chmod(t *testing.T, file string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(filepath.Join(s.dir, file), mode); err != nil {
		t.Fatal(err)
	}
}

func anyHolds(lines, parts []string) bool {
	for _, line := range lines {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}

// unloaded is what the record of a configuration that does not load holds.
func (p *parity) unloaded(parts ...string) []string {
	return append([]string{`"type":"reload"`, `"failure":"reload"`}, parts...)
}

// bad reloads with a file that is wrong, and then as it was.
func (p *parity) bad(file, content string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		p.reloadWith(t, file, content)
	}
}

func (p *parity) reloadWith(t *testing.T, file, content string) reply {
	t.Helper()
	good, err := os.ReadFile(filepath.Join(p.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, file, content, 0o600)
	answer := p.call(t, "ssh_reload_config", nil)
	p.write(t, file, string(good), 0o600)
	if r := p.call(t, "ssh_reload_config", nil); r.IsError {
		t.Errorf("as it was: %s", r.Text)
	}
	return answer
}

// badEntry reloads with one more entry of credentials.
func (p *parity) badEntry(words string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		good, err := os.ReadFile(filepath.Join(p.dir, "credentials.yml"))
		if err != nil {
			t.Fatal(err)
		}
		p.bad("credentials.yml", string(good)+"  - {name: bad, username: bad, "+words+"}\n")(t)
	}
}

// badFile does so while a file is there that is wrong.
func (p *parity) badFile(file, content string, mode os.FileMode, words string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		p.write(t, file, content, mode)
		p.badEntry(words)(t)
		if err := os.Remove(filepath.Join(p.dir, file)); err != nil {
			t.Fatal(err)
		}
	}
}

// With record: full the decision log has the words, and the audit stream does
// not even then.
func TestFullRecords(t *testing.T) {
	s := newSite(t)
	s.write(t, "sallyport.yml", "log_level: error\npolicy: {timeout: 1s}\nlogs: {record: full, decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	mustCall(t, s.serveHTTP(t), runArgs("readonly", "echo "+wordOne+" "+wordTwo))
	line := s.lastLine(t, "decisions.jsonl", wordOne)
	var record struct {
		Input struct {
			Ops []struct{ Command struct{ Text string } }
		}
		Result struct{ Record string }
		Masked []string
	}
	if err := json.Unmarshal([]byte(line), &record); err != nil {
		t.Fatal(err)
	}
	if record.Result.Record != "full" || record.Input.Ops[0].Command.Text != "echo plover xyzzy" || len(record.Masked) > 0 {
		t.Errorf("record %s", line)
	}
	if line := s.lastLine(t, "audit.jsonl", wordOne); line != "" {
		t.Errorf("the audit stream shows the command: %s", line)
	}
}

// A request that is part of a trace, by its header or its _meta, is so in both
// records.
func TestTraceInRecords(t *testing.T) {
	s := newSite(t)
	_, url := s.inProcess(t)
	const header, meta = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, c := range []struct{ header, meta, want string }{
		{header, "", header},
		{header, meta, meta},
		{"none", "", ""},
	} {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ssh_run","arguments":{"alias":"readonly","command":"true"},"_meta":{
"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{},
"traceparent":"00-%s-00f067aa0ba902b7-01"}}}`, c.meta)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{
			"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Mcp-Protocol-Version": {"2026-07-28"},
			"Mcp-Method": {"tools/call"}, "Mcp-Name": {"ssh_run"}, "Traceparent": {"00-" + c.header + "-b7ad6b7169203331-01"},
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || !strings.Contains(string(text), `"exit_code":0`) {
			t.Fatalf("answer %s, %v", text, err)
		}
		for _, file := range []string{"decisions.jsonl", "audit.jsonl"} {
			var record struct {
				TraceID string `json:"trace_id"`
			}
			if err := json.Unmarshal([]byte(s.lastLine(t, file, "ssh_run")), &record); err != nil || record.TraceID != c.want {
				t.Errorf("%s has trace %q, want %q (%v)", file, record.TraceID, c.want, err)
			}
		}
	}
}

// Both logs are cut by size where the settings say so, and the chain goes on.
func TestLogsRotate(t *testing.T) {
	s := newSite(t)
	s.write(t, "sallyport.yml", "log_level: error\nlogs: {decision: {file: decisions.jsonl, max_bytes: 65536, keep: 1}, audit: {file: audit.jsonl, max_bytes: 65536}}\n", 0o600)
	client := s.serveHTTP(t)
	calls := 0
	for ; calls < 2000 && !there(s.dir+"/audit.jsonl.2"); calls++ {
		mustCall(t, client, runArgs("readonly", "true"))
	}
	report, err := audit.VerifyFiles(s.dir+"/audit.jsonl.2", s.dir+"/audit.jsonl.1", s.dir+"/audit.jsonl")
	if err != nil || report.Lines < 2*calls {
		t.Errorf("after %d calls the audit stream has %d lines: %v", calls, report.Lines, err)
	}
	if !there(s.dir+"/decisions.jsonl.1") || there(s.dir+"/decisions.jsonl.2") {
		t.Error("of the decision log one old file was to stay")
	}
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A policy on trial says on the decision log what it would change of live calls,
// and changes nothing.
func TestShadowOnTheLog(t *testing.T) {
	s, server := newSite(t), newBundleServer(t, "hush")
	server.release(t, "r1", `deny contains "nor this" if input.host.alias == "ops"`)
	s.write(t, "secrets/bundles", "hush\n", 0o600)
	s.write(t, "next/next.rego", "package custom.next\n\ndeny contains \"not on trial\" if input.ops[0].command.commands[0].program == \"true\"\n", 0o600)
	s.write(t, "sallyport.yml", `log_level: error
policy: {services: {acme: {url: "`+server.URL+`", credentials: {bearer: {token: "file:bundles"}}}}}
shadow: {custom: [next], bundles: {team: {service: acme}}}
logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}
`, 0o600)
	mustCall(t, s.serveHTTP(t), runArgs("readonly", "true"))
	eventually(t, "the shadow has judged", func() bool { return s.lastLine(t, "decisions.jsonl", `"path":"sallyport/shadow"`) != "" })
	line := s.lastLine(t, "decisions.jsonl", `"path":"sallyport/shadow"`)
	for _, want := range []string{`"change":"newly_denied"`, `"mode":"shadow"`, `"next":{"revision":"`, `"team":{"revision":"r1"}`} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is not in %s", want, line)
		}
	}
	if !there(s.dir+"/state/shadow-bundles/index.json") || there(s.dir+"/state/bundles/index.json") {
		t.Error("the shadow's bundle is not kept where the shadow's are")
	}
}
