package tool_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// A file that a command names and one that a tool names meet the same rules. The
// judge is the shipped policy; the cases come from the table of programs.

// forms are how programs are told of a path. Of each program those count that
// Derive reads as being about this path alone.
var forms = []string{
	"%[1]s", "x %[1]s", "%[1]s %[1]s", "-r %[1]s", "-R x %[1]s", "-a %[1]s %[1]s", "-t %[1]s %[1]s", "-i s/a/b/ %[1]s",
	"-o %[1]s", "-f %[1]s", "-f %[1]s x", "-w %[1]s", "-r %[1]s x:/y", "--reference=%[1]s %[1]s", "--log-file=%[1]s %[1]s",
	"if=%[1]s", "of=%[1]s", "cf %[1]s %[1]s", "tf %[1]s", "xf %[1]s -C %[1]s", "-C %[1]s status", "-C %[1]s pull",
	"-e %[1]s", "-u x --cursor-file=%[1]s", "-d @%[1]s http://localhost/", "-oN %[1]s", "cp web:/x %[1]s", "-O %[1]s http://x/y",
	"--result-file=%[1]s", "%[1]s -delete",
}

// odd are programs that speak of files in a way of their own.
var odd = []string{"find", "dd", "tar", "test", "[", "git", "docker", "podman", "nerdctl", "sqlite3"}

// filesOf are the file ops of a line.
func filesOf(line string) []tool.Op {
	var ops []tool.Op
	for _, op := range tool.Derive(shell.Parse(line)) {
		if op.Place == "host" {
			ops = append(ops, op)
		}
	}
	return ops
}

// linesAbout are command lines of a program that are about nothing but a path, one
// for each thing that the program does.
func linesAbout(program, name string) []string {
	var lines []string
	done := map[string]bool{}
	clean := tool.FileOp(tool.FileRead, name).Path
	for _, form := range forms {
		line := program + " " + fmt.Sprintf(form, shell.Quote(name))
		ops := filesOf(line)
		does := ""
		for _, op := range ops {
			does += fmt.Sprintln(op.Action, op.Recursive, op.Path == clean)
		}
		if len(ops) > 0 && !strings.Contains(does, "false\n") && !done[does] {
			done[does] = true
			lines = append(lines, line)
		}
	}
	return lines
}

func TestEveryFileProgramHasCases(t *testing.T) {
	n := 0
	for _, program := range tool.Programs() {
		if tool.NamesFiles(program) || slices.Contains(odd, program) {
			n++
			if len(linesAbout(program, "/srv/a")) == 0 {
				t.Errorf("%s: no form is about one path", program)
			}
		}
	}
	if n < 90 {
		t.Errorf("only %d programs", n)
	}
}

const anyCommand = `package custom.any

permit contains op if {
	some op in input.ops
	op.action == "shell.run"
}
`

// judges are rules on files, and the paths that they are tried on.
var judges = map[string]struct {
	rules string
	paths []string
}{
	"a directory, but for a part": {
		`[{action: allow, read: [/srv/app/**, /etc/hosts], write: [/srv/app/**]},
		  {action: deny, read: [/srv/app/keys/**], write: [/srv/app/*.pem]}]`,
		[]string{
			"/srv/app", "/srv/app/a", "/srv/app/a.pem", "/srv/app/keys", "/srv/app/keys/a", "/srv/app/key",
			"/srv", "/etc/hosts", "/srv/app/../app/a", "a",
		},
	},
	"single files": {
		`[{action: allow, subjects: [agent-7], read: [/srv/a, "/srv/*/logs/*.log"], write: ["/srv/a", "/srv/?.d/**"]}]`,
		[]string{"/srv/a", "/srv/a/b", "/srv/x/logs/y.log", "/srv/x/logs/y", "/srv/x.d", "/srv/x.d/y z", "/srv"},
	},
	"writes alone": {
		`[{action: allow, groups: [aiops], tags: [web], write: [/srv/**]}]`,
		[]string{"/srv/a", "/etc/passwd"},
	},
}

func TestCommandsAndToolsAlike(t *testing.T) {
	for name, judge := range judges {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engine(t, "files: "+judge.rules, anyCommand)
			allowed, refused := 0, 0
			said := map[string]tool.Decision{} // to a tool
			for _, program := range tool.Programs() {
				for _, path := range judge.paths {
					for _, line := range linesAbout(program, path) {
						d := e.decide(t, tool.RunLine(line))
						steps := typed(line, path)
						key := fmt.Sprint(steps)
						if _, ok := said[key]; !ok {
							said[key] = e.decide(t, steps...)
						}
						alike(t, line, d, said[key])
						if d.Allow {
							allowed++
						} else {
							refused++
						}
					}
				}
			}
			t.Logf("%d allowed, %d refused", allowed, refused)
			if allowed < 20 || refused < 20 {
				t.Error("the test does not look at both sides")
			}
		})
	}
}

// typed are the steps of a tool that means what a line does.
func typed(line, path string) []tool.Step {
	var steps []tool.Step
	for _, d := range filesOf(line) {
		op := tool.FileOp(d.Action, path)
		op.Recursive = d.Recursive
		steps = append(steps, tool.Step{Op: op, Do: tool.Locate{Path: path}})
	}
	return steps
}

func alike(t *testing.T, line string, command, tools tool.Decision) {
	t.Helper()
	if diff := cmp.Diff(reasons(tools), reasons(command)); diff != "" || command.Allow != tools.Allow {
		t.Errorf("%s: allowed %t, to a tool %t (-tool +command)\n%s", line, command.Allow, tools.Allow, diff)
	}
}

func reasons(d tool.Decision) []string {
	var all []string
	for _, r := range d.Reasons {
		all = append(all, r.Code+" "+r.Detail)
	}
	return all
}

// Without a rule that allows, a tool reads what cat and ls of the profile may, and
// programs that read the same files say the same of every path.
func TestProfilesAndToolsAlike(t *testing.T) {
	paths := []string{
		"/var/log", "/var/log/", "/var/log/a b", "/var/log/nginx/e.log", "/var/logs", "/var", "/", "/etc", "/etc/hosts",
		"/etc/hostname/x", "/etc/shadow", "/opt/x", "/srv", "/proc/uptime", "/var/log/*", "/var/log/../log/a", "a", "", "-", "..",
	}
	for rules, denied := range map[string]string{
		"files: []": "/var/log/none",
		"files: [{action: deny, read: [/var/log/nginx/**]}]":                 "/var/log/nginx/e.log",
		"files: [{action: deny, write: [/**]}]":                              "/var/log/none",
		"files: [{action: allow, subjects: [agent-8], read: [/var/log/**]}]": "/var/log/none",
	} {
		e := engine(t, rules, "")
		for profile, programs := range map[string]map[tool.Action][]string{
			"readonly": {tool.FileRead: {"cat", "head", "tail", "wc", "grep x"}, tool.FileList: {"ls", "ls -la"}},
			"diagnose": {tool.FileRead: {"cat", "sort", "cut -f1", "awk '{print $1}'", "sed -n 5p"}, tool.FileList: {"ls"}},
			"ops":      {tool.FileRead: {"sudo -n cat"}, tool.FileList: {"ls"}},
		} {
			for action, lines := range programs {
				for _, path := range paths {
					want := e.on(profile).decide(t, tool.LocateFile(action, path)).Allow
					if want && path == denied {
						t.Errorf("%s: %s %s is allowed", rules, action, path)
					}
					for _, line := range lines {
						line += " -- " + shell.Quote(path)
						if strings.HasPrefix(line, "sudo") {
							line = strings.Replace(line, "-- ", "", 1)
						}
						if path == "-" || path == "" {
							continue // stdin, and no file at all
						}
						if got := e.on(profile).decide(t, tool.RunLine(line)); got.Allow != want {
							t.Errorf("%s: %q in %s: allowed %t, to a tool %t: %v", rules, line, profile, got.Allow, want, got.Reasons)
						}
					}
				}
			}
		}
	}
}

// Rules on the words of commands, and texts that are denied, hold for tools as
// they do for cat and ls.
func TestRulesAndToolsAlike(t *testing.T) {
	e := engine(t, `limits: {deny_substrings: ["private", "sh "]}`, "",
		"{action: allow, binary: cat, path_args: {indices: [1], patterns: [/srv/*]}}",
		"{action: allow, commands: ['ls /home*']}",
		"{action: deny, binary: cat, path_args: {indices: [1], patterns: [/var/log/secret*]}}",
		"{action: deny, commands: ['ls /opt*', 'cat /etc/hosts']}",
	)
	allowed := 0
	for _, path := range []string{
		"/srv/a", "/srv/a/b", "/srv", "/home", "/homes/a", "/home/a", "/var/log/a", "/var/log/secrets", "/var/log/private", "/opt/x",
		"/etc/hosts", "/etc/hostname", "/etc/shadow", "/srv/../etc/shadow", "/srv/*", "/srv/a b", "/root",
	} {
		for program, action := range map[string]tool.Action{"cat": tool.FileRead, "ls": tool.FileList} {
			line := program + " " + shell.Quote(path)
			command, tools := e.decide(t, tool.RunLine(line)), e.decide(t, tool.LocateFile(action, path))
			if command.Allow != tools.Allow {
				t.Errorf("%s: allowed %t, to a tool %t: %v", line, command.Allow, tools.Allow, append(command.Reasons, tools.Reasons...))
			}
			if command.Allow {
				allowed++
			}
		}
	}
	if allowed < 10 || allowed > 24 {
		t.Errorf("%d are allowed", allowed)
	}
}

// A path that begins in the directory of the call is judged as the whole of it.
func TestWorkingDirectory(t *testing.T) {
	for _, rules := range []string{"", "files: [{action: allow, read: [/var/log/**, /srv/**]}]"} {
		e := engine(t, rules, "")
		for _, profile := range []string{"readonly", "diagnose"} {
			for _, tt := range []struct{ cwd, line, same string }{
				{"/var/log", "cat a", "cat /var/log/a"},
				{"/var/log", "cat nginx/a b", "cat /var/log/nginx/a /var/log/b"},
				{"/var", "cat log/a", "cat /var/log/a"},
				{"/var", "cat a", "cat /var/a"},
				{"/", "cat etc/hosts", "cat /etc/hosts"},
				{"/srv", "ls", "ls /srv"},
				{"/srv", "ls -la app", "ls -la /srv/app"},
				{"/root", "ls", "ls /root"},
				{"/root", "du -sh", "du -sh /root"},
				{"/root", "ls .ssh", "ls /root/.ssh"},
				{"/root", "uptime", "uptime"},
				{"/root", "cat /var/log/a", "cat /var/log/a"},
				{"/root", "cat /var/log/a | grep x", "cat /var/log/a | grep x"},
				{"/var/log", "grep -r x nginx", "grep -r x /var/log/nginx"},
				{"/var/log", "cat ../log/a", "cat /var/log/../log/a"},
				{"/var/log/nginx", "ls ..", "ls /var/log/nginx/.."},
				{"/var/log", "test -f a", "test -f /var/log/a"},
				{"/etc", "test -f shadow", "test -f /etc/shadow"},
				{"/root", "test -f x", "test -f /root/x"},
			} {
				in := tool.Plan{Steps: []tool.Step{tool.RunLine(tt.line)}}.In(tt.cwd)
				got := e.on(profile).decide(t, in.Steps...)
				want := e.on(profile).decide(t, tool.RunLine(tt.same))
				if got.Allow != want.Allow {
					t.Errorf("%q in %s: allowed %t, %q %t: %v", tt.line, tt.cwd, got.Allow, tt.same, want.Allow, append(got.Reasons, want.Reasons...))
				}
				if strings.Contains(tt.line, "..") && got.Allow {
					t.Errorf("%q in %s is allowed", tt.line, tt.cwd)
				}
			}
		}
	}
}

// host is the shipped policy with what an operator wrote, asked about one host.
type host struct {
	*policy.Engine
	alias string
}

// on is the host whose callers have a profile.
func (h host) on(profile string) host { return host{h.Engine, profile} }

// engine has a host for each profile, called like it, on which it is granted, and
// the rules that are given, those on hosts among them.
func engine(t *testing.T, rules, custom string, grants ...string) host {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"credentials.yml": "entries: [{name: ops, username: ops, agent: true}]",
		"servers.yml":     "hosts: []",
		"policy.yml":      rules + "\nrules: []\n",
	}
	var hosts []string
	for _, profile := range []string{"readonly", "diagnose", "ops"} {
		hosts = append(hosts, fmt.Sprintf("{alias: %s, host: %s.internal, credentials: ops, tags: [web]}", profile, profile))
		grants = append(grants, fmt.Sprintf("{action: allow, aliases: [%s], profile: %s}", profile, profile))
	}
	files["servers.yml"] = "hosts: [" + strings.Join(hosts, ", ") + "]"
	files["policy.yml"] = rules + "\nrules: [" + strings.Join(grants, ", ") + "]\n"
	write(t, dir, files)
	conf, err := config.Load(config.Options{Dir: dir, WithoutSecrets: true, Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	o := policy.Options{Site: conf.Site(), Timeout: 30 * time.Second}
	if custom != "" {
		o.Custom = []string{t.TempDir()}
		write(t, o.Custom[0], map[string]string{
			".manifest": `{"revision": "1", "rego_version": 1, "roots": ["custom/any"]}`, "any.rego": custom,
		})
	}
	e, err := policy.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(t.Context()) })
	return host{e, "readonly"}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (h host) decide(t *testing.T, steps ...tool.Step) tool.Decision {
	t.Helper()
	address := netip.MustParseAddr("10.0.0.11")
	return h.Decide(t.Context(), policy.NewInput(policy.Facts{
		Tool:   &tool.Tool{Name: "t", Set: "s", Effect: tool.Execute},
		Caller: tool.Caller{Subject: "agent-7", Groups: []string{"aiops"}, Auth: "token", Transport: "http"},
		Plan:   tool.Plan{Scope: tool.Scope{Alias: h.alias}, Steps: steps},
		Target: tool.Target{
			Alias: h.alias, Hostname: h.alias + ".internal", Port: 22, User: "ops", Kind: "posix", Source: "inventory",
			Auth: "agent", Tags: []string{"web"}, Addresses: []netip.Addr{address}, Address: address,
		},
		Now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
	}), policy.Mark{Mode: "plan"})
}
