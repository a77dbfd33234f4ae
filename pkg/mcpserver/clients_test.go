package mcpserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

const clientsDir = "../../testdata/clients"

// TestClients puts clients that others wrote through the checks that are
// described in testdata/clients/README.md, in every era that they speak, over
// both transports.
func TestClients(t *testing.T) {
	gosdk := []string{buildGoSDK(t)}
	dir := installNode(t)
	node := func(script string) []string { return []string{"node", filepath.Join(dir, script)} }
	for _, c := range []struct {
		name    string
		program []string
		eras    []era
	}{
		{"go-sdk", gosdk, []era{modern, legacy}},
		{"typescript-sdk-v1", node("ts1.mjs"), []era{legacy}},
		{"typescript-sdk-v2", node("ts2.mjs"), []era{modern, legacy}},
		{"inspector", node("inspector.mjs"), []era{legacy}},
	} {
		for _, e := range c.eras {
			t.Run(c.name+" "+string(e)+" stdio", func(t *testing.T) {
				t.Parallel()
				checkWith(t, c.program, "--era", string(e), "--", testBinary(t), "serve-stdio")
			})
			t.Run(c.name+" "+string(e)+" http", func(t *testing.T) {
				t.Parallel()
				url, stop := serving(t, newServer(t, newSite()), HTTPOptions{Tokens: twoTokens})
				checkWith(t, c.program, "--era", string(e), "--url", url+"/mcp", "--token", "dev-token")
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func testBinary(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
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
