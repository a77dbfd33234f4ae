package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/audit"
)

const clientsDir = "../../testdata/clients"

// Clients that others wrote go through the checks of testdata/clients/README.md
// with this very program and a real sshd, in every era that they speak, over
// both transports.
func TestClients(t *testing.T) {
	s, pids := newTaskSite(t)
	s.write(t, "sallyport.yml", "log_level: info\nhttp: {listen: \"127.0.0.1:0\"}\npolicy: {timeout: 1s}\n"+
		"tokens: [{id: agent-7, sha256: "+sha256Hex("dev-token")+"}]\n"+
		"logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	_, url := startGateway(t, s)
	self, stopped := gatewayProcess(t).Path, stops{site: s, pids: pids}
	servers := map[string][]string{
		"stdio": {"--", self, "serve", "--config", s.dir},
		"http":  {"--url", url, "--token", "dev-token"},
	}
	for name, c := range clients(t) {
		for _, era := range c.eras {
			for transport, server := range servers {
				t.Run(name+" "+era+" "+transport, func(t *testing.T) {
					site := []string{"--era", era, "--alias", "diagnose", "--slow", "du -sh /srv"}
					checkWith(t, c.program, slices.Concat(site, server)...)
					if c.brief {
						return
					}
					stopped.want(t, "cancelled", "disconnect")
					checkWith(t, c.program, slices.Concat([]string{"--leave"}, site, server)...)
					stopped.want(t, "disconnect")
				})
			}
		}
	}
	if stopped.seen == 0 {
		t.Error("no command ran long enough to be seen")
	}
	if _, err := audit.VerifyFiles(filepath.Join(s.dir, "audit.jsonl")); err != nil {
		t.Errorf("audit stream of several gateways at once: %v", err)
	}
}

// stops are the ends of commands that were stopped, one after the other.
type stops struct {
	site
	pids string // file that the command leaves its processes in
	last string // record that was seen before
	seen int    // that left their processes
}

// want waits until the audit stream says why the next one ended, and then for the
// end of its processes. It may have been stopped before it could leave them. In
// the era without sessions a client cancels by going away, so that cannot always
// be told apart.
func (s *stops) want(t *testing.T, why ...string) {
	t.Helper()
	eventually(t, "its end is on record", func() bool {
		now := lastAudit(t, s.site, audit.Finished)
		return now != s.last && strings.Contains(now, `"survivors":0`) &&
			slices.ContainsFunc(why, func(stop string) bool { return strings.Contains(now, `"stop":"`+stop+`"`) })
	})
	s.last = lastAudit(t, s.site, audit.Finished)
	if _, err := os.Stat(s.pids); err == nil {
		started := processesIn(t, s.pids)
		eventually(t, "the command is gone", func() bool { return !slices.ContainsFunc(started, runs) })
		s.seen++
	}
}

// otherClient is a program around a client, and the protocol revisions that the
// client speaks.
type otherClient struct {
	program []string
	eras    []string
	brief   bool // it knows neither progress nor cancellation
}

func clients(t *testing.T) map[string]otherClient {
	t.Helper()
	const modern, legacy = "2026-07-28", "2025-11-25"
	dir := installNode(t)
	node := func(script string) []string { return []string{"node", filepath.Join(dir, script)} }
	return map[string]otherClient{
		"go-sdk":            {program: []string{buildGoSDK(t)}, eras: []string{modern, legacy}},
		"typescript-sdk-v1": {program: node("ts1.mjs"), eras: []string{legacy}},
		"typescript-sdk-v2": {program: node("ts2.mjs"), eras: []string{modern, legacy}},
		"inspector":         {program: node("inspector.mjs"), eras: []string{legacy}, brief: true},
	}
}

// permitSleep lets something run that takes time, and puts a real sleep beside
// the stand-ins.
func (s site) permitSleep(t *testing.T) {
	t.Helper()
	s.write(t, "policies/.manifest", `{"revision": "test-1", "roots": ["custom/demo"], "rego_version": 1}`, 0o600)
	s.write(t, "policies/custom/demo.rego", demoCustom, 0o600)
	if err := os.Symlink("/bin/sleep", filepath.Join(s.standIns, "sleep")); err != nil {
		t.Fatal(err)
	}
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func checkWith(t *testing.T, program []string, args ...string) {
	t.Helper()
	argv := slices.Concat(program, args)
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).Output()
	var summary struct{ OK bool }
	if json.Unmarshal(out, &summary) != nil || !summary.OK || err != nil {
		t.Errorf("%v: %v\n%s", argv, err, out)
	}
}

// buildGoSDK builds the client out of its own module, so that the SDK is no
// dependency of ours.
func buildGoSDK(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "gosdk")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join(clientsDir, "gosdk")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the Go SDK's client: %v\n%s", err, out)
	}
	return program
}

// installNode installs the JavaScript clients, once for every state of the lock
// file, and is where they are.
func installNode(t *testing.T) string {
	t.Helper()
	for program, pkg := range map[string]string{"node": "nodejs", "npm": "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed: apt-get install %s", program, pkg)
		}
	}
	lock, err := os.ReadFile(filepath.Join(clientsDir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	modules := filepath.Join(cacheDir(t), "sallyport-test", "clients-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(modules); err != nil {
		npmInstall(t, modules)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(clientsDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func cacheDir(t *testing.T) string {
	t.Helper()
	if dir, err := os.UserCacheDir(); err == nil {
		return dir
	}
	return t.TempDir()
}

// npmInstall fills a directory that then appears all at once, so that a test
// that was killed leaves nothing half done.
func npmInstall(t *testing.T, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	half, err := os.MkdirTemp(filepath.Dir(to), "installing-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(half)
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join(clientsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(half, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = half
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.Rename(half, to); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}
