package tools

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/sallyport/sallyport/pkg/tool"
)

var update = flag.Bool("update", false, "write the goldens anew")

// examples are calls of each tool whose plans its golden shows. A tool without
// an example fails.
var examples = map[string][]string{
	"ssh_ping":          {`{}`},
	"ssh_list_hosts":    {`{}`},
	"ssh_describe_host": {`{"alias":"web1"}`},
	"ssh_plan": {
		`{"alias":"web1","command":"df -h | tail -1"}`,
		`{"tool":"read","arguments":{"target":"web1","path":"/var/log/app.log"},"explain":true}`,
		`{"tool":"connect","arguments":{"host":"web9.example","username":"ops"}}`,
	},
	"ssh_run": {
		`{"alias":"web1","command":"uptime"}`,
		`{"alias":"web1","command":"sudo -n systemctl restart app","max_seconds":30,"max_output_bytes":4096}`,
		`{"alias":"web1","command":"echo $(id)"}`,
	},
	"ssh_run_on_tag": {
		`{"tag":"web","command":"uptime"}`,
		`{"tag":"web","command":"df -h","max_parallel":4,"fail_fast":true,"max_output_bytes":100}`,
	},
	"ssh_run_async":         {`{"alias":"web1","command":"uptime","max_seconds":600}`},
	"ssh_get_task_status":   {`{"task_id":"01J00000000000000000000000","wait_seconds":5}`},
	"ssh_get_task_result":   {`{"task_id":"01J00000000000000000000000"}`},
	"ssh_get_task_output":   {`{"task_id":"01J00000000000000000000000"}`, `{"task_id":"01J00000000000000000000000","cursor":0,"max_lines":10,"wait_seconds":5}`},
	"ssh_cancel":            {`{"task_id":"01J00000000000000000000000"}`},
	"ssh_cancel_async_task": {`{"task_id":"01J00000000000000000000000"}`},
	"ssh_reload_config":     {`{}`},

	"connect": {
		`{"host":"web1"}`,
		`{"host":"Web9.example","username":"ops","port":2222,"password":"x","alias":"nine","via":"bastion"}`,
		`{"host":"10.0.0.9","username":"ops","private_key_path":"nine","host_key":"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
	},
	"disconnect": {`{}`, `{"alias":"web1"}`},
	"run": {
		`{"command":"df -h","target":"web1"}`,
		`{"command":"cat >notes","timeout":600,"stdin":"x","cwd":"/srv/app"}`,
		`{"command":"cd /var/log"}`,
		`{"command":"cd"}`,
	},
	"identity": {`{}`},
	"info":     {`{}`, `{"target":"web1"}`},
	"read":     {`{"target":"web1","path":"/var/log/app.log"}`, `{"path":"app.log","offset":65536,"length":4096,"encoding":"base64"}`},
	"write": {
		`{"target":"web1","path":"/srv/app/settings.json","content":"{}","mode":"0640","expect":"absent"}`,
		`{"target":"web1","path":"/srv/app/logo","content":"AP8=","encoding":"base64"}`,
	},
	"edit": {
		`{"target":"web1","path":"/srv/app/app.conf","old_text":"debug = 1","new_text":"debug = 0"}`,
		`{"target":"web1","path":"/srv/app/app.conf","operation":"regex","pattern":"^debug *= *(.*)$","replacement":"debug = \\1","preview":true}`,
	},
	"validate": {`{"target":"web1","path":"/srv/app/settings.json"}`},
	"list_dir": {`{"target":"web1","path":"/var/log"}`},
	"sync":     {`{"source_node":"web1","source_path":"/srv/a","dest_node":"web2","dest_path":"/srv/b"}`},

	"read_hosts":             {`{}`},
	"read_host":              {`{"alias":"web1"}`},
	"read_host_tags":         {`{"alias":"web1"}`},
	"read_host_capabilities": {`{"alias":"web1"}`},
}

// everything is all tools, with those that read resources.
func everything() []*tool.Tool {
	all := All()
	for _, r := range Resources() {
		all = append(all, r.Tool)
	}
	return all
}

// golden is all that an agent sees of a tool, and what its examples plan.
type golden struct {
	Name   string          `json:"name"`
	Set    string          `json:"set"`
	Doc    string          `json:"doc"`
	Effect tool.Effect     `json:"effect"`
	Input  json.RawMessage `json:"input_schema"`
	Output json.RawMessage `json:"output_schema"`
	Plans  []goldenPlan    `json:"plans"`
}

type goldenPlan struct {
	Arguments json.RawMessage `json:"arguments"`
	Plan      tool.Plan       `json:"plan"`
	Ops       []tool.Op       `json:"ops"`
}

func TestGoldens(t *testing.T) {
	for _, def := range everything() {
		t.Run(def.Name, func(t *testing.T) {
			got := goldenOf(t, def)
			path := filepath.Join("..", "..", "testdata", "tools", def.Name+".json")
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("no golden: %v; write it with: go test ./pkg/tools -update", err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("what agents see changed (write it anew with -update when that is meant):\n%s", d)
			}
		})
	}
}

func goldenOf(t *testing.T, def *tool.Tool) []byte {
	t.Helper()
	g := golden{Name: def.Name, Set: def.Set, Doc: def.Doc, Effect: def.Effect, Input: def.Input, Output: def.Output}
	if len(examples[def.Name]) == 0 {
		t.Fatal("the tool has no example")
	}
	for _, args := range examples[def.Name] {
		plan, err := def.Plan(json.RawMessage(args))
		if err != nil {
			t.Fatalf("example %s: %v", args, err)
		}
		g.Plans = append(g.Plans, goldenPlan{Arguments: json.RawMessage(args), Plan: plan, Ops: plan.Ops()})
	}
	b, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func TestNamesAreUniqueAndEveryToolIsInASet(t *testing.T) {
	seen := map[string]bool{}
	for _, def := range everything() {
		if seen[def.Name] {
			t.Errorf("%s is defined twice", def.Name)
		}
		seen[def.Name] = true
	}
	if in, unknown := In([]string{"fleet", "moon"}); len(in) != len(fleet()) || len(unknown) != 1 || unknown[0] != "moon" {
		t.Errorf("In(fleet, moon) = %d tools, unknown %v", len(in), unknown)
	}
	if in, _ := In([]string{"all"}); len(in) != len(All()) {
		t.Errorf("In(all) has %d tools of %d", len(in), len(All()))
	}
}

// A dry run must judge the very plan that a run would carry out.
func TestPlanPlansWhatRunRuns(t *testing.T) {
	args := json.RawMessage(`{"alias":"web1","command":"df -h","max_seconds":5}`)
	run, err := sshRun().Plan(args)
	if err != nil {
		t.Fatal(err)
	}
	dry, err := sshPlan().Plan(args)
	if err != nil {
		t.Fatal(err)
	}
	if dry.As != "ssh_run" || !dry.DryRun {
		t.Errorf("ssh_plan is judged as %q, dry %v", dry.As, dry.DryRun)
	}
	dry.As, dry.DryRun = "", false
	run.Result, dry.Result = nil, nil // each tells it in its own way
	if d := cmp.Diff(run, dry); d != "" {
		t.Error(d)
	}
}

func TestRunResultTellsHowItEnded(t *testing.T) {
	zero, seven, ofSignal := 0, 7, 143
	allowed := tool.Decision{ID: "d1", Allow: true, Limits: tool.Limits{Seconds: 5}}
	stream := func(s string) tool.Stream { return tool.Stream{Kept: []byte(s), Bytes: int64(len(s))} }
	for name, tc := range map[string]struct {
		run    tool.Run
		text   string
		failed bool
		exit   int
	}{
		"ok": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Stdout: stream("hi\n"), Exit: &zero}}}},
			"hi", false, 0,
		},
		"no output but a status": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Exit: &seven}}}},
			"(no output)\n[exit status 7]", false, 7,
		},
		"both streams": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Stdout: stream("a\n"), Stderr: stream("b\n"), Exit: &zero}}}},
			"a\nb", false, 0,
		},
		"signal": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Signal: "KILL"}}}},
			"(no output)\n[ended by signal KILL]", false, -1,
		},
		"time limit": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Stop: tool.StopTimeout, Stopped: true, Outputs: []tool.Output{{Stdout: stream("x")}}}},
			"x\nStopped.\nstopped at the time limit of 5 s [timeout]\ndecision d1", true, -1,
		},
		"stopped with all that it said": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Stop: tool.StopTimeout, Outputs: []tool.Output{{Stdout: tool.Stream{Kept: []byte("x\n"), Bytes: 2, Truncated: true}}}}},
			"x\nStopped.\nstopped at the time limit of 5 s [timeout]\ndecision d1", true, -1,
		},
		"stopped, and the shell told of the signal": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Stop: tool.StopCancelled, Stopped: true, Outputs: []tool.Output{{Exit: &ofSignal}}}},
			"Stopped.\nstopped because the call was cancelled [cancelled]\ndecision d1", true, -1,
		},
		"more than is kept": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Stdout: tool.Stream{Kept: []byte("x\n"), Bytes: 9, Truncated: true}, Exit: &zero}}}},
			"x\n[cut: 2 bytes of 9 are shown]", false, 0,
		},
		"survivor": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Stop: tool.StopTimeout, Survivors: []tool.Survivor{{PID: 9, Command: "sleep"}}}},
			"Stopped.\nstopped at the time limit of 5 s [timeout]\ndecision d1\nstill running: 9 sleep", true, -1,
		},
		"no connection": {
			tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailRefused, Message: "web1 refuses", Remedy: "start sshd"}}},
			"Failed.\nweb1 refuses [connection_refused]. start sshd\ndecision d1", true, -1,
		},
		"denied": {
			tool.Run{Decision: tool.Decision{ID: "d2", Reasons: []tool.Reason{{Code: "c", Title: "no", Detail: "rm", Remedy: "ls"}}}},
			"Denied by policy.\n- no [c]: rm (ls)\ndecision d2\nssh_plan shows the whole decision for a changed command; policy itself is changed by people", true, -1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := runOf(commandArgs{Alias: "web1", Command: "x"}, tc.run)
			if d := cmp.Diff(tc.text, got.Text()); d != "" {
				t.Error(d)
			}
			if got.Failed() != tc.failed || got.ExitCode != tc.exit {
				t.Errorf("failed %v, exit %d; want %v, %d", got.Failed(), got.ExitCode, tc.failed, tc.exit)
			}
		})
	}
}

// What clients read is described, read by a tool that takes what the URI leaves
// open, and judged like a question to the gateway.
func TestResources(t *testing.T) {
	for _, r := range Resources() {
		if r.Title == "" || r.Doc == "" || r.MIME != jsonType {
			t.Errorf("%s is not described: %+v", r.URI, r)
		}
		_, args, ok := r.Match(strings.Replace(r.URI, "{alias}", "web1", 1))
		if !ok {
			t.Fatalf("%s does not match itself", r.URI)
		}
		plan, err := r.Tool.Plan(args)
		if err != nil {
			t.Fatalf("%s: %v", r.URI, err)
		}
		if op := plan.Steps[0].Op; op.Action != tool.GatewayList && op.Action != tool.GatewayRead {
			t.Errorf("%s is judged as %s", r.URI, op.Action)
		}
		if r.IsTemplate() != (plan.Scope.Alias == "web1") {
			t.Errorf("%s is judged on the host %q", r.URI, plan.Scope.Alias)
		}
		denied := plan.Result([]tool.Run{{Plan: plan, Decision: tool.Decision{ID: "d1", Reasons: []tool.Reason{{Code: "no"}}}}})
		if reading, ok := denied.(tool.Reading); !ok || !denied.Failed() || reading.Contents() != nil {
			t.Errorf("%s, denied: %+v", r.URI, denied)
		}
	}
}

// Clients hold what they are given against the schema that they were given
// before, so no answer may be of another shape: not a refusal, not a failure, and
// not one without anything in it.
func TestResultsAreOfTheirSchema(t *testing.T) {
	allowed := tool.Decision{ID: "d1", Allow: true, Limits: tool.Limits{Seconds: 5, OutputBytes: 9}}
	ends := map[string]tool.Run{
		"denied":  {Decision: tool.Decision{ID: "d1", Reasons: []tool.Reason{{Code: "network_blocked", Title: "no", Detail: "rm", Remedy: "ls"}}}},
		"failed":  {Decision: allowed, Report: &tool.Report{Outcome: tool.NotStarted, Err: &tool.Failure{Code: tool.FailRefused, Message: "it refuses"}}},
		"stopped": {Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Stop: tool.StopTimeout, Survivors: []tool.Survivor{{PID: 9, Command: "sleep"}}}},
	}
	answers := map[string]any{
		"ssh_ping":       "pong",
		"ssh_list_hosts": []string(nil),
		"ssh_describe_host": tool.HostFacts{
			Alias: "web1", Host: "web1.example", Port: 22, User: "ops", Kind: "posix", Tags: []string{"web"},
			Description: "one", Via: []string{"hop"}, HasCredentials: true, Profiles: []string{"ops"},
		},
		"ssh_run_async":         tool.TaskFacts{ID: "1", State: tool.TaskPending},
		"ssh_get_task_status":   tool.TaskFacts{ID: "1", State: tool.TaskRunning},
		"ssh_get_task_result":   tool.TaskFacts{ID: "1", State: tool.TaskFailed, Run: ends["failed"]},
		"ssh_get_task_output":   tool.TaskLines{ID: "1", State: tool.TaskRunning},
		"ssh_cancel":            tool.Cancellation{ID: "1"},
		"ssh_cancel_async_task": tool.Cancellation{ID: "1", Found: true},
		"ssh_reload_config":     map[string]string{"site": "1"},
	}
	for _, def := range All() {
		fits := fitting(t, def)
		fits("invalid", tool.Status{Status: tool.StatusInvalid, Grounds: tool.Grounds{Error: &tool.Problem{Code: "bad_arguments", Message: "no", Remedy: "yes"}}})
		for _, example := range examples[def.Name] {
			plan, err := def.Plan(json.RawMessage(example))
			if err != nil {
				t.Fatal(err)
			}
			ends["done"] = tool.Run{Decision: allowed, Report: &tool.Report{Outcome: tool.Finished, Outputs: []tool.Output{{Answer: answers[def.Name]}}}}
			for name, run := range ends {
				run.Plan = plan
				fits(name, plan.Result([]tool.Run{run, run}))
			}
		}
	}
}

func fitting(t *testing.T, def *tool.Tool) func(name string, result any) {
	t.Helper()
	var schema jsonschema.Schema
	if err := json.Unmarshal(def.Output, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(name string, result any) {
		text, err := json.Marshal(result)
		var instance any
		if err := errors.Join(err, json.Unmarshal(text, &instance)); err != nil {
			t.Fatal(err)
		}
		if err := resolved.Validate(instance); err != nil {
			t.Errorf("%s, %s: %v\n%s", def.Name, name, err, text)
		}
	}
}
