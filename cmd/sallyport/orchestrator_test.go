package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
	"github.com/sallyport/sallyport/pkg/tools"
)

// parity is a gateway with a real sshd, a name server and a configuration that
// has what the cases of mcp-ssh-orchestrator ask for.
type parity struct {
	site
	client *mcpclient.Session
	names  *nameServer
	trap   *trap // where the forbidden address would lead
}

const forbidden = "127.0.0.9"

var longAlias = strings.Repeat("a", 100)

func newParity(t *testing.T) *parity {
	t.Helper()
	p := &parity{site: newSite(t)}
	port := p.sshd.Addr.Port()
	p.trap = newTrap(t, fmt.Sprintf("%s:%d", forbidden, port))
	p.names = startNameServer(t, map[string][]string{
		"both.test": {forbidden, "127.0.0.1"}, "rebound.test": {"127.0.0.1"}, "forbidden.test": {forbidden}, "six.test": {"::1"},
	})
	six := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Host: "::1"})
	p.permitSleep(t)
	p.write(t, "sallyport.yml", "log_level: debug\npolicy: {custom: [policies], timeout: 1s}\nresolver: {cache: 0s}\n"+
		"logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	var servers strings.Builder
	for _, alias := range []string{"web1", "prod-web-1", "db_server", "server.example.com", longAlias} {
		fmt.Fprintf(&servers, "  - {alias: %s, host: 127.0.0.1, port: %d, credentials: test, tags: [web, linux], description: one}\n", alias, port)
	}
	for _, name := range []string{"both", "rebound", "forbidden", "unknown"} {
		fmt.Fprintf(&servers, "  - {alias: %s, host: %s.test, port: %d, credentials: test, host_key_alias: four.example}\n", name, name, port)
	}
	fmt.Fprintf(&servers, "  - {alias: six, host: six.test, port: %[1]d, credentials: six, host_key_alias: six.example}\n"+
		"  - {alias: literal-six, host: '::1', port: %[1]d, credentials: six}\n", six.Addr.Port())
	fmt.Fprintf(&servers, "  - {alias: nobody, host: 127.0.0.1, port: %d, credentials: test, tags: [down, mixed]}\n", freePort(t))
	fmt.Fprintf(&servers, "  - {alias: mixed, host: 127.0.0.1, port: %[1]d, credentials: test, tags: [mixed, docker]}\n"+
		"  - {alias: barred, host: forbidden.test, port: %[1]d, credentials: test, tags: [mixed]}\n", port)
	fmt.Fprintf(&servers, "  - {alias: stranger, host: 127.0.0.1, port: %d, credentials: stranger}\n", port)
	fmt.Fprintf(&servers, "  - {alias: unknown-key, host: 127.0.0.1, port: %d, credentials: test, host_key_alias: unknown.example}\n", port)
	p.write(t, "servers.yml", "hosts:\n"+servers.String(), 0o600)
	p.write(t, "credentials.yml", fmt.Sprintf("entries:\n  - {name: test, username: %[1]s, key_path: login}\n"+
		"  - {name: six, username: %[1]s, key_path: six}\n  - {name: stranger, username: %[1]s, key_path: stranger}\n", osUser()), 0o600)
	p.write(t, "policy.yml", "network: {block_ips: ["+forbidden+"]}\nlimits: {deny_substrings: ['rm -rf /']}\n"+
		"rules:\n  - {action: allow, profile: diagnose}\n", 0o600)
	stranger, _, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "keys/stranger", string(stranger), 0o600)
	p.write(t, "keys/six", string(six.Key), 0o600)
	p.write(t, "keys/known_hosts", strings.Join([]string{
		p.sshd.KnownLine, six.KnownLine, renamed("four.example", p.sshd.KnownLine), renamed("six.example", six.KnownLine),
	}, "\n")+"\n", 0o600)
	p.client = p.serveHTTP(t)
	return p
}

// renamed is a line of known_hosts under another name.
func renamed(name, line string) string {
	_, key, _ := strings.Cut(line, " ")
	return name + " " + key
}

// trap counts the connections to an address that must never have one.
type trap struct{ connections atomic.Int64 }

func newTrap(t *testing.T, address string) *trap {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tr, done := &trap{}, make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tr.connections.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return tr
}

// reply is the part of every tool's result that the cases look at.
type reply struct {
	mcpclient.Answer
	Status     string
	Allowed    bool
	DecisionID string `json:"decision_id"`
	TaskID     string `json:"task_id"`
	Alias      string
	Hash       string
	Canonical  string
	Outcome    string
	ExitCode   int    `json:"exit_code"`
	TargetIP   string `json:"target_ip"`
	Output     string
	Stdout     string
	Stderr     string
	BytesOut   int64 `json:"bytes_out"`
	BytesErr   int64 `json:"bytes_err"`
	Truncated  bool
	Timeout    bool
	Cancelled  bool
	Reason     string
	Detail     string
	Command    string
	Hostname   string
	Why        string
	Culprit    string `json:"denied_command"`
	Hint       string
	Hosts      []string
	Tags       []string
	Limits     map[string]any
	Reasons    []struct{ Code, Detail, Remedy string }
	Error      *struct{ Code, Message, Remedy string }
}

func (p *parity) call(t *testing.T, name string, args map[string]any) reply {
	t.Helper()
	answer, err := p.client.Call(t.Context(), name, args)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	ofSchema(t, name, answer.Structured)
	r := reply{Answer: answer}
	if err := json.Unmarshal(answer.Structured, &r); err != nil {
		t.Fatalf("%s: %v: %s", name, err, answer.Structured)
	}
	return r
}

// ofSchema holds an answer against the schema that the tool is listed with, as
// strict clients do.
func ofSchema(t *testing.T, name string, answer json.RawMessage) {
	t.Helper()
	all := tools.All()
	i := slices.IndexFunc(all, func(def *tool.Tool) bool { return def.Name == name })
	if i < 0 {
		return
	}
	var schema jsonschema.Schema
	var instance any
	if err := errors.Join(json.Unmarshal(all[i].Output, &schema), json.Unmarshal(answer, &instance)); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err == nil {
		err = resolved.Validate(instance)
	}
	if err != nil {
		t.Errorf("%s: %v: %s", name, err, answer)
	}
}

func (p *parity) run(t *testing.T, alias, command string) reply {
	t.Helper()
	return p.call(t, "ssh_run", runArgs(alias, command))
}

func (r reply) code() string {
	switch {
	case r.Error != nil:
		return r.Error.Code
	case len(r.Reasons) > 0:
		return r.Reasons[0].Code
	}
	return ""
}

// TestOrchestrator has the cases of mcp-ssh-orchestrator that go through its
// tools, by their numbers, through ours: over MCP, to a real sshd.
func TestOrchestrator(t *testing.T) {
	p := newParity(t)
	for _, c := range []struct {
		id   string
		test func(*parity, *testing.T)
	}{
		{"8.2 what there is", (*parity).inventory},
		{"I1 aliases", (*parity).aliases},
		{"I2 commands", (*parity).commands},
		{"I1 I3 I4 names that tools take", (*parity).namesRefused},
		{"T1 ping, list, describe, plan, reload", (*parity).basics},
		{"T3 every tool without arguments", (*parity).noArguments},
		{"T6 denials", (*parity).denials},
		{"T8 chains", (*parity).chains},
		{"T9 T12 B13 addresses", (*parity).addresses},
		{"T12 S2 limit of look-ups", (*parity).lookups},
		{"S1 S3 execution", (*parity).execution},
		{"S3 failures", (*parity).failures},
		{"T2 cancel", (*parity).cancels},
		{"T4 B14 asynchronous", (*parity).asynchronous},
		{"T5 tasks that there are not", (*parity).noTasks},
		{"T7 hosts of a tag that fail", (*parity).tags},
		{"T14 probes", (*parity).probes},
		{"T15 R1 resources", (*parity).resources},
		{"R2 prompts", (*parity).prompts},
		{"R4 K1 life of a task", (*parity).life},
		{"K2 output of a task", (*parity).output},
		{"U1 hash", (*parity).hash},
		{"E1 R5 what errors tell", (*parity).errors},
		{"B14 async meets the same gate", (*parity).async},
	} {
		t.Run(c.id, func(t *testing.T) { c.test(p, t) })
	}
}

// Padding is trimmed before a name is looked at, and the trimmed name counts.
func (p *parity) aliases(t *testing.T) {
	for _, good := range []string{"web1", "prod-web-1", "db_server", "server.example.com", longAlias, " web1 "} {
		if r := p.run(t, good, "uptime"); r.Status != "ok" {
			t.Errorf("alias %q: %s", good, r.Text)
		}
	}
}

// namesRefused tries every argument that is a name with what is none, on every
// tool that has it.
func (p *parity) namesRefused(t *testing.T) {
	limits := map[string]int{"alias": 100, "tag": 50, "task_id": 200}
	seen := 0
	fleet, _ := tools.In([]string{"fleet"})
	for _, def := range fleet {
		var schema struct{ Properties map[string]any }
		if err := json.Unmarshal(def.Input, &schema); err != nil {
			t.Fatal(err)
		}
		for argument, most := range limits {
			if schema.Properties[argument] == nil {
				continue
			}
			seen++
			bad := []string{"", "  ", strings.Repeat("a", most+1)}
			for _, c := range `@#$/\([{|&;"'<>*?!` + "\n\t\x00é" {
				bad = append(bad, "web"+string(c)+"1")
			}
			for _, value := range append(bad, "web 1") {
				args := map[string]any{argument: value}
				if schema.Properties["command"] != nil {
					args["command"] = "uptime"
				}
				if r := p.call(t, def.Name, args); !r.IsError || r.code() != "bad_arguments" || !strings.Contains(r.Text, fmt.Sprintf("%q", argument)) {
					t.Errorf("%s with %s %q: %s", def.Name, argument, value, r.Text)
				}
			}
		}
	}
	if seen < 3 {
		t.Errorf("only %d arguments were tried", seen)
	}
}

func (p *parity) commands(t *testing.T) {
	// The limit was 10,000 characters; it is 16,384 bytes here.
	for name, good := range map[string]string{
		"plain": "uptime", "quoted": `echo "a 'b' c"`, "line feed": "uptime\nwhoami", "tab": "uptime\t-p", "10,000 characters": "echo " + strings.Repeat("a", 9995),
	} {
		if r := p.run(t, "web1", good); r.Status != "ok" {
			t.Errorf("%s: %s", name, r.Text)
		}
	}
	for name, bad := range map[string]struct{ command, code string }{
		"empty":      {"", "bad_arguments"},
		"blank":      {"  \t ", "bad_arguments"},
		"too long":   {"echo " + strings.Repeat("a", 16_380), "command_not_understood"},
		"NUL":        {"uptime\x00", "command_not_understood"},
		"U+0001":     {"uptime \x01", "command_not_understood"},
		"U+0005":     {"uptime \x05", "command_not_understood"},
		"escape":     {"uptime \x1b[0m", "command_not_understood"},
		"delete":     {"uptime \x7f", "command_not_understood"},
		"zero width": {"uptime \u200b", "command_not_understood"},
		"reversed":   {"uptime \u202e", "command_not_understood"},
		// A carriage return was let through; shells read it as part of a word.
		"carriage return": {"uptime\r", "command_not_understood"},
	} {
		for _, tool := range []string{"ssh_run", "ssh_plan"} {
			r := p.call(t, tool, runArgs("web1", bad.command))
			if r.Allowed || r.Outcome != "" || r.code() != bad.code {
				t.Errorf("%s with %s: %s", tool, name, r.Text)
			}
		}
	}
	if started := p.started(t); slices.Contains(started, "") {
		t.Error("something without a name ran")
	}
}

func (p *parity) basics(t *testing.T) {
	if r := p.call(t, "ssh_ping", nil); r.IsError || r.Status != "pong" || !strings.HasPrefix(r.Text, "pong") {
		t.Errorf("ping: %s", r.Text)
	}
	if r := p.call(t, "ssh_list_hosts", nil); !slices.Equal(r.Hosts[:4], []string{"web1", "prod-web-1", "db_server", "server.example.com"}) {
		t.Errorf("list: %v", r.Hosts)
	}
	if r := p.call(t, "ssh_describe_host", callArgs{"alias": "web1"}); r.Alias != "web1" || !slices.Equal(r.Tags, []string{"web", "linux"}) {
		t.Errorf("describe: %s", r.Structured)
	}
	if r := p.call(t, "ssh_describe_host", callArgs{"alias": "moon"}); !r.IsError || r.code() != "unknown_host" {
		t.Errorf("describe an unknown host: %s", r.Text)
	}
	r := p.call(t, "ssh_plan", runArgs("web1", "uptime"))
	if !r.Allowed || r.Alias != "web1" || len(r.Hash) != 16 || r.Limits["max_seconds"] != 60. || r.Limits["max_output_bytes"] != float64(1<<20) ||
		r.Limits["require_known_host"] != true || r.Limits["host_key_auto_add"] != false {
		t.Errorf("plan: %s", r.Structured)
	}
	// An unknown alias was judged as a host without tags.
	if r := p.call(t, "ssh_plan", runArgs("moon", "uptime")); !r.IsError || r.code() != "unknown_host" {
		t.Errorf("plan for an unknown host: %s", r.Text)
	}
	if r := p.call(t, "ssh_reload_config", nil); r.IsError || r.Status != "reloaded" {
		t.Errorf("reload: %s", r.Text)
	}
}

func (p *parity) noArguments(t *testing.T) {
	names, err := p.client.Tools(t.Context())
	if err != nil || len(names) < 6 {
		t.Fatalf("tools %v, %v", names, err)
	}
	for _, name := range names {
		for _, args := range []map[string]any{nil, {}, {"alias": ""}, {"alias": nil}, {"alias": "", "command": ""}, {"tag": "", "task_id": ""}} {
			answer, err := p.client.Call(t.Context(), name, args)
			if err != nil || answer.Text == "" || strings.Contains(answer.Text, "internal fault") {
				t.Errorf("%s with %v: %v, %q", name, args, err, answer.Text)
			}
		}
	}
	if last := p.lastLine(t, "audit.jsonl", `"type":"invalid"`); !strings.Contains(last, "bad_arguments") {
		t.Errorf("not on record: %s", last)
	}
}

func (p *parity) denials(t *testing.T) {
	r := p.run(t, "web1", "nc -l 80")
	if !r.IsError || r.Status != "denied" || r.Reason != "policy" || r.Command != "nc -l 80" || r.Alias != "web1" || len(r.Hash) != 16 || !strings.Contains(r.Hint, "ssh_plan") || r.DecisionID == "" || r.code() != "command_program" {
		t.Errorf("policy: %s", r.Structured)
	}
	r = p.run(t, "forbidden", "uptime")
	if !r.IsError || r.Status != "denied" || r.Reason != "network" || r.Hostname != "forbidden.test" || !strings.Contains(r.Detail, forbidden) || r.code() != "network_blocked" || !strings.Contains(r.Reasons[0].Detail, forbidden) || r.Hint == "" {
		t.Errorf("network: %s", r.Structured)
	}
	r = p.call(t, "ssh_plan", runArgs("web1", "nc -l 80"))
	if r.Allowed || r.IsError || len(r.Reasons) == 0 || r.Reasons[0].Remedy == "" || !strings.Contains(r.Why, `"nc"`) || r.Hint == "" || r.Culprit != "" {
		t.Errorf("plan: %s", r.Structured)
	}
	if r = p.call(t, "ssh_plan", runArgs("forbidden", "uptime; df -h")); r.Allowed || r.Culprit != "" {
		t.Errorf("it is not the command's fault: %s", r.Structured)
	}
}

func (p *parity) chains(t *testing.T) {
	for command, culprit := range map[string]string{
		"uptime && df -h": "", "uptime; df -h": "", "df -h || uptime": "", "df -h | tail -1": "", "uptime && df -h; whoami": "",
		"nc -l 80 && uptime": "nc -l 80", "uptime && nc -l 80": "nc -l 80", "uptime; nc -l 80; whoami": "nc -l 80",
		"uptime || nc -l 80": "nc -l 80", "df -h | nc -l 80": "nc -l 80", "uptime & nc -l 80": "nc -l 80", "uptime\nnc -l 80": "nc -l 80",
	} {
		r := p.call(t, "ssh_plan", runArgs("web1", command))
		if r.IsError || r.Allowed != (culprit == "") || r.Culprit != culprit || !strings.Contains(r.Why, culprit) {
			t.Errorf("%q: allowed %v: %s", command, r.Allowed, r.Text)
		}
		if ran := p.run(t, "web1", command); ran.IsError == r.Allowed {
			t.Errorf("%q: planned %v, run %s", command, r.Allowed, ran.Status)
		}
	}
	for _, start := range p.started(t) {
		if strings.HasPrefix(start, "nc") {
			t.Errorf("started %s", start)
		}
	}
}

func (p *parity) addresses(t *testing.T) {
	for alias, address := range map[string]string{"web1": "127.0.0.1", "both": "127.0.0.1", "six": "::1", "literal-six": "::1"} {
		if r := p.run(t, alias, "uptime"); r.Status != "ok" || r.TargetIP != address {
			t.Errorf("%s: %s at %q, want %s: %s", alias, r.Status, r.TargetIP, address, r.Text)
		}
	}
	if r := p.run(t, "unknown", "uptime"); r.code() != "network_unresolved" {
		t.Errorf("a name without an address: %s", r.Text)
	}
	if r := p.run(t, "rebound", "uptime"); r.Status != "ok" {
		t.Errorf("before the name leads elsewhere: %s", r.Text)
	}
	if n := p.names.questions("rebound.test"); n != 1 {
		t.Errorf("%d questions for one call, want 1", n)
	}
	p.names.point("rebound.test", forbidden)
	if r := p.run(t, "rebound", "uptime"); r.code() != "network_blocked" {
		t.Errorf("the name leads to a forbidden address now: %s", r.Text)
	}
	if n := p.trap.connections.Load(); n != 0 {
		t.Errorf("%d connections to the forbidden address", n)
	}
}

func (p *parity) lookups(t *testing.T) {
	limited := func() (r reply) {
		for range 40 { // a busy machine may need longer than a second for eleven
			if r = p.call(t, "ssh_plan", runArgs("unknown", "uptime")); r.code() == "network_lookup_limit" {
				break
			}
		}
		return r
	}
	eventually(t, "look-ups are limited", func() bool { return limited().code() == "network_lookup_limit" })
	if r := p.run(t, "both", "uptime"); r.Status != "ok" {
		t.Errorf("another name is limited, too: %s", r.Text)
	}
	eventually(t, "the name is looked up again", func() bool { return p.run(t, "unknown", "uptime").code() == "network_unresolved" })
}

func (p *parity) execution(t *testing.T) {
	p.write(t, "bin/uname", "#!/bin/sh\necho out; echo err >&2; exit 3\n", 0o755)
	r := p.run(t, "web1", "uname")
	if r.Status != "ok" || r.TaskID == "" || r.ExitCode != 3 || r.TargetIP != "127.0.0.1" ||
		r.Stdout != "out\n" || r.Stderr != "err\n" || r.Output != "out\nerr" || r.BytesOut != 4 || r.BytesErr != 4 {
		t.Errorf("both streams and a status: %s", r.Structured)
	}
	if r := p.run(t, "web1", "uptime"); r.ExitCode != 0 || r.Outcome != "finished" {
		t.Errorf("success: %s", r.Structured)
	}
	r = p.call(t, "ssh_run", runArgs("web1", "echo "+strings.Repeat("x", 5000)).with("max_output_bytes", 1000))
	if !r.Truncated || r.BytesOut != 5001 || len(r.Stdout) > 1200 || r.BytesErr != 0 {
		t.Errorf("cap of stdout: %d of %d bytes, truncated %v", len(r.Stdout), r.BytesOut, r.Truncated)
	}
	// The exit code was always -1; here it is what the host reports of the stopped command.
	r = p.call(t, "ssh_run", runArgs("web1", "sleep 60").with("max_seconds", 1))
	if !r.IsError || !r.Timeout || r.ExitCode == 0 || r.code() != "timeout" {
		t.Errorf("time limit: %s", r.Structured)
	}
}

func (p *parity) failures(t *testing.T) {
	for alias, want := range map[string]struct{ code, says string }{
		"nobody":      {"connection_refused", "refused"},
		"stranger":    {"authentication", "key stranger"},
		"unknown-key": {"host_key_unknown", "known_hosts"},
	} {
		r := p.run(t, alias, "uptime")
		if !r.IsError || r.ExitCode != -1 || r.Outcome != "not_started" || r.code() != want.code || !strings.Contains(r.Output, want.says) {
			t.Errorf("%s: %s", alias, r.Structured)
		}
	}
}

func (p *parity) hash(t *testing.T) {
	hex := regexp.MustCompile(`^[0-9a-f]{16}$`)
	seen := map[string]string{}
	for _, command := range []string{"uptime", "uptime -p", "whoami", "echo ä", "nc"} {
		first, again := p.call(t, "ssh_plan", runArgs("web1", command)), p.run(t, "both", "\n "+command+"\t ")
		if !hex.MatchString(first.Hash) || first.Hash != again.Hash || first.Hash != audit.CommandHash(command) || seen[first.Hash] != "" {
			t.Errorf("%q: hashes %q and %q; %q has it, too", command, first.Hash, again.Hash, seen[first.Hash])
		}
		seen[first.Hash] = command
	}
	if !hex.MatchString(audit.CommandHash("")) {
		t.Error("no hash of an empty command")
	}
}

// What was scrubbed with regular expressions cannot get in here: errors are
// typed, and their causes are for the log. Names and addresses of hosts are
// told on purpose, ssh_describe_host gives them, too; and so is the known_hosts
// file, for the person who has to compare a key.
func (p *parity) errors(t *testing.T) {
	known := strings.NewReplacer(p.dir+"/keys/known_hosts", "known_hosts")
	secretive := []string{p.dir, "goroutine ", ".go:", "panic", base64.StdEncoding.EncodeToString(p.sshd.Key)[:40]}
	for _, r := range []reply{
		p.reloadWith(t, "credentials.yml", "entries: [{name: a, username: a, key_path: missing, key_passphrase_secret: missing}]\n"),
		p.run(t, "nobody", "uptime"), p.run(t, "stranger", "uptime"), p.run(t, "unknown-key", "uptime"), p.run(t, "unknown", "uptime"),
		p.run(t, "forbidden", "uptime"), p.run(t, "moon", "uptime"), p.run(t, "web1", "nc"), p.run(t, "web1", "'"),
	} {
		if !r.IsError || r.code() == "" {
			t.Errorf("no error with a code: %s", r.Structured)
		}
		for _, word := range secretive {
			if strings.Contains(known.Replace(r.Text+string(r.Structured)), word) {
				t.Errorf("the answer has %q: %s", word, r.Text)
			}
		}
	}
}

// What runs on its own was neither held against its peer's address nor recorded.
func (p *parity) async(t *testing.T) {
	for alias, code := range map[string]string{"forbidden": "network_blocked", "unknown": "network_unresolved"} {
		r := p.call(t, "ssh_run_async", runArgs(alias, "uptime"))
		if !r.IsError || r.TaskID != "" || r.code() != code {
			t.Errorf("%s: %s", alias, r.Structured)
		}
		if last := p.lastLine(t, "audit.jsonl", `"alias":"`+alias+`"`); !strings.Contains(last, `"type":"refused"`) || !strings.Contains(last, code) {
			t.Errorf("%s is not on record as refused: %s", alias, last)
		}
	}
	if n := p.trap.connections.Load(); n != 0 {
		t.Errorf("%d connections to the forbidden address", n)
	}
	if r := p.call(t, "ssh_run_async", runArgs("web1", "nc -l 80")); !r.IsError || r.code() != "command_program" {
		t.Errorf("a program that is not granted: %s", r.Structured)
	}
	r := p.call(t, "ssh_run_async", runArgs("web1", "uptime"))
	if r.IsError || r.TaskID == "" {
		t.Fatalf("web1: %s", r.Structured)
	}
	eventually(t, "its end is on record", func() bool {
		last := p.lastLine(t, "audit.jsonl", r.Hash)
		return strings.Contains(last, `"type":"finished"`) && strings.Contains(last, `"target_ip":"127.0.0.1"`)
	})
}

// lastLine is the last line of a log that holds a text.
func (s site) lastLine(t *testing.T, file, text string) (last string) {
	t.Helper()
	for _, line := range readLinesOf(t, s.dir+"/"+file) {
		if strings.Contains(line, text) {
			last = line
		}
	}
	return last
}

// T11: what is set and does not count is told at the start, in the log and on
// record.
func TestOrchestratorT11(t *testing.T) {
	s := newSite(t)
	s.write(t, "policy.yml", "limits: {host_key_auto_add: true}\nnetwork: {require_known_host: false}\nrules:\n  - {action: allow, profile: readonly}\n", 0o600)
	var stderr strings.Builder
	st, err := assemble(t.Context(), stackOptions{
		load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: s.dir, Env: noEnv}) },
		stderr: &stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.gateway.Reload(t.Context(), "test"); err != nil {
		t.Error(err)
	}
	if err := st.close(t.Context()); err != nil {
		t.Error(err)
	}
	records := strings.Join(auditLines(t, s), "\n")
	for _, want := range []string{"limits.host_key_auto_add: true is ignored", "network.require_known_host: false is ignored"} {
		if strings.Count(records, want) != 2 {
			t.Errorf("%q is not on record at the start and at the reload:\n%s", want, records)
		}
	}
	if stderr.Len() != 0 {
		t.Errorf("log_level is error, and the log has %s", stderr.String())
	}
}

// R5: a client that starts the orchestrator by its variables can start this
// instead: stdout has MCP and nothing else, stderr has lines of JSON and nothing
// else, at debug level too, and the secret that was injected logs in.
func TestOrchestratorServes(t *testing.T) {
	s := newSite(t)
	encrypt := exec.Command(sshtest.Require(t, "ssh-keygen", "openssh-client"), "-q", "-p", "-P", "", "-N", "correct horse", "-f", s.dir+"/keys/login")
	if out, err := encrypt.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	for from, to := range map[string]string{"keys": "mnt-keys", "sallyport.yml": "unused.yml"} {
		if err := os.Rename(s.dir+"/"+from, s.dir+"/"+to); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, "credentials.yml", fmt.Sprintf("entries:\n  - name: test\n    username: %s\n    key_path: %s/mnt-keys/login\n"+
		"    key_passphrase_secret: login_phrase\n    password_secret: \"\"\n", osUser(), s.dir), 0o600)
	s.write(t, "policy.yml", "known_hosts_path: mnt-keys/known_hosts\nlimits: {host_key_auto_add: true}\nrules:\n  - {action: allow, profile: readonly}\n", 0o600)
	gateway := gatewayProcess(t, "serve")
	gateway.Env = append(os.Environ(), "MCP_SSH_CONFIG_DIR="+s.dir, "MCP_SSH_KEYS_DIR="+s.dir+"/mnt-keys", "MCP_SSH_SECRETS_DIR="+s.dir+"/none",
		"LOGIN_PHRASE=correct horse", "SALLYPORT_SECRETS_ENV_ALLOW=LOGIN_PHRASE", "SALLYPORT_POLICY_TIMEOUT=1s", "SALLYPORT_LOG_LEVEL=debug")
	files := map[string]*os.File{}
	for _, name := range []string{"stdout", "stderr"} {
		f, err := os.Create(s.dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[name] = f
	}
	gateway.Stdout, gateway.Stderr = files["stdout"], files["stderr"]
	stdin, err := gateway.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"e2e","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"ssh_run","arguments":{"alias":"readonly","command":"echo hello"}}}`,
	} {
		fmt.Fprintln(stdin, message)
	}
	eventually(t, "the command ran", func() bool { return s.lastLine(t, "stdout", `"id":2`) != "" })
	stdin.Close()
	if err := gateway.Wait(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	for name := range files {
		for _, line := range readLinesOf(t, s.dir+"/"+name) {
			if !json.Valid([]byte(line)) || strings.Contains(line, "correct horse") || name == "stderr" && strings.Contains(line, "hello") {
				t.Errorf("on %s: %s", name, line)
			}
		}
	}
	for text, file := range map[string]string{
		`"stdout":"hello\n"`: "stdout", "host_key_auto_add: true is ignored": "stderr", `"type":"finished"`: "stderr", `"decision_id":`: "stderr",
	} {
		if s.lastLine(t, file, text) == "" {
			t.Errorf("%s lacks %s", file, text)
		}
	}
}
