package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestInit: what is written loads without a word, and is private.
func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "config")
	written, err := Init(dir)
	must(t, err)
	var want []string
	for _, name := range []string{"credentials.yml", "keys/known_hosts", "policy.yml", "sallyport.yml", "servers.yml"} {
		want = append(want, filepath.Join(dir, name))
	}
	if diff := cmp.Diff(want, written); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	agent := map[string]string{"SSH_AUTH_SOCK": "/run/agent"}
	c := mustLoad(t, Options{Dir: dir, Env: func(name string) (string, bool) { s, ok := agent[name]; return s, ok }})
	if len(c.Warnings) > 0 {
		t.Errorf("it loads with warnings:\n%s", strings.Join(warningsOf(c), "\n"))
	}
	if len(c.Hosts) != 1 || len(c.Site().Classes["c0"].Allow.Any) != 1 {
		t.Errorf("it has no host with a rule: %+v", c.Site())
	}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	}))
	if info, err := os.Stat(filepath.Join(dir, "secrets")); err != nil || !info.IsDir() {
		t.Errorf("there is no directory secrets: %v", err)
	}
}

// TestInitOverwritesNothing, not even by half.
func TestInitOverwritesNothing(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"servers.yml":      func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) },
		"policy.yml":       func(path string) error { return os.Symlink("nowhere", path) },
		"keys/known_hosts": func(path string) error { return os.MkdirAll(path, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, name)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, prepare(path))
			before := tree(t, dir)
			written, err := Init(dir)
			if err == nil || !strings.Contains(err.Error(), path) || written != nil {
				t.Errorf("Init = %v, %v", written, err)
			}
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("something was written (-before +after):\n%s", diff)
			}
		})
	}
}

// TestInitRemoves: what stops Init in the middle leaves nothing behind.
func TestInitRemoves(t *testing.T) {
	for name, keys := range map[string]func(path string) error{
		"keys is a file":            func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"keys cannot be written to": func(path string) error { return os.Symlink("/proc", path) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, keys(filepath.Join(dir, "keys")))
			if written, err := Init(dir); err == nil || written != nil {
				t.Errorf("Init = %v, %v", written, err)
			}
			for path, content := range tree(t, dir) {
				if strings.HasSuffix(path, ".yml") {
					t.Errorf("%s is left behind: %s", path, content)
				}
			}
		})
	}
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, _ := os.ReadFile(path)
			all[path] = string(b)
		} else if err == nil {
			all[path] = d.Type().String()
		}
		return err
	}))
	return all
}

var (
	commentedKey = regexp.MustCompile(`(?m)^( *)# ( *(?:- )?[a-z_0-9]+:(?: .*)?)$`)
	example      = regexp.MustCompile(`<64 hex digits>`)
)

// TestInitComments: what the comments show can be used as it stands, and the
// defaults that they show are the defaults.
func TestInitComments(t *testing.T) {
	dir := t.TempDir()
	written, err := Init(dir)
	must(t, err)
	defaults := mustLoad(t, Options{Dir: dir}).Settings
	for _, path := range written {
		b, err := os.ReadFile(path)
		must(t, err)
		b = commentedKey.ReplaceAll(b, []byte("$1$2"))
		b = example.ReplaceAll(b, []byte(strings.Repeat("0", 64)))
		must(t, os.WriteFile(path, b, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "keys/id_ed25519"), fakeKey("id"), 0o600))
	public, err := os.ReadFile(filepath.Join(configs, "good/bundles/keys/release.pem"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "keys/release.pem"), public, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "keys/gateway.pem"), nil, 0o600))
	c, err := Load(Options{Dir: dir, Env: noEnv, WithoutSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Settings.Tokens) != 1 || c.Settings.Logs.Audit.File == "" || len(c.Site().Classes) < 2 ||
		len(c.Site().Files) != 2 || len(c.Site().Adhoc) != 1 || len(c.Settings.Policy.Keys) != 1 || c.Settings.Policy.Bundles[0].Resource == "" ||
		c.Settings.Shadow.Bundles[0].Resource == "" {
		t.Fatal("the comments are not in effect")
	}
	c.Settings.Tokens, c.Settings.Logs = defaults.Tokens, defaults.Logs
	was := &defaults.Policy
	c.Settings.Policy.Keys, c.Settings.Policy.Services, c.Settings.Policy.Bundles = was.Keys, was.Services, was.Bundles
	c.Settings.Shadow.Bundles = defaults.Shadow.Bundles
	if diff := cmp.Diff(defaults, c.Settings); diff != "" {
		t.Errorf("the comments show other defaults (-default +comment):\n%s", diff)
	}
}
