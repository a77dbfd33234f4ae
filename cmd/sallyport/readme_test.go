package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tools"
)

// The README has a row for each tool and each resource.
func TestReadmeNamesEveryTool(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for i, name := range strings.Split(cells[1], "`") {
			if i%2 == 1 {
				rows[name] = true
			}
		}
	}
	for _, def := range tools.All() {
		if !rows[def.Name] {
			t.Errorf("no row for %s", def.Name)
		}
	}
	for _, r := range tools.Resources() {
		name, _, _ := strings.Cut(strings.TrimSuffix(r.URI, "/tags"), " ")
		if !rows[name] {
			t.Errorf("no row for %s", name)
		}
	}
}

// section is the part of a document under a heading.
func section(t *testing.T, file, heading string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no section %s", file, heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// typed is a line of a document that calls the program, from a prompt if one
// is shown.
var typed = regexp.MustCompile(`(?m)^    (?:\$ )?((?:[A-Z_]+=\S+ )*(?:\./)?sallyport .*)$`)

// What the documents say to type works as it stands, in their order, right after
// init and in a directory with nothing else in it but what is given here.
func TestDocumentedCommandsWork(t *testing.T) {
	for _, tc := range []struct {
		file, heading string
		given         map[string]string
		codes         map[int]int // of those that do not end with 0
	}{
		{file: "../../README.md", heading: "Use it"},
		{file: "../../README.md", heading: "What is allowed", codes: map[int]int{0: exitDenied}},
		{file: "../../deploy/README.md", heading: "Configuration"},
		{file: "../../deploy/README.md", heading: "Coming from mcp-ssh-orchestrator", given: map[string]string{
			"config/servers.yml":     "hosts: [{alias: web1, host: 10.0.0.11, credentials: web}]\n",
			"config/credentials.yml": "entries: [{name: web, username: ubuntu, agent: true}]\n",
			"config/policy.yml":      "rules: [{action: allow, aliases: [web1], commands: [\"tail -n 200 /var/log/syslog\"]}]\n",
		}},
	} {
		t.Run(filepath.Base(filepath.Dir(tc.file))+" "+tc.heading, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tc.given {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			lines := typed.FindAllStringSubmatch(section(t, tc.file, tc.heading), -1)
			if len(lines) == 0 {
				t.Fatal("the section has no command any more")
			}
			for i, line := range lines {
				documented(t, dir, line[1], tc.codes[i])
			}
		})
	}
}

// The examples in the help work as they stand, in the directory that the first of
// them makes.
func TestHelpExamplesWork(t *testing.T) {
	dir := t.TempDir()
	cases := `{"command": "uptime", "policy_context": "readonly"}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "cases.jsonl"), []byte(cases), 0o600); err != nil {
		t.Fatal(err)
	}
	root := rootCommand()
	for _, name := range []string{"", "serve", "validate", "plan", "help", "version"} {
		c, _, err := root.Find(strings.Fields(name))
		if err != nil || c.Example == "" {
			t.Fatalf("%q has no example: %v", name, err)
		}
		for line := range strings.Lines(c.Example) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "sallyport demo") { // it has a story of its own
				documented(t, dir, line, exitDone)
			}
		}
	}
}

// documented types a line into a shell in dir. What serves over HTTP is told to
// end once it serves, and listens where there is room.
func documented(t *testing.T, dir, line string, code int) {
	t.Helper()
	serves := strings.Contains(line, "--transport http")
	if serves {
		line = "exec " + regexp.MustCompile(`--listen \S+`).ReplaceAllString(line, "--listen 127.0.0.1:0")
	}
	program := gatewayProcess(t).Path
	shell := exec.Command("sh", "-c", strings.ReplaceAll(line, "./sallyport ", "sallyport "))
	shell.Dir, shell.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "HOME="+dir)
	var out strings.Builder
	shell.Stdout, shell.Stderr = &out, &out
	if !serves {
		err := shell.Run()
		if got := shell.ProcessState.ExitCode(); got != code {
			t.Errorf("%s\nends with %d (%v), want %d:\n%s", line, got, err, code, out.String())
		}
		return
	}
	shell.Stderr = nil
	stderr, err := shell.StderrPipe()
	if err == nil {
		err = shell.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	servingURL(t, stderr)
	_ = shell.Process.Signal(syscall.SIGTERM)
	if err := shell.Wait(); err != nil {
		t.Errorf("%s\nends with %v", line, err)
	}
}

// block is a fenced block of a document, with its language.
var block = regexp.MustCompile("(?s)```(yaml|json)\n(.*?)```")

// A policy.yml that is shown loads without a warning but of hosts that are not
// there, and what is shown to a client is JSON.
func TestDocumentedFilesLoad(t *testing.T) {
	for _, file := range []string{"../../README.md", "../../deploy/README.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range block.FindAllStringSubmatch(string(text), -1) {
			switch {
			case b[1] == "json":
				if !json.Valid([]byte(b[2])) {
					t.Errorf("%s: no JSON: %s", file, b[2])
				}
			case strings.Contains(b[2], "rules:"):
				dir := filepath.Join(t.TempDir(), "config")
				if _, err := config.Init(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "policy.yml"), []byte(b[2]), 0o600); err != nil {
					t.Fatal(err)
				}
				conf, err := config.Load(config.Options{Dir: dir, Env: noEnv, WithoutSecrets: true})
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				for _, w := range conf.Warnings {
					if !strings.Contains(w.Message, "no host has a matching") {
						t.Errorf("%s: %s", file, w)
					}
				}
			}
		}
	}
}
