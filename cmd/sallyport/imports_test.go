package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sallyport/sallyport/"

// layers says which packages of this module a package may import, and why not
// the others. Tests may import more.
var layers = []struct {
	pkg  string
	may  []string
	mind string // why nothing else
}{
	{"policies", nil, "policies are data; stock opa must suffice to test them"},
	{"pkg/shell", nil, "it is a leaf: what a command line means depends on nothing but the line"},
	{"pkg/gcpace", nil, "it is a leaf: how often is collected depends on nothing but the heap"},
	{"pkg/journal", nil, "it is a leaf: both logs stand on it"},
	{"pkg/journal/ownmounts", nil, "it is for tests, and knows nothing of what they fill a disk with"},
	{"pkg/config", nil, "it is a leaf: what is written in the files depends on nothing but the files"},
	{"pkg/tool", []string{"pkg/shell"}, "the vocabulary knows neither SSH nor OPA nor MCP"},
	{"pkg/syntax", nil, "it is a leaf: whether a text is well formed depends on nothing but the text"},
	{"pkg/tools", []string{"pkg/syntax", "pkg/tool"}, "a tool only makes plans, so that it cannot pass the gate"},
	{"pkg/audit", []string{"pkg/journal"}, "the record must not depend on what it records"},
	{"pkg/spool", []string{"pkg/journal"}, "a record on its way must not depend on what it records"},
	{"pkg/policy", []string{"pkg/journal", "pkg/shell", "pkg/tool", "policies"}, "a decision depends on its input and its bundles alone"},
	{"pkg/policy/kit", []string{"pkg/policy", "pkg/tool", "policies"}, "authors ask the engine that the gateway asks"},
	{"pkg/replay", []string{"pkg/policy", "pkg/tool"}, "what is judged again is judged by the one engine; the rest is counting"},
	{"pkg/sshexec", []string{"pkg/shell", "pkg/tool"}, "the executor runs what it is given and decides nothing"},
	{"pkg/sshexec/sshtest", nil, "a test host must not share code with what it tests"},
	{"pkg/gateway", []string{"pkg/audit", "pkg/config", "pkg/policy", "pkg/tool"}, "the walk reaches hosts only through the runner that it is given"},
	{"pkg/mcpserver", []string{"pkg/gateway", "pkg/tool"}, "the adapter has one way in: gateway.Call"},
	{"pkg/mcpserver/mcpclient", nil, "a client sees only the protocol"},
	{"cmd/sallyport", []string{
		"pkg/audit", "pkg/config", "pkg/gateway", "pkg/gcpace", "pkg/journal", "pkg/mcpserver", "pkg/mcpserver/mcpclient", "pkg/policy",
		"pkg/policy/kit", "pkg/replay", "pkg/spool", "pkg/sshexec", "pkg/sshexec/sshtest", "pkg/tool", "pkg/tools", "policies",
	}, "it puts the parts together; the demo brings its own host and client"},
}

// soleUsers says who alone may import something from outside, and why.
var soleUsers = []struct {
	outside []string // import paths, and all below them
	users   []string
	why     string
}{
	{[]string{"mvdan.cc/sh"}, []string{"pkg/shell"}, "there is one parser, and one parse"},
	{[]string{"github.com/spf13/viper"}, []string{"pkg/config"}, "configuration is read strictly or not at all"},
	{[]string{"go.yaml.in/yaml"}, []string{"pkg/config", "pkg/syntax"}, "configuration is read strictly or not at all; others' files are only looked at"},
	{[]string{"github.com/open-policy-agent/opa"}, []string{"pkg/policy", "pkg/policy/kit"}, "there is one engine behind one gate, and one kit for those who write for it"},
	{
		[]string{"golang.org/x/crypto/ssh", "github.com/pkg/sftp", "github.com/skeema/knownhosts"},
		[]string{"pkg/sshexec", "pkg/sshexec/sshtest"},
		"there is one road to a host",
	},
	{[]string{"github.com/mark3labs/mcp-go"}, []string{"pkg/mcpserver", "pkg/mcpserver/mcpclient"}, "MCP stays behind the adapter"},
	{[]string{"github.com/spf13/cobra"}, []string{"cmd/sallyport"}, "packages are no programs"},
	{[]string{"os/exec"}, []string{"pkg/sshexec/sshtest"}, "the gateway runs nothing on its own machine; only a test host does"},
}

// listed is what go list tells of a package.
type listed struct {
	ImportPath string
	Imports    []string
}

// packages maps the packages of this module, without its name, to what they
// import.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %v\n%s", cmd, err, exit.Stderr)
		}
		t.Fatalf("%v: %v", cmd, err)
	}
	found := map[string][]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimPrefix(p.ImportPath, module)] = p.Imports
	}
}

func TestImportsPointDown(t *testing.T) {
	found := packages(t)
	known := map[string]bool{}
	for _, l := range layers {
		known[l.pkg] = true
		imports, ok := found[l.pkg]
		if !ok {
			t.Errorf("package %s is gone; so should be its line in the table", l.pkg)
		}
		for _, i := range imports {
			ours, ok := strings.CutPrefix(i, module)
			if ok && !slices.Contains(l.may, ours) {
				t.Errorf("%s imports %s: %s", l.pkg, ours, l.mind)
			}
		}
		for _, may := range l.may {
			if _, ok := found[may]; !ok {
				t.Errorf("%s may import %s, which does not exist", l.pkg, may)
			}
		}
	}
	for pkg := range found {
		if !known[pkg] {
			t.Errorf("package %s is new; say in the table what it may import", pkg)
		}
	}
}

func TestOutsideHasOneUser(t *testing.T) {
	found := packages(t)
	for _, rule := range soleUsers {
		used := false
		for pkg, imports := range found {
			for _, i := range imports {
				switch {
				case !isBelow(i, rule.outside):
				case slices.Contains(rule.users, pkg):
					used = true
				default:
					t.Errorf("%s imports %s, which is for %s: %s", pkg, i, strings.Join(rule.users, ", "), rule.why)
				}
			}
		}
		if !used {
			t.Errorf("nobody imports %s any more; the rule guards nothing", strings.Join(rule.outside, ", "))
		}
	}
}

func isBelow(imported string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return imported == root || strings.HasPrefix(imported, root+"/")
	})
}

// TestTopLevel keeps the list of what a newcomer sees first short.
func TestTopLevel(t *testing.T) {
	allowed := []string{"Dockerfile", "LICENSE", "README.md", "cmd", "deploy", "go.mod", "go.sum", "pkg", "policies", "testdata"}
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v; the test needs git and a clone", cmd, err)
	}
	seen := map[string]bool{}
	for _, file := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		top, _, _ := strings.Cut(path.Clean(file), "/")
		seen[top] = true
	}
	for top := range seen {
		if !strings.HasPrefix(top, ".") && !slices.Contains(allowed, top) {
			t.Errorf("%s stands at the top level, where only %s do", top, strings.Join(allowed, ", "))
		}
	}
	for _, name := range allowed {
		if !seen[name] {
			t.Errorf("%s is missing at the top level", name)
		}
	}
}
