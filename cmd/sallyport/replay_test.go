package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/replay"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

// voyage is a harbour with a rule of each kind that policy.yml has, and with one of
// each that nobody makes use of.
type voyage struct {
	*harbour
	scratchDir string
}

const voyagePolicy = `version: 3
limits: {max_seconds: 60, deny_substrings: ["rm -rf /"]}
rules:
  - {name: look, action: allow, aliases: [bastion], profile: readonly}
  - {name: idle-profile, action: allow, aliases: [inner], profile: ops}
  - {name: words, action: allow, aliases: [bastion, inner], simple_binaries: ["true", "id", tty], simple_max_args: 1}
  - {name: sleep, action: allow, aliases: [bastion], binary: sleep, arg_prefix: ["0"], allow_extra_args: false}
  - {name: idle-words, action: allow, aliases: [bastion], commands: ["docker ps*"]}
  - {name: no-id, action: deny, aliases: [bastion], binary: id, arg_prefix: ["-u"]}
  - {name: idle-deny, action: deny, simple_binaries: [reboot]}
  - {name: in-the-lab, action: allow, tags: [lab], profile: readonly}
files:
  - {name: work, action: allow, aliases: [bastion, inner], read: [%[1]s/work/**, /etc/hosts], write: [%[1]s/work/**]}
  - {name: idle-files, action: allow, aliases: [bastion], read: [/opt/idle/**]}
  - {name: secret, action: deny, read: [%[1]s/work/secret/**], write: [%[1]s/work/secret/**]}
  - {name: idle-secret, action: deny, read: [/root/**]}
connect:
  adhoc:
    - {name: lab, action: allow, cidrs: [127.0.0.3/32], ports: [%[2]d], users: [%[3]s], keys: [login], tags: [lab], via: [bastion]}
    - {name: idle-lab, action: allow, cidrs: [10.9.0.0/16], ports: [22], users: [%[3]s], tags: [lab]}
    - {name: not-there, action: deny, cidrs: [127.0.0.5/32], ports: [%[2]d]}
    - {name: idle-not-there, action: deny, cidrs: [10.9.9.9/32]}
`

// newVoyage has a client use connections, commands, files and questions, well and
// badly.
func newVoyage(t *testing.T) *voyage {
	t.Helper()
	v := &voyage{harbour: newHarbour(t, false)}
	v.scratchDir = v.scratch(t)
	work := filepath.Join(v.scratchDir, "work")
	for _, dir := range []string{work, filepath.Join(work, "secret")} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	lab := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Host: "127.0.0.3", Login: v.first})
	v.write(t, "keys/known_hosts", v.first.KnownLine+"\n"+v.second.KnownLine+"\n"+lab.KnownLine+"\n", 0o600)
	v.write(t, "policy.yml", fmt.Sprintf(voyagePolicy, v.scratchDir, lab.Addr.Port(), v.user), 0o600)
	if _, err := v.stack.gateway.Reload(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	s := v.session(t)
	for _, c := range []struct {
		tool   string
		args   callArgs
		status string
	}{
		{"connect", callArgs{"host": "bastion"}, "ok"},
		{"connect", callArgs{"host": "inner"}, "ok"},
		{"connect", v.to(lab, "alias", "lab", "via", "bastion"), "ok"},
		{"connect", v.to(lab, "alias", "far", "host", "127.0.0.5"), "denied"},
		{"connect", v.to(lab, "alias", "other", "username", "root"), "denied"},
		{"identity", nil, "ok"},
		{"info", callArgs{"target": "bastion"}, "ok"},
		{"info", callArgs{"target": "lab"}, "ok"},
		{"run", callArgs{"target": "bastion", "command": "uptime"}, "ok"},
		{"run", callArgs{"target": "bastion", "command": "uptime", "cwd": work}, "ok"},
		{"run", callArgs{"target": "bastion", "command": "true && sleep 0"}, "ok"},
		{"run", callArgs{"target": "bastion", "command": "sleep 1"}, "denied"},
		{"run", callArgs{"target": "bastion", "command": "id -u"}, "denied"},
		{"run", callArgs{"target": "bastion", "command": "echo $(id)"}, "denied"},
		{"run", callArgs{"target": "bastion", "command": "rm -r --force /"}, "denied"},
		{"run", callArgs{"target": "bastion", "command": "tail -n 1 " + work + "/a"}, "denied"},
		{"run", callArgs{"target": "bastion", "command": "cat /etc/hosts"}, "ok"},
		{"run", callArgs{"target": "lab", "command": "uptime"}, "ok"},
		{"write", callArgs{"target": "bastion", "path": work + "/a", "content": "one\n"}, "ok"},
		{"write", callArgs{"target": "bastion", "path": work + "/secret/a", "content": "one\n"}, "denied"},
		{"write", callArgs{"target": "lab", "path": "/tmp/a", "content": "one\n"}, "denied"},
		{"read", callArgs{"target": "inner", "path": work + "/a"}, "ok"},
		{"read", callArgs{"target": "bastion", "path": work + "/secret/a"}, "denied"},
		{"read", callArgs{"target": "lab", "path": "/etc/hosts"}, "ok"},
		{"edit", callArgs{"target": "bastion", "path": work + "/a", "old_text": "one", "new_text": "{}"}, "ok"},
		{"validate", callArgs{"target": "bastion", "path": work + "/a", "type": "json"}, "ok"},
		{"list_dir", callArgs{"target": "bastion", "path": work}, "ok"},
		{"ssh_list_hosts", nil, "ok"},
		{"ssh_describe_host", callArgs{"alias": "inner"}, "ok"},
		{"ssh_describe_host", callArgs{"alias": "stranger"}, "denied"},
		{"ssh_plan", callArgs{"alias": "inner", "command": "tty"}, "ok"},
		{"ssh_run", callArgs{"alias": "inner", "command": "tty"}, "ok"},
		{"sync", callArgs{"source_node": "bastion", "source_path": work + "/a", "dest_node": "inner", "dest_path": work + "/b"}, "ok"},
		{"disconnect", callArgs{"alias": "lab"}, "ok"},
	} {
		if got := s.call(c.tool, c.args); got.Status != c.status {
			t.Errorf("%s %v: %s", c.tool, c.args, got.Text)
		}
	}
	return v
}

// replayed runs sallyport replay over the gateway's log, by some configuration.
func (v *voyage) replayed(t *testing.T, config string, args ...string) (r replay.Report, exit int) {
	t.Helper()
	cmd := gatewayProcess(t, append([]string{"replay", "--config", config, "--log", filepath.Join(v.dir, "decisions.jsonl"), "--output", "json"}, args...)...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	exit = cmd.ProcessState.ExitCode()
	if err := json.Unmarshal(out, &r); err != nil || exit == exitError1 {
		t.Fatalf("%v: %s", err, out)
	}
	return r, exit
}

// changed is a copy of the configuration in which policy.yml has other lines.
func (v *voyage) changed(t *testing.T, line func(string) string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "changed")
	if err := os.CopyFS(dir, os.DirFS(v.dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "policy.yml")
	var text strings.Builder
	for old := range strings.Lines(string(must(os.ReadFile(path))(t))) {
		text.WriteString(line(old))
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What a gateway decided with all that policy.yml and the tools have is judged
// alike again, and the rules that nobody made use of are those.
func TestReplayOfAllTools(t *testing.T) {
	v := newVoyage(t)
	page := filepath.Join(t.TempDir(), "report.html")
	r, exit := v.replayed(t, v.dir, "--unused", "30", "--html", page)
	decided := v.decisions(t)
	if exit != 0 || r.Decisions != decided || r.Unchanged != decided || r.Changed.All != 0 || len(r.NotJudged)+len(r.Problems) > 0 {
		t.Errorf("exit code %d, %d decisions, %d unchanged of %d; %+v", exit, decided, r.Unchanged, r.Decisions, r)
	}
	var idle []string
	for _, rule := range r.Unused.Rules {
		if rule.Kind == policy.KindSite {
			idle = append(idle, rule.Name)
		}
	}
	want := []string{"idle-profile", "idle-words", "idle-deny", "idle-files", "idle-secret", "idle-lab", "idle-not-there"}
	if diff := cmp.Diff(want, idle); diff != "" {
		t.Errorf("rules of no use (-want +got):\n%s", diff)
	}
	if words := string(must(os.ReadFile(page))(t)); !strings.Contains(words, "idle-not-there") || !strings.Contains(words, "nothing would change") {
		t.Errorf("the page: %s", words)
	}
	busy := v.changed(t, func(line string) string {
		if strings.Contains(line, "name: idle-") {
			return "#\n"
		}
		return line
	})
	if r, _ := v.replayed(t, busy); r.Judged != decided || r.Changed.NewlyDenied+r.Changed.NewlyAllowed > 0 {
		t.Errorf("without the rules of no use: %+v", r.Changed)
	}
}

// loggedCall is what the tests look at of a record.
type loggedCall struct {
	DecisionID string `json:"decision_id"`
	Input      struct {
		Host struct{ Alias string }
		Ops  []struct {
			Action, Path string
			Command      struct{ Text string }
		}
	}
	Result struct {
		Allow   bool
		Reasons []struct{ Code string }
	}
}

func (c loggedCall) does(action, word string) bool {
	for _, op := range c.Input.Ops {
		if op.Action == action && strings.Contains(op.Path+op.Command.Text, word) {
			return true
		}
	}
	return false
}

// A change of any kind of rule is found in just the decisions that it changes.
func TestReplayOfChangedRules(t *testing.T) {
	v := newVoyage(t)
	for name, c := range map[string]struct {
		replace []string
		change  policy.Change
		hits    func(loggedCall) bool
	}{
		"no files are written": {
			[]string{"/etc/hosts], write: [" + v.scratchDir + "/work/**]", "/etc/hosts]"},
			policy.NewlyDenied,
			func(c loggedCall) bool { return c.Result.Allow && c.does("file.write", "/work/") },
		},
		"secrets are files like others": {
			[]string{"{name: secret, action: deny, read: [" + v.scratchDir + "/work/secret/**]", "{name: secret, action: deny, read: [/nowhere]", "write: [" + v.scratchDir + "/work/secret/**]", "write: [/nowhere]"},
			policy.NewlyAllowed, func(c loggedCall) bool { return !c.Result.Allow && c.Result.Reasons[0].Code == "file_denied" },
		},
		"no lab": {
			[]string{"{name: lab, action: allow, cidrs: [127.0.0.3/32]", "{name: lab, action: allow, cidrs: [127.0.0.9/32]"},
			policy.NewlyDenied,
			func(c loggedCall) bool {
				return c.Result.Allow && c.Input.Host.Alias == "lab" && !c.does("conn.close", "")
			},
		},
		"it is not forbidden, but not allowed": {
			[]string{"{name: not-there, action: deny, cidrs: [127.0.0.5/32]", "{name: not-there, action: deny, cidrs: [127.0.0.9/32]"},
			policy.ReasonChange,
			func(c loggedCall) bool { return !c.Result.Allow && c.Result.Reasons[0].Code == "host_adhoc_denied" },
		},
		"id is a command like others": {
			[]string{`arg_prefix: ["-u"]`, `arg_prefix: ["-x"]`},
			policy.NewlyAllowed,
			func(c loggedCall) bool { return c.does("shell.run", "id -u") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, exit := v.replayed(t, v.changed(t, strings.NewReplacer(c.replace...).Replace), "--examples", "1000")
			if exit != 2 || r.Judged != v.decisions(t) {
				t.Errorf("exit code %d, judged %d", exit, r.Judged)
			}
			got := map[string]policy.Change{}
			for _, e := range r.Examples {
				if e.Change == c.change {
					got[e.DecisionID] = e.Change
				} else if e.Change != policy.ReasonChange {
					t.Errorf("%s: %s", e.Change, e.Does)
				}
			}
			want := map[string]policy.Change{}
			for _, line := range readLinesOf(t, filepath.Join(v.dir, "decisions.jsonl")) {
				var logged loggedCall
				if err := json.Unmarshal([]byte(line), &logged); err != nil {
					t.Fatal(err)
				}
				if c.hits(logged) {
					want[logged.DecisionID] = c.change
				}
			}
			if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
