package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// taskReply is the part of the results of tools for tasks that the cases look at.
type taskReply struct {
	reply
	Message   string
	Progress  int `json:"progress_percent"`
	KeepAlive int
	Poll      int      `json:"pollFrequency"`
	Lines     []string `json:"output_lines"`
	Total     int      `json:"total_lines"`
	More      bool     `json:"has_more"`
	Next      int      `json:"next_cursor"`
	Command   string
}

func (p *parity) task(t *testing.T, tool string, args map[string]any) taskReply {
	t.Helper()
	r := taskReply{reply: p.call(t, tool, args)}
	if err := json.Unmarshal(r.Structured, &r); err != nil {
		t.Fatalf("%s: %v: %s", tool, err, r.Structured)
	}
	return r
}

func (p *parity) submit(t *testing.T, alias, command string) string {
	t.Helper()
	r := p.task(t, "ssh_run_async", runArgs(alias, command))
	if r.IsError || r.TaskID == "" {
		t.Fatalf("not submitted: %s", r.Structured)
	}
	return r.TaskID
}

func about(id string) callArgs { return callArgs{"task_id": id} }

func (p *parity) cancels(t *testing.T) {
	for _, tool := range []string{"ssh_cancel", "ssh_cancel_async_task"} {
		if r := p.task(t, tool, about("moon:0123456789abcdef:1")); r.IsError || r.Cancelled || !strings.Contains(strings.ToLower(r.Message), "not found") {
			t.Errorf("%s of what there is not: %s", tool, r.Structured)
		}
		if r := p.task(t, tool, about(" ")); !r.IsError || r.code() != "bad_arguments" || !strings.Contains(r.Text, `"task_id" is empty`) {
			t.Errorf("%s of a blank id: %s", tool, r.Text)
		}
		if r := p.task(t, tool, nil); !r.IsError || !strings.Contains(r.Text, `"task_id" is required`) {
			t.Errorf("%s of nothing: %s", tool, r.Text)
		}
	}
	for _, tool := range []string{"ssh_cancel", "ssh_cancel_async_task"} {
		id := p.submit(t, "web1", "sleep 1000")
		if r := p.task(t, tool, about(id)); !r.Cancelled || r.TaskID != id {
			t.Errorf("%s: %s", tool, r.Structured)
		}
		if r := p.task(t, "ssh_get_task_result", about(id).with("wait_seconds", 30)); r.Status != "cancelled" || !r.Cancelled || r.ExitCode == 0 {
			t.Errorf("result after %s: %s", tool, r.Structured)
		}
		if r := p.task(t, tool, about(id)); r.Cancelled {
			t.Errorf("%s a second time: %s", tool, r.Structured)
		}
	}
}

// What an asynchronous run is told and denied is what any run is.
func (p *parity) asynchronous(t *testing.T) {
	for name, bad := range map[string]struct {
		args map[string]any
		code string
	}{
		"unknown alias": {runArgs("moon", "uptime"), "unknown_host"},
		"bad alias":     {runArgs("web 1", "uptime"), "bad_arguments"},
		"blank alias":   {runArgs(" ", "uptime"), "bad_arguments"},
		"blank command": {runArgs("web1", " "), "bad_arguments"},
		"no arguments":  {nil, "bad_arguments"},
		"denied":        {runArgs("web1", "nc -l 80"), "command_program"},
		"two commands":  {runArgs("web1", "uptime\nnc -l 80"), "command_program"},
		"forbidden":     {runArgs("forbidden", "uptime"), "network_blocked"},
		"unresolved":    {runArgs("unknown", "uptime"), "network_unresolved"},
	} {
		if r := p.task(t, "ssh_run_async", bad.args); !r.IsError || r.TaskID != "" || !strings.HasPrefix(r.code(), strings.TrimSuffix(bad.code, "unresolved")) {
			t.Errorf("%s: %s", name, r.Structured)
		}
	}
	if r := p.task(t, "ssh_run_async", runArgs("web1", "nc -l 80")); r.Status != "denied" || len(r.Hash) != 16 || !strings.Contains(r.Hint, "ssh_plan") {
		t.Errorf("a denial: %s", r.Structured)
	}
	// The original had no record of asynchronous runs at all, and never looked
	// at their address.
	id := p.submit(t, "both", "uptime")
	if r := p.task(t, "ssh_get_task_result", about(id).with("wait_seconds", 30)); r.Status != "completed" || r.TargetIP != "127.0.0.1" {
		t.Errorf("a name with a forbidden address: %s", r.Structured)
	}
	if n := p.trap.connections.Load(); n != 0 {
		t.Errorf("%d connections to the forbidden address", n)
	}
	if finished := p.lastLine(t, "audit.jsonl", id); !strings.Contains(finished, `"type":"finished"`) || !strings.Contains(finished, `"exit_code":0`) {
		t.Errorf("its end is not on record: %s", finished)
	}
	if decided := p.lastLine(t, "decisions.jsonl", id); !strings.Contains(decided, `"allow":true`) {
		t.Errorf("its decision is not on record: %s", decided)
	}
}

func (p *parity) noTasks(t *testing.T) {
	for _, tool := range []string{"ssh_get_task_status", "ssh_get_task_result", "ssh_get_task_output"} {
		if r := p.task(t, tool, about("web1:0123456789abcdef:1700000000")); !r.IsError || r.code() != "unknown_task" {
			t.Errorf("%s of an unknown id: %s", tool, r.Text)
		}
		for _, id := range []string{"", "   ", "web1 x", "a@b", strings.Repeat("a", 201)} {
			if r := p.task(t, tool, about(id)); !r.IsError || r.code() != "bad_arguments" {
				t.Errorf("%s of %.20q: %s", tool, id, r.Text)
			}
		}
	}
}

// tagReply is the part of ssh_run_on_tag's result that the cases look at.
type tagReply struct {
	IsError bool `json:"-"`
	Text    string
	Status  string
	Note    string
	Results []map[string]any
	Summary struct{ Hosts, Succeeded, NonZero, Failed, Denied, Skipped int }
}

func (p *parity) onTag(t *testing.T, args map[string]any) tagReply {
	t.Helper()
	answer, err := p.client.Call(t.Context(), "ssh_run_on_tag", args)
	if err != nil {
		t.Fatal(err)
	}
	r := tagReply{IsError: answer.IsError, Text: answer.Text}
	if err := json.Unmarshal(answer.Structured, &r); err != nil {
		t.Fatalf("%v: %s", err, answer.Structured)
	}
	return r
}

// byAlias is the entry of one host.
func (r tagReply) byAlias(alias string) map[string]any {
	for _, e := range r.Results {
		if e["alias"] == alias {
			return e
		}
	}
	return nil
}

// sharedKeys are those that the entries of all hosts must have.
var sharedKeys = []string{
	"status", "alias", "task_id", "hash", "exit_code", "duration_ms", "cancelled", "timeout", "target_ip", "output", "stdout", "stderr", "denied", "skipped",
}

func (p *parity) tags(t *testing.T) {
	r := p.onTag(t, callArgs{"tag": "mixed", "command": "echo hello"})
	if r.Summary.Hosts != 3 || r.Summary.Succeeded != 1 || r.Summary.Failed != 1 || r.Summary.Denied != 1 || !r.IsError {
		t.Errorf("one of three works: %+v", r.Summary)
	}
	if e := r.byAlias("mixed"); e["exit_code"] != 0.0 || e["output"] != "hello" {
		t.Errorf("the host that works: %v", e)
	}
	if e := r.byAlias("nobody"); e["exit_code"] != -1.0 || e["denied"] != false || !strings.Contains(r.Text, "refused") {
		t.Errorf("the host that is down: %v", e)
	}
	if e := r.byAlias("barred"); e["denied"] != true || e["reason"] != "network" || !strings.Contains(e["detail"].(string), forbidden) || !strings.Contains(e["hint"].(string), "ssh_plan") {
		t.Errorf("the host whose address is forbidden: %v", e)
	}
	for _, e := range r.Results {
		for _, key := range sharedKeys {
			if _, ok := e[key]; !ok {
				t.Errorf("the entry of %v has no %s", e["alias"], key)
			}
		}
	}
	if r := p.onTag(t, callArgs{"tag": "down", "command": "uptime"}); r.Summary.Failed != 1 || r.Summary.Succeeded != 0 || !r.IsError {
		t.Errorf("all fail: %+v", r)
	}
	if r := p.onTag(t, callArgs{"tag": "web", "command": "nc -l 80"}); r.Summary.Denied != r.Summary.Hosts || r.Results[0]["reason"] != "policy" {
		t.Errorf("denied on all: %+v", r)
	}
	if r := p.onTag(t, callArgs{"tag": "moon", "command": "uptime"}); r.IsError || r.Summary.Hosts != 0 || r.Note != "No hosts matched." {
		t.Errorf("a tag that no host has: %+v", r)
	}
	if r := p.onTag(t, callArgs{"tag": "mixed", "command": "uptime", "max_parallel": 1, "fail_fast": true}); r.Summary.Skipped != 2 || r.byAlias("mixed")["skipped"] != true {
		t.Errorf("the first one fails, and fail_fast: %+v", r.Summary)
	}
	if n := p.trap.connections.Load(); n != 0 {
		t.Errorf("%d connections to the forbidden address", n)
	}
}

// capabilities are what a resource tells of a host.
type capabilities struct {
	Probes []struct {
		Probe, Command string
		Allowed        bool
	} `json:"policy_probes"`
	Limits   map[string]any
	Features map[string]bool
	Network  map[string]bool
}

func (p *parity) read(t *testing.T, uri string, into any) {
	t.Helper()
	text, err := p.client.Read(t.Context(), uri)
	if err != nil {
		t.Fatalf("%s: %v", uri, err)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%s: %v: %s", uri, err, text)
	}
}

// Probes are shown for what a host is tagged with, are never empty, and say what
// a run of the same command would.
func (p *parity) probes(t *testing.T) {
	for alias, docker := range map[string]bool{"web1": false, "mixed": true} {
		var c capabilities
		p.read(t, "ssh://host/"+alias+"/capabilities", &c)
		if len(c.Probes) == 0 {
			t.Fatalf("%s has no probes", alias)
		}
		shown := false
		for _, probe := range c.Probes {
			shown = shown || strings.HasPrefix(probe.Command, "docker ")
			if strings.TrimSpace(probe.Command) == "" || probe.Probe == "" {
				t.Errorf("%s has the probe %+v", alias, probe)
			}
			if plan := p.call(t, "ssh_plan", runArgs(alias, probe.Command)); plan.Allowed != probe.Allowed {
				t.Errorf("%s: the probe %q says %v, the plan %v", alias, probe.Command, probe.Allowed, plan.Allowed)
			}
		}
		if shown != docker {
			t.Errorf("%s is probed for docker: %v, want %v", alias, shown, docker)
		}
	}
}

func (p *parity) resources(t *testing.T) {
	var hosts struct {
		Count int
		Hosts []map[string]any
	}
	p.read(t, "ssh://hosts", &hosts)
	listed := p.call(t, "ssh_list_hosts", nil)
	if hosts.Count != len(listed.Hosts) || len(hosts.Hosts) != hosts.Count || hosts.Hosts[0]["has_credentials_ref"] != true || hosts.Hosts[0]["credentials"] != nil {
		t.Errorf("inventory: %+v", hosts)
	}
	var tags struct{ Tags []string }
	if p.read(t, "ssh://host/web1/tags", &tags); !slices.Equal(tags.Tags, []string{"web", "linux"}) {
		t.Errorf("tags: %v", tags)
	}
	var c capabilities
	p.read(t, "ssh://host/web1/capabilities", &c)
	if c.Limits["require_known_host"] != true || c.Limits["host_key_auto_add"] != false || !c.Features["supports_async"] || !c.Network["blocklist_enabled"] {
		t.Errorf("capabilities: %+v", c)
	}
	text, err := p.client.Read(t.Context(), "ssh://host/web1/capabilities")
	if err != nil || strings.Contains(text, "rm -rf") || strings.Contains(text, forbidden) {
		t.Errorf("capabilities tell what is denied: %v, %s", err, text)
	}
	for _, uri := range []string{"ssh://host/moon", "ssh://host/", "ssh://host/ ", "ssh://host/web%201", "ssh://host/web1/moon", "ssh://moon", "ssh://host/../hosts", "file:///etc/passwd"} {
		if text, err := p.client.Read(t.Context(), uri); err == nil || strings.Contains(err.Error(), p.dir) {
			t.Errorf("%s: %v, %q", uri, err, text)
		}
	}
}

// A client finds every name that it knows; the prompts are a case of their own.
func (p *parity) inventory(t *testing.T) {
	tools, err := p.client.Tools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"ssh_ping", "ssh_list_hosts", "ssh_describe_host", "ssh_plan", "ssh_run", "ssh_run_on_tag", "ssh_cancel", "ssh_reload_config",
		"ssh_run_async", "ssh_get_task_status", "ssh_get_task_result", "ssh_get_task_output", "ssh_cancel_async_task",
	} {
		if !slices.Contains(tools, name) {
			t.Errorf("no %s among %v", name, tools)
		}
	}
	resources, err := p.client.Resources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, uri := range []string{"ssh://hosts", "ssh://host/{alias}", "ssh://host/{alias}/tags", "ssh://host/{alias}/capabilities"} {
		if !slices.Contains(resources, uri) {
			t.Errorf("no %s among %v", uri, resources)
		}
	}
	var c capabilities
	p.read(t, "ssh://host/web1/capabilities", &c)
	for name, want := range map[string]any{"max_seconds": 60.0, "max_output_bytes": 1048576.0, "task_result_ttl": 300.0, "task_progress_interval": 5.0} {
		if c.Limits[name] != want {
			t.Errorf("%s is %v, want %v", name, c.Limits[name], want)
		}
	}
}

func (p *parity) prompts(t *testing.T) {
	for name, words := range map[string][]string{
		"ssh_orchestrator_usage":           {"ssh_list_hosts", "ssh_plan", "ssh_run"},
		"ssh_policy_denied_guidance":       {"policy.yml", "ssh_plan"},
		"ssh_network_denied_guidance":      {"allow_cidrs"},
		"ssh_missing_host_guidance":        {"servers.yml", "ssh_list_hosts"},
		"ssh_missing_credentials_guidance": {"credentials.yml"},
		"ssh_config_change_workflow":       {"sallyport validate", "ssh_reload_config"},
	} {
		text, err := p.client.Prompt(t.Context(), name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%s does not speak of %s", name, word)
			}
		}
	}
}

// The ids of the original told alias, hash and second; ours are beyond guessing.
func (p *parity) life(t *testing.T) {
	var ids []string
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			r, err := p.client.Call(t.Context(), "ssh_run_async", runArgs("web1", "uptime"))
			var task struct {
				ID string `json:"task_id"`
			}
			if err != nil || json.Unmarshal(r.Structured, &task) != nil {
				t.Errorf("%v: %s", err, r.Text)
			}
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, task.ID)
		})
	}
	all.Wait()
	slices.Sort(ids)
	if n := len(slices.Compact(slices.Clone(ids))); n != 5 {
		t.Errorf("%d ids for five tasks", n)
	}
	for _, id := range ids {
		if !regexp.MustCompile(`^[0-9A-Z]{26}$`).MatchString(id) {
			t.Errorf("the id %q", id)
		}
		if r := p.task(t, "ssh_get_task_result", about(id).with("wait_seconds", 30)); r.Status != "completed" || r.ExitCode != 0 || r.Alias != "web1" {
			t.Errorf("result: %s", r.Structured)
		}
		if r := p.task(t, "ssh_get_task_status", about(id)); r.Status != "completed" || r.Progress != 100 || r.KeepAlive != 300 || r.Poll != 5 {
			t.Errorf("status: %s", r.Structured)
		}
	}
	running := p.submit(t, "web1", "sleep 1000")
	eventually(t, "the task runs", func() bool { return p.task(t, "ssh_get_task_status", about(running)).Status == "running" })
	if r := p.task(t, "ssh_get_task_result", about(running)); !r.IsError || r.code() != "task_not_ended" {
		t.Errorf("result of a task that runs: %s", r.Structured)
	}
	if r := p.task(t, "ssh_cancel_async_task", about(running)); !r.Cancelled {
		t.Errorf("cancel: %s", r.Structured)
	}
	if r := p.task(t, "ssh_get_task_result", about(running).with("wait_seconds", 30)); r.Status != "cancelled" {
		t.Errorf("result of a cancelled task: %s", r.Structured)
	}
	failed := p.submit(t, "nobody", "uptime")
	if r := p.task(t, "ssh_get_task_result", about(failed).with("wait_seconds", 30)); r.Status != "failed" || r.ExitCode != -1 || r.code() != "connection_refused" {
		t.Errorf("result of a task that cannot run: %s", r.Structured)
	}
}

func (p *parity) output(t *testing.T) {
	p.write(t, "bin/hostname", "#!/bin/sh\ni=0; while [ $i -lt 120 ]; do echo line $i; i=$((i+1)); done\n", 0o755)
	id := p.submit(t, "web1", "hostname")
	p.task(t, "ssh_get_task_result", about(id).with("wait_seconds", 30))
	if r := p.task(t, "ssh_get_task_output", about(id)); len(r.Lines) != 50 || r.Lines[49] != "line 119" || r.Total != 120 || r.More {
		t.Errorf("the last lines: %s", r.Structured)
	}
	if r := p.task(t, "ssh_get_task_output", about(id).with("cursor", 0).with("max_lines", 100)); len(r.Lines) != 100 || r.Lines[0] != "line 0" || !r.More || r.Next != 100 {
		t.Errorf("the first lines: %s", r.Structured)
	}
	for _, bad := range []int{0, -1, 1001} {
		if r := p.task(t, "ssh_get_task_output", about(id).with("max_lines", bad)); !r.IsError || r.code() != "bad_arguments" {
			t.Errorf("max_lines %d: %s", bad, r.Structured)
		}
	}
	none := p.submit(t, "web1", "true")
	p.task(t, "ssh_get_task_result", about(none).with("wait_seconds", 30))
	if r := p.task(t, "ssh_get_task_output", about(none)); r.IsError || len(r.Lines) != 0 || r.More {
		t.Errorf("no output: %s", r.Structured)
	}
}
