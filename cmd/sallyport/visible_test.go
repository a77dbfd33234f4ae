package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
)

// Two callers of one gateway see what policy lets each of them do, and no more;
// what they read is on both logs.
func TestCallersSeeWhatIsTheirs(t *testing.T) {
	s := newSite(t)
	s.write(t, "sallyport.yml", "log_level: info\nhttp: {listen: \"127.0.0.1:0\"}\npolicy: {timeout: 1s}\n"+
		"tokens: [{id: agent-7, sha256: "+sha256Hex("seven")+"}, {id: guest, sha256: "+sha256Hex("guest")+"}]\n"+
		"logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	s.write(t, "policy.yml", "rules:\n  - {action: allow, aliases: [readonly], subjects: [agent-7], profile: readonly}\n"+
		"reload: {subjects: [agent-7]}\n", 0o600)
	_, url := startGateway(t, s)
	for _, legacy := range []bool{false, true} {
		agent, guest := as(t, url, "seven", legacy), as(t, url, "guest", legacy)
		if got := hostsOf(t, agent); !slices.Equal(got, []string{"readonly"}) {
			t.Errorf("agent-7 sees the hosts %v", got)
		}
		if got := hostsOf(t, guest); len(got) > 0 {
			t.Errorf("the guest sees the hosts %v", got)
		}
		if got := must(agent.Tools(t.Context()))(t); !slices.Contains(got, "ssh_run") || !slices.Contains(got, "ssh_reload_config") {
			t.Errorf("agent-7 sees the tools %v", got)
		}
		if got := must(guest.Tools(t.Context()))(t); slices.Contains(got, "ssh_run") || slices.Contains(got, "ssh_reload_config") {
			t.Errorf("the guest sees the tools %v", got)
		}
		if got := must(agent.Resources(t.Context()))(t); len(got) != 4 {
			t.Errorf("agent-7 sees the resources %v", got)
		}
		if got := must(guest.Resources(t.Context()))(t); !slices.Equal(got, []string{"ssh://hosts"}) {
			t.Errorf("the guest sees the resources %v", got)
		}
		if text := must(guest.Prompt(t.Context(), "ssh_orchestrator_usage"))(t); strings.Contains(text, "- `ssh_run`") {
			t.Errorf("the guest is told of ssh_run:\n%s", text)
		}
		checkReads(t, agent, guest)
	}
	checkReadsOnRecord(t, s)
}

// checkReads wants the same answer about a host that is hidden and about one
// that is not there.
func checkReads(t *testing.T, agent, guest *mcpclient.Session) {
	t.Helper()
	text := must(agent.Read(t.Context(), "ssh://host/readonly/capabilities"))(t)
	var seen struct {
		Probes []struct {
			Probe   string
			Allowed bool
		} `json:"policy_probes"`
	}
	if err := json.Unmarshal([]byte(text), &seen); err != nil || len(seen.Probes) == 0 || !seen.Probes[0].Allowed {
		t.Errorf("capabilities: %v, %s", err, text)
	}
	var answers []string
	for _, alias := range []string{"readonly", "moon"} {
		_, err := guest.Read(t.Context(), "ssh://host/"+alias)
		if err == nil {
			t.Fatalf("the guest reads about %s", alias)
		}
		answers = append(answers, strings.ReplaceAll(err.Error(), alias, "HOST"))
	}
	if answers[0] != answers[1] {
		t.Errorf("a hidden host is answered with %q, none with %q", answers[0], answers[1])
	}
}

func checkReadsOnRecord(t *testing.T, s site) {
	t.Helper()
	var plans int
	for _, line := range readLinesOf(t, filepath.Join(s.dir, "decisions.jsonl")) {
		if strings.Contains(line, `"mode":"plan"`) && strings.Contains(line, `"tool":"ssh_run"`) {
			plans++
		}
	}
	if plans < 8 {
		t.Errorf("%d dry runs of probes are on the decision log", plans)
	}
	audit := strings.Join(auditLines(t, s), "\n")
	for _, want := range []string{`"type":"finished"`, `"tool":"read_host_capabilities"`, `"type":"refused"`, `"tool":"read_host"`} {
		if !strings.Contains(audit, want) {
			t.Errorf("no %s in the audit stream", want)
		}
	}
}

func as(t *testing.T, url, token string, legacy bool) *mcpclient.Session {
	t.Helper()
	client, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: url, Token: token, Name: "e2e", Version: "1", Legacy: legacy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if (client.Protocol == "2025-11-25") != legacy {
		t.Errorf("the client speaks %s", client.Protocol)
	}
	return client
}

func hostsOf(t *testing.T, client *mcpclient.Session) []string {
	t.Helper()
	var list struct{ Hosts []string }
	if err := json.Unmarshal(must(client.Call(t.Context(), "ssh_list_hosts", nil))(t).Structured, &list); err != nil {
		t.Fatal(err)
	}
	return list.Hosts
}

// must ends a test at an error.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
