package config

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the golden files anew")

const configs = "../../testdata/configs"

// A case is a directory as an operator would write it. What cannot be kept in
// git (keys, modes, sizes, the environment) is in its file "setup", a line
// each:
//
//	key PATH MODE           a file in the form of a private key
//	file PATH MODE TEXT     a file; TEXT with the escapes of a Go string
//	size PATH BYTES         a file of that many blanks
//	dir PATH                a directory
//	link PATH TARGET        a symbolic link
//	env NAME VALUE          in the environment, where SSH_AUTH_SOCK is /run/agent
//	flag NAME VALUE         on the command line
//	without secrets         Options.WithoutSecrets
//
// $DIR stands for the directory.
func prepare(t *testing.T, dir string) Options {
	t.Helper()
	o := Options{Dir: t.TempDir(), Flags: testFlags()}
	if err := os.CopyFS(o.Dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SSH_AUTH_SOCK": "/run/agent"}
	o.Env = func(name string) (string, bool) { s, ok := env[name]; return s, ok }
	setup, err := os.ReadFile(filepath.Join(dir, "setup"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(setup)) {
		words := strings.SplitN(strings.TrimSuffix(strings.ReplaceAll(line, "$DIR", o.Dir), "\n"), " ", 4)
		path := filepath.Join(o.Dir, words[1])
		switch words[0] {
		case "env":
			env[words[1]] = strings.Join(words[2:], " ")
		case "flag":
			must(t, o.Flags.Set(words[1], words[2]))
		case "without":
			o.WithoutSecrets = true
		default:
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			place := setupVerbs[words[0]]
			if place == nil {
				t.Fatalf("%s: unknown verb in setup: %s", dir, line)
			}
			must(t, place(path, words[2:]))
		}
	}
	return o
}

var setupVerbs = map[string]func(path string, words []string) error{
	"key": func(path string, words []string) error {
		return writeMode(path, words[0], fakeKey(filepath.Base(path)))
	},
	"file": func(path string, words []string) error {
		content, err := strconv.Unquote(`"` + words[1] + `"`)
		return errors.Join(err, writeMode(path, words[0], []byte(content)))
	},
	"size": func(path string, words []string) error {
		n, err := strconv.Atoi(words[0])
		return errors.Join(err, writeMode(path, "0600", []byte(strings.Repeat(" ", n))))
	},
	"dir":  func(path string, _ []string) error { return os.MkdirAll(path, 0o700) },
	"link": func(path string, words []string) error { return os.Symlink(words[0], path) },
}

// fakeKey has the form of a private key and is none.
func fakeKey(name string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("not a key: " + name)})
}

func writeMode(path, mode string, data []byte) error {
	m, err := strconv.ParseUint(mode, 8, 32)
	return errors.Join(err, os.WriteFile(path, data, 0o600), os.Chmod(path, fs.FileMode(m)))
}

func testFlags() *pflag.FlagSet {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	f.String("transport", "stdio", "")
	f.String("listen", "", "")
	f.String("subject", "", "")
	f.StringSlice("toolsets", nil, "")
	f.String("log-level", "info", "")
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func cases(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(configs, dir))
	must(t, err)
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(configs, dir, e.Name()))
	}
	return paths
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestBad has every problem of every bad configuration, with its line.
func TestBad(t *testing.T) {
	for _, dir := range cases(t, "bad") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			o := prepare(t, dir)
			c, err := Load(o)
			var problems *Problems
			if !errors.As(err, &problems) || c != nil {
				t.Fatalf("Load gives %v, %v; want no configuration and problems", c, err)
			}
			for _, p := range problems.List {
				if p.Message == "" || p.Remedy == "" {
					t.Errorf("%s: a problem without message or remedy", p)
				}
			}
			got := strings.ReplaceAll(lines(problems.List), o.Dir+"/", "") + "\n"
			golden(t, filepath.Join(dir, "problems.golden"), strings.ReplaceAll(got, o.Dir, "$DIR"))
		})
	}
}

// TestGood has all that is made of every good configuration, the settings where
// it has any.
func TestGood(t *testing.T) {
	for _, dir := range cases(t, "good") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			o := prepare(t, dir)
			c, err := Load(o)
			must(t, err)
			got := struct {
				Warnings   []string
				KnownHosts []string
				Settings   *Settings `json:",omitempty"`
				Hosts      []Host
				Site       Site
			}{warningsOf(c), c.KnownHosts(), nil, c.Hosts, c.Site()}
			if _, err := os.Stat(filepath.Join(dir, settingsFile)); err == nil {
				got.Settings = &c.Settings
			}
			b, err := json.MarshalIndent(got, "", "  ")
			must(t, err)
			text := strings.ReplaceAll(string(b), o.Dir, "$DIR") + "\n"
			golden(t, filepath.Join(dir, "loaded.golden"), text)
			if strings.Contains(text, "null") {
				t.Error("something is null")
			}
		})
	}
}

func warningsOf(c *Config) []string {
	list := []string{}
	for _, p := range c.Warnings {
		list = append(list, p.String())
	}
	return list
}

// write makes a configuration directory; a file that is not given is one that
// is as short as can be.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		serversFile:         "hosts: []\n",
		credentialsFile:     "entries: []\n",
		policyFile:          "version: 3\n",
		"keys/known_hosts":  "",
		"secrets/.unused":   "",
		"keys/.unused/file": "",
	}
	for name, content := range files {
		all[name] = content
	}
	for name, content := range all {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return dir
}

func noEnv(string) (string, bool) { return "", false }

func mustLoad(t testing.TB, o Options) *Config {
	t.Helper()
	if o.Env == nil {
		o.Env = noEnv
	}
	c, err := Load(o)
	must(t, err)
	return c
}

func TestHostLookups(t *testing.T) {
	c := mustLoad(t, Options{Dir: filepath.Join(configs, "good", "ways"), WithoutSecrets: true})
	h, ok := c.Host("web2")
	if !ok || h.Hostname != "web2.internal" || h.Line != 15 {
		t.Errorf("Host(web2) = %+v, %t", h, ok)
	}
	if _, ok := c.Host("WEB2"); ok {
		t.Error("an alias in another case is found")
	}
	var aliases []string
	for _, h := range c.HostsByTag("web") {
		aliases = append(aliases, h.Alias)
	}
	if diff := cmp.Diff([]string{"web2", "web1"}, aliases); diff != "" {
		t.Errorf("HostsByTag is not in file order (-want +got):\n%s", diff)
	}
	if hosts := c.HostsByTag("we"); hosts != nil {
		t.Errorf("a part of a tag finds %v", hosts)
	}
}

func TestDir(t *testing.T) {
	dir := write(t, nil)
	other := write(t, nil)
	for _, tc := range []struct {
		name string
		flag string
		env  map[string]string
		want string
	}{
		{"option", dir, map[string]string{"SALLYPORT_CONFIG_DIR": other}, dir},
		{"variable", "", map[string]string{"SALLYPORT_CONFIG_DIR": dir, "MCP_SSH_CONFIG_DIR": other}, dir},
		{"the orchestrator's variable", "", map[string]string{"MCP_SSH_CONFIG_DIR": dir}, dir},
		{"an empty variable is unset", "", map[string]string{"SALLYPORT_CONFIG_DIR": "", "MCP_SSH_CONFIG_DIR": dir}, dir},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := mustLoad(t, Options{Dir: tc.flag, Env: lookup(tc.env)})
			if c.Dir != tc.want {
				t.Errorf("Dir = %s, want %s", c.Dir, tc.want)
			}
		})
	}
	for name, tc := range map[string]struct{ dir, want string }{
		"none":    {"", "no configuration directory"},
		"missing": {filepath.Join(dir, "nowhere"), "sallyport init"},
		"a file":  {filepath.Join(dir, serversFile), "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(Options{Dir: tc.dir, Env: noEnv})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Load = %v, want %q", err, tc.want)
			}
		})
	}
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { s, ok := env[name]; return s, ok }
}

// TestSecretDirs: an option goes over our variable, that over the
// orchestrator's, that over the place below the configuration.
func TestSecretDirs(t *testing.T) {
	const all = "entries: [{name: ops, username: ops, key_path: id, key_passphrase_secret: pass}]\n"
	dir := oneLogin(t, "agent: true", map[string]string{credentialsFile: all})
	place := map[string]string{"default": dir}
	for _, name := range []string{"orchestrator", "variable", "option"} {
		place[name] = t.TempDir()
	}
	for name, base := range place {
		for file, content := range map[string]string{"keys/id": string(fakeKey(name)), "secrets/pass": name} {
			must(t, os.MkdirAll(filepath.Join(base, filepath.Dir(file)), 0o700))
			must(t, os.WriteFile(filepath.Join(base, file), []byte(content), 0o600))
		}
	}
	o := Options{Dir: dir}
	env := map[string]string{"SSH_AUTH_SOCK": "/run/agent"}
	o.Env = lookup(env)
	for _, step := range []struct {
		name string
		set  func()
	}{
		{"default", func() {}},
		{"orchestrator", func() {
			env["MCP_SSH_KEYS_DIR"], env["MCP_SSH_SECRETS_DIR"] = place["orchestrator"]+"/keys", place["orchestrator"]+"/secrets"
		}},
		{"variable", func() {
			env["SALLYPORT_KEYS_DIR"], env["SALLYPORT_SECRETS_DIR"] = place["variable"]+"/keys", place["variable"]+"/secrets"
		}},
		{"option", func() { o.KeysDir, o.SecretsDir = place["option"]+"/keys", place["option"]+"/secrets" }},
	} {
		step.set()
		login, err := mustLoad(t, o).Login("web1")
		if err != nil || login.Passphrase != step.name || string(login.Key) != string(fakeKey(step.name)) {
			t.Errorf("%s: Login = %v with passphrase %q, %v", step.name, login, login.Passphrase, err)
		}
	}
}

// TestKnownNames: the profiles and toolsets that there are can be given.
func TestKnownNames(t *testing.T) {
	dir := write(t, map[string]string{
		settingsFile: "toolsets: [fleet, dokcer]\n",
		policyFile:   "rules: [{action: allow, profile: site}, {action: allow, profile: readonly}]\n",
	})
	_, err := Load(Options{Dir: dir, Env: noEnv, Profiles: []string{"site"}, Toolsets: []string{"fleet", "docker"}})
	want := dir + `/sallyport.yml:1: toolsets: unknown value "dokcer" (did you mean "docker"? values: fleet, docker)` + "\n" +
		dir + `/policy.yml:1: rules[1].profile: unknown value "readonly" (values: site)`
	if err == nil || err.Error() != want {
		t.Errorf("Load gives\n%v\nwant\n%s", err, want)
	}
}

// TestLayers walks one setting down from the flag to the default.
func TestLayers(t *testing.T) {
	dir := write(t, map[string]string{settingsFile: "log_level: warn\nhttp: {session_ttl: 1m}\n"})
	flags := testFlags()
	must(t, flags.Set("log-level", "debug"))
	env := lookup(map[string]string{"SALLYPORT_LOG_LEVEL": "error", "SALLYPORT_TOOLSETS": "fleet, docker"})
	empty := write(t, nil)

	for _, tc := range []struct {
		from string
		o    Options
		want string
	}{
		{"flag", Options{Dir: dir, Flags: flags, Env: env}, "debug"},
		{"environment", Options{Dir: dir, Flags: testFlags(), Env: env}, "error"},
		{"file", Options{Dir: dir, Flags: testFlags()}, "warn"},
		{"default", Options{Dir: empty, Flags: testFlags()}, "info"},
	} {
		if got := mustLoad(t, tc.o).Settings.LogLevel; got != tc.want {
			t.Errorf("from the %s, log_level = %s, want %s", tc.from, got, tc.want)
		}
	}
	s := mustLoad(t, Options{Dir: dir, Env: env}).Settings
	if diff := cmp.Diff([]string{"fleet", "docker"}, s.Toolsets); diff != "" {
		t.Errorf("toolsets (-want +got):\n%s", diff)
	}
	if s.HTTP.MaxBodyBytes != 1<<20 {
		t.Errorf("a section in the file drops the defaults beside it: %+v", s.HTTP)
	}
}

// TestProcessEnvironment is about the variables that nobody asks for by name.
func TestProcessEnvironment(t *testing.T) {
	t.Setenv("SALLYPORT_HTTP_LISTN", "127.0.0.1:1")
	t.Setenv("MCP_SSH_MAX_CONCURRENCY", "3")
	t.Setenv("SALLYPORT_SECRET_X", "s3cret")
	t.Setenv("SALLYPORT_LOG_LEVEL", "debug")
	c, err := Load(Options{Dir: write(t, nil)})
	must(t, err)
	if c.Settings.LogLevel != "debug" {
		t.Error("the process environment is not read")
	}
	all := strings.Join(warningsOf(c), "\n")
	for _, want := range []string{`SALLYPORT_HTTP_LISTN: warning: no setting is read from this environment variable (did you mean "SALLYPORT_HTTP_LISTEN"?)`, "MCP_SSH_MAX_CONCURRENCY: warning"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in:\n%s", want, all)
		}
	}
	if strings.Contains(all, "SALLYPORT_SECRET_X") || strings.Contains(all, "s3cret") {
		t.Errorf("a secret's variable is warned of:\n%s", all)
	}
}

func TestDigest(t *testing.T) {
	digest := func(files map[string]string) string {
		return mustLoad(t, Options{Dir: write(t, files)}).Digest()
	}
	base := digest(nil)
	if len(base) != 64 || digest(nil) != base {
		t.Errorf("digest %q is not the same for the same files", base)
	}
	for _, files := range []map[string]string{
		{settingsFile: ""},
		{settingsFile: "log_level: info\n"},
		{serversFile: "hosts: [] \n"},
		{credentialsFile: "entries: [] \n"},
		{policyFile: "version: 2\n"},
	} {
		if digest(files) == base {
			t.Errorf("digest does not change with %v", files)
		}
	}
}

func TestKnownHosts(t *testing.T) {
	home := t.TempDir()
	usual := filepath.Join(home, ".ssh", "known_hosts")
	must(t, os.MkdirAll(filepath.Dir(usual), 0o700))
	must(t, os.WriteFile(usual, nil, 0o600))
	env := lookup(map[string]string{"HOME": home})
	for _, tc := range []struct {
		name, settings, policy string
		want                   func(dir string) []string
	}{
		{"usual", "", "version: 3\n", func(dir string) []string { return []string{dir + "/keys/known_hosts", usual} }},
		{"policy.yml", "", "known_hosts_path: hosts\n", func(dir string) []string { return []string{dir + "/hosts"} }},
		{"sallyport.yml goes over it", "ssh: {known_hosts: ~/.ssh/known_hosts}\n", "known_hosts_path: hosts\n", func(string) []string { return []string{usual} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, map[string]string{settingsFile: tc.settings, policyFile: tc.policy})
			c := mustLoad(t, Options{Dir: dir, Env: env})
			if diff := cmp.Diff(tc.want(dir), c.KnownHosts()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTaskTimes(t *testing.T) {
	c := mustLoad(t, Options{Dir: filepath.Join(configs, "good", "limits"), WithoutSecrets: true})
	for alias, want := range map[string]string{"db1": "1m0s 5s", "web1": "10m0s 7s"} {
		ttl, interval := c.TaskTimes(alias)
		if got := fmt.Sprint(ttl, " ", interval); got != want {
			t.Errorf("TaskTimes(%s) = %s, want %s", alias, got, want)
		}
	}
}

// TestPrinted: a password that stands in credentials.yml is in no print of the
// configuration.
func TestPrinted(t *testing.T) {
	c := mustLoad(t, Options{Dir: write(t, map[string]string{
		credentialsFile: "entries: [{name: a, username: u, password: hunter2}]\n",
	})})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if strings.Contains(fmt.Sprintf(verb, c)+fmt.Sprintf(verb, *c), "hunter2") {
			t.Errorf("%s of a configuration shows a password", verb)
		}
	}
}
