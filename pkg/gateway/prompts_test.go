package gateway

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tool"
	"github.com/sallyport/sallyport/pkg/tools"
	"github.com/sallyport/sallyport/policies"
)

// guides are all prompts, as one caller with everything and one with nothing
// gets them.
func guides(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, g := range guided(t) {
		for _, p := range g.Prompts() {
			text, ok := g.Prompt(t.Context(), tool.Caller{Subject: "agent-7", Auth: "local"}, p.Name)
			if !ok || p.Title == "" || p.Doc == "" {
				t.Errorf("%s: %v, %+v", p.Name, ok, p)
			}
			texts[p.Name] += text + "\n---\n"
		}
	}
	return texts
}

func guided(t *testing.T) []*Gateway {
	full, _ := judged(t, inventory, rules, "")
	empty, _ := judged(t, inventory, "rules: []\nreload: {local: false}\n", "")
	full.profileNames = policies.Profiles()
	empty.profileNames = policies.Profiles()
	return []*Gateway{full, empty}
}

func TestPromptNames(t *testing.T) {
	want := []string{
		"ssh_orchestrator_usage", "ssh_policy_denied_guidance", "ssh_network_denied_guidance",
		"ssh_missing_host_guidance", "ssh_missing_credentials_guidance", "ssh_config_change_workflow",
	}
	var got []string
	for _, p := range prompts {
		got = append(got, p.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("prompts %v", got)
	}
	_, g := newWorld(t)
	if _, ok := g.Prompt(t.Context(), agent, "no_such_prompt"); ok {
		t.Error("there is a prompt of any name")
	}
}

// Each name between backquotes is that of something: a text cannot teach what
// is not there.
func TestPromptsNameWhatExists(t *testing.T) {
	known := vocabulary(t)
	for name, text := range guides(t) {
		words := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1)
		if len(words) < 3 {
			t.Errorf("%s names %d things", name, len(words))
		}
		for _, w := range words {
			if !known[w[1]] {
				t.Errorf("%s names %q, which is nothing", name, w[1])
			}
		}
		// A tool is never named without backquotes.
		for _, w := range regexp.MustCompile(`\bssh_[a-z_]+\b`).FindAllString(text, -1) {
			if !known[w] {
				t.Errorf("%s names the tool %s, which does not exist", name, w)
			}
		}
	}
}

// vocabulary is what prompts may name, each word taken from where it is at home.
func vocabulary(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{
		// fields of a reason and a result, see tool.Reason and tool.Status
		"code": true, "detail": true, "remedy": true, "decision_id": true,
		"action: deny": true, "SALLYPORT_SECRET_": true, "sallyport validate": true, "sallyport plan": true,
		string(tool.FailCredentials): true, string(tool.FailAuth): true,
	}
	for _, def := range tools.All() {
		known[def.Name] = true
	}
	for _, r := range tools.Resources() {
		known[r.URI] = true
	}
	for _, text := range rego(t) {
		for _, m := range regexp.MustCompile(`(?m)^#   code: (\w+)$`).FindAllStringSubmatch(text, -1) {
			known[m[1]] = true
		}
	}
	dir := filepath.Join(t.TempDir(), "conf")
	if _, err := config.Init(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sallyport.yml", "servers.yml", "credentials.yml", "policy.yml"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		known[name] = true
		// The example shows every key, those that are optional in a comment.
		for _, m := range regexp.MustCompile(`(?m)^[# -]*([a-z_]+):( |$)`).FindAllStringSubmatch(string(b), -1) {
			known[m[1]] = true
		}
	}
	for _, name := range []string{"keys", "secrets"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.IsDir() {
			t.Errorf("%s/ is not there: %v", name, err)
		}
		known[name+"/"] = true
	}
	if _, err := os.Stat(filepath.Join(dir, "keys", "known_hosts")); err == nil {
		known["known_hosts"] = true
	}
	return known
}

// rego are the texts of the shipped rules.
func rego(t *testing.T) []string {
	t.Helper()
	var texts []string
	files, err := filepath.Glob("../../policies/sallyport/*/*.rego")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

// The YAML in a prompt is what the loader reads, key for key.
func TestPromptsShowYAMLThatLoads(t *testing.T) {
	snippet := regexp.MustCompile(`(?m)^([a-z]+\.yml):\n((?:[ a-z-].*\n)+)`)
	shown := map[string]int{}
	for name, text := range guides(t) {
		for _, m := range snippet.FindAllStringSubmatch(text, -1) {
			shown[m[1]]++
			files := map[string]string{
				"servers.yml":     "hosts:\n  - {alias: web1, host: web1.internal, credentials: example-login}\n",
				"credentials.yml": "entries:\n  - {name: example-login, username: ops, agent: true}\n",
				"policy.yml":      "rules: []\n",
			}
			files[m[1]] = m[2]
			o := config.Options{
				Dir: writeFiles(t, files), Env: func(string) (string, bool) { return "", false },
				WithoutSecrets: true, Profiles: policies.Profiles(),
			}
			if _, err := config.Load(o); err != nil {
				t.Errorf("%s, %s: %v\n%s", name, m[1], err, m[2])
			}
		}
	}
	for _, file := range []string{"servers.yml", "credentials.yml", "policy.yml"} {
		if shown[file] == 0 {
			t.Errorf("no prompt shows %s", file)
		}
	}
}

// What a prompt says follows what is in force.
func TestPromptsFollowTheSite(t *testing.T) {
	g := guided(t)
	dev := caller("dev")
	usage := func(g *Gateway, who tool.Caller) string {
		text, _ := g.Prompt(t.Context(), who, "ssh_orchestrator_usage")
		return text
	}
	full, empty := usage(g[0], dev), usage(g[1], dev)
	if !strings.Contains(full, "- `ssh_run`:") || strings.Contains(empty, "- `ssh_run`:") {
		t.Errorf("with hosts:\n%s\nwithout:\n%s", full, empty)
	}
	if strings.Contains(full, "ssh_reload_config") || !strings.Contains(usage(g[0], tool.Caller{Auth: "local"}), "ssh_reload_config") {
		t.Error("ssh_reload_config is not told to those who have it, and to no other")
	}
	if !strings.Contains(full, "30 seconds, 4096 bytes") {
		t.Errorf("not the limits in force:\n%s", full)
	}
	denied, _ := g[0].Prompt(t.Context(), dev, "ssh_policy_denied_guidance")
	for _, profile := range policies.Profiles() {
		if !strings.Contains(denied, profile) {
			t.Errorf("no profile %s:\n%s", profile, denied)
		}
	}
}
