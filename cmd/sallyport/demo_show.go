package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/tool"
)

// scene is one call of the show. It says in one line what to look at, and the
// show fails when the gateway does not do what the scene expects.
type scene struct {
	title  string
	tool   string
	args   map[string]any
	look   string
	status string // expected
	lines  int    // of the answer to show
}

func command(line string, more ...any) map[string]any {
	args := map[string]any{"alias": "demo", "command": line}
	for i := 0; i+1 < len(more); i += 2 {
		args[more[i].(string)] = more[i+1]
	}
	return args
}

// sleepLine is nobody else's, so that it can be looked for.
var sleepLine = fmt.Sprintf("sleep 314.%d", os.Getpid())

func scenes() []scene {
	return []scene{
		{"List the hosts", "ssh_list_hosts", map[string]any{}, "names, not addresses or keys", "ok", 2},
		{"Plan before running", "ssh_plan", command("df -h / | tail -n 1"), "the decision, and the exact text that would be sent", "ok", 3},
		{"Run an allowed command", "ssh_run", command("uptime"), "granted by profile diagnose", "ok", 2},
		{"A pipeline whose parts are all allowed", "ssh_run", command("ps -eo pid,comm | sort -n -r | head -n 3"), "every command of it is judged", "ok", 4},
		{"A list with one part that is not", "ssh_run", command("uptime; id"), "nothing of it runs; the refusal names the word", "denied", 5},
		{"A substitution", "ssh_run", command("cat /var/log/$(id -un)"), "not known before a shell reads it, so refused", "denied", 4},
		{"A write", "ssh_run", command("echo hi > /etc/motd"), "redirections to files are not granted", "denied", 5},
		{"A misspelt argument", "ssh_run", map[string]any{"alias": "demo", "Command": "uptime"}, "strict arguments", "invalid", 3},
		{"Output cut at the cap", "ssh_run", command("ls -lR /etc", "max_output_bytes", 600), "head and tail kept, the rest counted", "ok", 16},
		{"A command stopped at its time limit", "ssh_run", command(sleepLine, "max_seconds", 1), "a custom package permits sleep; the time limit still ends it", "stopped", 4},
	}
}

// show plays the scenes, then shows what they left on record.
func (d *demo) show(ctx context.Context) error {
	d.opening()
	var err error
	d.client, err = mcpclient.Connect(ctx, mcpclient.Options{URL: d.url, Name: "sallyport-demo", Version: version})
	if err != nil {
		return err
	}
	d.screen.field("client", fmt.Sprintf("an MCP session with %q, revision %s", d.client.Server, d.client.Protocol))
	for i, s := range scenes() {
		if err := d.play(ctx, i+1, s); err != nil {
			return fmt.Errorf("scene %d (%s): %w", i+1, s.title, err)
		}
	}
	if err := d.processIsGone(); err != nil {
		return err
	}
	return d.records()
}

func (d *demo) opening() {
	d.screen.line("%s", d.screen.paint(bold, "Sallyport: what an agent may run over SSH is decided by policy"))
	d.screen.line("%s", d.screen.paint(dim, "All of this happens on this machine, on loopback, with fresh keys."))
	d.screen.line("")
	d.screen.field("host", fmt.Sprintf("demo, an SSH server at %s; its host key is in known_hosts", d.host.Addr()))
	d.screen.field("gateway", d.url)
	d.screen.field("policy", "the shipped bundle, profile diagnose on tag demo, and a custom package")
}

func (d *demo) play(ctx context.Context, number int, s scene) error {
	d.screen.line("")
	d.screen.line("%s %s  %s", d.screen.paint(bold, fmt.Sprintf("%2d", number)), d.screen.paint(bold, s.title), d.screen.paint(dim, s.look))
	d.screen.field(s.tool, describeArgs(s.args))
	began := time.Now()
	answer, err := d.client.Call(ctx, s.tool, s.args)
	if err != nil {
		return err
	}
	d.calls = append(d.calls, demoCall{s.title, s.tool, s.args, answer.IsError, answer.Structured})
	status, allowed := statusOf(answer.Structured)
	d.screen.field("", d.verdict(status, allowed)+d.screen.paint(dim, fmt.Sprintf("  in %s", time.Since(began).Round(100*time.Microsecond))))
	d.screen.block(answer.Text, s.lines)
	if status != s.status {
		return fmt.Errorf("the answer is %q, not %q: %s", status, s.status, answer.Text)
	}
	return nil
}

func describeArgs(args map[string]any) string {
	line, _ := args["command"].(string)
	if line == "" {
		b, _ := json.Marshal(args)
		return string(b)
	}
	for _, k := range []string{"max_seconds", "max_output_bytes"} {
		if v, ok := args[k]; ok {
			line += fmt.Sprintf("   [%s %v]", k, v)
		}
	}
	return line
}

func statusOf(structured json.RawMessage) (status string, allowed *bool) {
	var s struct {
		Status  string `json:"status"`
		Allowed *bool  `json:"allowed"`
	}
	if json.Unmarshal(structured, &s) != nil {
		return "unreadable", nil
	}
	return s.Status, s.Allowed
}

func (d *demo) verdict(status string, allowed *bool) string {
	switch {
	case allowed != nil && *allowed:
		return d.screen.paint(green, "would be allowed")
	case status == "ok":
		return d.screen.paint(green, "allowed")
	case status == "stopped":
		return d.screen.paint(amber, "stopped")
	}
	return d.screen.paint(red, status)
}

// processIsGone looks for the stopped command in the process table of the host,
// which is this machine.
func (d *demo) processIsGone() error {
	if pid := processOf(sleepLine); pid != "" {
		return fmt.Errorf("process %s (%s) outlived its stop", pid, sleepLine)
	}
	d.screen.field("", d.screen.paint(green, "and the process table has no more "+sleepLine))
	return nil
}

// processOf finds a process of this machine by its words, which hold no blanks
// themselves; empty when there is none, or no process table to look at.
func processOf(line string) (pid string) {
	want := []byte(strings.ReplaceAll(line, " ", "\x00") + "\x00")
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		words, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && bytes.Equal(words, want) {
			return e.Name()
		}
	}
	return ""
}

// records shows the lines that the calls left in both logs and verifies the
// chain.
func (d *demo) records() error {
	d.screen.line("")
	d.screen.line("%s  %s", d.screen.paint(bold, "The decision log"), d.screen.paint(dim, "OPA's event format, one line a decision"))
	if err := d.eachRecord("decisions.jsonl", d.decisionRow); err != nil {
		return err
	}
	d.screen.line("")
	d.screen.line("%s  %s", d.screen.paint(bold, "The audit stream"), d.screen.paint(dim, "what happened, each line chained to the one before"))
	if err := d.eachRecord("audit.jsonl", d.auditRow); err != nil {
		return err
	}
	report, err := audit.VerifyFiles(d.log("audit.jsonl"))
	if err != nil {
		return err
	}
	d.screen.line("")
	d.screen.line("%s  %s, chain intact", d.screen.paint(bold, "sallyport audit verify"), tool.Count(report.Lines, "line"))
	d.screen.line("")
	d.screen.line("%s", d.screen.paint(dim, fmt.Sprintf("Done in %s. Next: sallyport demo --serve, or sallyport init ./config", time.Since(d.began).Round(time.Millisecond))))
	return nil
}

func (d *demo) eachRecord(file string, row func(map[string]any) string) error {
	b, err := os.ReadFile(d.log(file))
	if err != nil {
		return err
	}
	for _, line := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		d.screen.line("   %s", row(record))
	}
	return nil
}

func (d *demo) decisionRow(r map[string]any) string {
	verdict := d.screen.paint(red, "refuse")
	if at(r, "result", "allow") == true {
		verdict = d.screen.paint(green, "allow ")
	}
	text := ""
	if ops, ok := at(r, "input", "ops").([]any); ok && len(ops) > 0 {
		text, _ = at(ops[0].(map[string]any), "command", "text").(string)
	}
	return fmt.Sprintf("%s %s %-5v %-15v %s", tail(at(r, "decision_id")), verdict, at(r, "custom", "mode"), at(r, "input", "call", "tool"), clip(text, 60))
}

func (d *demo) auditRow(r map[string]any) string {
	row := fmt.Sprintf("%3v %-9v %-15v", r["seq"], r["type"], orBlank(r["tool"]))
	for _, k := range []string{"decision_id", "exit_code", "stop", "bytes_out", "duration_ms", "failure"} {
		if v, ok := r[k]; ok && v != "" && v != nil {
			if k == "decision_id" {
				v = tail(v)
			}
			row += fmt.Sprintf(" %s=%v", k, v)
		}
	}
	return fmt.Sprintf("%s %s", row, d.screen.paint(dim, "chain "+head(r["chain"])))
}

// at follows keys into nested objects; nil when one is missing.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

func orBlank(v any) any {
	if v == nil {
		return ""
	}
	return v
}

// tail and head shorten ids and hashes to what tells them apart.
func tail(v any) string {
	s, _ := v.(string)
	return "…" + s[max(0, len(s)-6):]
}

func head(v any) string {
	s, _ := v.(string)
	return s[:min(len(s), 8)] + "…"
}
