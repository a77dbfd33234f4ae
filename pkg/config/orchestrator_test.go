package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOrchestrator has what mcp-ssh-orchestrator's own tests expect of its
// configuration, by the number of the case. Where it went on with an empty
// value, this refuses and says why: a login must not fall back to something
// that nobody wrote.
func TestOrchestrator(t *testing.T) {
	for id, test := range map[string]func(*testing.T){
		"C1 three files":         threeFiles,
		"C2 secrets":             secretFound,
		"C3 names of secrets":    secretNames,
		"C4 key paths":           keyPaths,
		"C5 kinds of files":      fileKinds,
		"C6 sizes of files":      fileSizes,
		"C7 lengths":             lengths,
		"C8 env file":            envFile,
		"C9 order":               secretOrder,
		"C10 form of a problem":  problemForm,
		"T10 what a login needs": loginNeeds,
		"T11 old host key flags": oldFlags,
	} {
		t.Run(id, test)
	}
}

// tried is an entry of credentials.yml, what is around it, and what comes of
// it: a login, or an error at load.
type tried struct {
	entry string
	files map[string]string
	env   map[string]string
	setup func(dir string) error
}

func (e tried) login(t *testing.T) (Login, error) {
	t.Helper()
	dir := oneLogin(t, e.entry, e.files)
	if e.setup != nil {
		must(t, e.setup(dir))
	}
	c, err := Load(Options{Dir: dir, Env: lookup(e.env)})
	if err != nil {
		return Login{}, err
	}
	return c.Login("web1")
}

func (e tried) gives(t *testing.T, password string) {
	t.Helper()
	if login, err := e.login(t); err != nil || login.Password != password {
		t.Errorf("%s: password %q, %v; want %q", e.entry, login.Password, err, password)
	}
}

// refused wants an error with these words, and no login.
func (e tried) refused(t *testing.T, words string) {
	t.Helper()
	login, err := e.login(t)
	if err == nil || !strings.Contains(err.Error(), words) || len(login.Key)+len(login.Password) > 0 {
		t.Errorf("%s: %v, %v; want an error that says %q", e.entry, login, err, words)
	}
}

func threeFiles(t *testing.T) {
	files := map[string]string{
		serversFile: `hosts:
  - {alias: web1, host: 10.0.0.1, credentials: ops, tags: [web, prod]}
  - {alias: db.example.com, host: 10.0.0.2, credentials: ops, tags: [prod]}
`,
		credentialsFile: "entries: [{name: ops, username: ubuntu, password_secret: pw}]\n",
		policyFile:      "limits: {max_seconds: 30}\nrules: []\n",
		"secrets/pw":    "s3cret\n",
	}
	dir := write(t, files)
	c := mustLoad(t, Options{Dir: dir})
	if h, ok := c.Host("db.example.com"); !ok || h.User != "ubuntu" || !cmp.Equal(h.Tags, []string{"prod"}) {
		t.Errorf("host %+v, %v", h, ok)
	}
	if _, ok := c.Host("moon"); ok {
		t.Error("an unknown host is found")
	}
	if got := len(c.HostsByTag("prod")); got != 2 {
		t.Errorf("%d hosts with the tag, want 2", got)
	}
	if _, err := c.Login("moon"); err == nil {
		t.Error("an unknown host has a login")
	}

	must(t, os.WriteFile(filepath.Join(dir, serversFile), []byte(files[serversFile]+"  - {alias: web2, host: 10.0.0.3, credentials: ops}\n"), 0o600))
	if _, ok := mustLoad(t, Options{Dir: dir}).Host("web2"); !ok {
		t.Error("a host that was added is not there after loading again")
	}
	// An entry that is not there gave empty credentials; here it is a slip to be told.
	must(t, os.WriteFile(filepath.Join(dir, serversFile), []byte("hosts: [{alias: web1, host: 10.0.0.1, credentials: obs}]\n"), 0o600))
	if _, err := Load(Options{Dir: dir, Env: noEnv}); err == nil || !strings.Contains(err.Error(), `"obs"`) {
		t.Errorf("unknown credentials: %v", err)
	}
}

func secretFound(t *testing.T) {
	tried{entry: "password_secret: pw", env: map[string]string{"MCP_SSH_SECRET_PW": "from env"}}.gives(t, "from env")
	tried{entry: "password_secret: pw", files: map[string]string{"secrets/pw": "from file\n"}}.gives(t, "from file")
	tried{entry: "password_secret: pw"}.refused(t, "does not exist (write it there with mode 600, or set SALLYPORT_SECRET_PW)")
	tried{entry: "password_secret: web-pw"}.refused(t, "does not exist (write it there with mode 600)") // no shell has such a variable
	tried{
		entry: "password_secret: prod_db_password", env: map[string]string{"PROD_DB_PASSWORD": "injected"},
		files: map[string]string{settingsFile: "secrets: {env_allow: [PROD_DB_PASSWORD]}\n"},
	}.gives(t, "injected")
	// Any variable was read under its upper-cased name; here only a declared one is.
	tried{
		entry: "password_secret: prod_db_password", env: map[string]string{"PROD_DB_PASSWORD": "injected"},
	}.refused(t, "secrets.env_allow")
	tried{
		entry: "password_secret: prod_db_password",
		env:   map[string]string{"PROD_DB_PASSWORD": "injected", "SALLYPORT_SECRETS_ENV_ALLOW": "OTHER,PROD_DB_PASSWORD"},
	}.gives(t, "injected")
}

func secretNames(t *testing.T) {
	for _, bad := range []string{
		`"../etc/passwd"`, `"..\\etc\\passwd"`, `"/etc/passwd"`, `"....//....//etc/passwd"`, `"a\nb"`, `"a\tb"`, `"a b"`, `"a\"b"`, `"a'b"`,
		`"a;b"`, `"a|b"`, `"a&b"`, `"a$b"`, "\"a`b\"", `"a(b"`, `"a)b"`, `"a<b"`, `"a>b"`, `"a*b"`, `"a?b"`, `"a@b"`, `"a#b"`, `"a.b"`,
	} {
		tried{entry: "password_secret: " + bad, env: map[string]string{"MCP_SSH_SECRET_A": "x"}}.refused(t, "password_secret: ")
	}
	for _, good := range []string{"pw", "PW", "db-pw", "db_pw", "pw1", "1pw", "a", "Prod_DB-2"} {
		tried{entry: `password_secret: "` + good + `"`, files: map[string]string{"secrets/" + good: "x"}}.gives(t, "x")
	}
}

func keyPaths(t *testing.T) {
	key := string(fakeKey("id"))
	files := map[string]string{"keys/id": key, "keys/team/id": key, "elsewhere/id": key}
	for path, want := range map[string]string{
		"id": "", "team/id": "", "$DIR/keys/id": "",
		"$DIR/elsewhere/id": "is not below", "/etc/passwd": "is not below",
		"../elsewhere/id": "'..'", "..\\elsewhere\\id": `'\'`, "team/../../elsewhere/id": "'..'", "team/../id": "'..'",
		"$DIR/keys": "the directory of keys itself", ".": "the directory of keys itself", "none": "does not exist",
	} {
		e := tried{entry: "key_path: later", files: files}
		e.setup = func(dir string) error {
			entry := "entries: [{name: ops, username: ops, key_path: '" + strings.ReplaceAll(path, "$DIR", dir) + "'}]\n"
			return os.WriteFile(filepath.Join(dir, credentialsFile), []byte(entry), 0o600)
		}
		if want != "" {
			e.refused(t, want)
		} else if login, err := e.login(t); err != nil || string(login.Key) != key {
			t.Errorf("key_path %s: %v, %v", path, login, err)
		}
	}
	// A key path that led nowhere fell back to the password without a word.
	tried{entry: "key_path: ../id, password: pw"}.refused(t, "'..'")
}

func fileKinds(t *testing.T) {
	key := string(fakeKey("id"))
	nothing := func(string, string) error { return nil }
	for name, tc := range map[string]struct {
		path  string
		setup func(in, elsewhere string) error // the directory of keys or secrets, and one beside it
		want  string
	}{
		"regular, its owner's":   {"real", nothing, ""},
		"directory":              {"sub", nothing, "not a regular file"},
		"open to the group":      {"real", func(in, _ string) error { return os.Chmod(in+"/real", 0o640) }, "0640"},
		"symbolic link":          {"link", func(in, _ string) error { return os.Symlink("real", in+"/link") }, "symbolic link"},
		"link to the outside":    {"link", func(in, elsewhere string) error { return os.Symlink(elsewhere+"/real", in+"/link") }, "symbolic link"},
		"linked parent":          {"team/real", func(in, elsewhere string) error { return os.Symlink(elsewhere, in+"/team") }, "symbolic link"},
		"linked parent's parent": {"team/a/real", func(in, elsewhere string) error { return os.Symlink(elsewhere, in+"/team") }, "symbolic link"},
	} {
		for kind, entry := range map[string]string{"keys": "key_path: ", "secrets": "password_secret: "} {
			if kind == "secrets" && strings.Contains(tc.path, "/") {
				continue // a secret's name is no path
			}
			e := tried{entry: entry + tc.path, files: map[string]string{
				kind + "/real": key, kind + "/sub/x": key, "elsewhere/real": key, "elsewhere/a/real": key,
			}}
			e.setup = func(dir string) error { return tc.setup(filepath.Join(dir, kind), filepath.Join(dir, "elsewhere")) }
			if tc.want != "" {
				e.refused(t, tc.want)
			} else if _, err := e.login(t); err != nil {
				t.Errorf("%s in %s: %v", name, kind, err)
			}
		}
	}
}

func fileSizes(t *testing.T) {
	load := func(file, content string) error {
		_, err := Load(Options{Dir: write(t, map[string]string{file: content}), Env: noEnv})
		return err
	}
	padded := func(size int) string {
		return "hosts: []\n#" + strings.Repeat(" ", size-len("hosts: []\n#"))
	}
	if err := load(serversFile, padded(10<<20)); err != nil {
		t.Errorf("10 MiB: %v", err)
	}
	// What was taken for an empty file is an error.
	for name, content := range map[string]string{"larger than 10485760 bytes": padded(10<<20 + 1), "not YAML": "hosts: [\n"} {
		if err := load(serversFile, content); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
	dir := write(t, nil)
	must(t, os.Remove(filepath.Join(dir, credentialsFile)))
	if _, err := Load(Options{Dir: dir, Env: noEnv}); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a missing file: %v", err)
	}
}

func lengths(t *testing.T) {
	long := strings.Repeat("s", 100)
	tried{entry: "password_secret: " + long, files: map[string]string{"secrets/" + long: "x"}}.gives(t, "x")
	tried{entry: "password_secret: s" + long}.refused(t, "longer than 100 characters")
	tried{entry: "password_secret: '" + strings.Repeat("/", 101) + "'"}.refused(t, "longer than 100 characters")
	deep := strings.Repeat("k/", 249) + "kk"
	if login, err := (tried{entry: "key_path: " + deep, files: map[string]string{"keys/" + deep: string(fakeKey("k"))}}).login(t); err != nil || len(login.Key) == 0 {
		t.Errorf("a key path of 500 characters: %v", err)
	}
	tried{entry: "key_path: k" + deep}.refused(t, "longer than 500 characters")
	tried{entry: "key_path: '" + strings.Repeat("../", 167) + "'"}.refused(t, "longer than 500 characters")
}

func envFile(t *testing.T) {
	for content, want := range map[string]string{
		"pw=x":                             "x",
		"# comment\n\n  # other\nPW=x\n":   "x",
		"PW=\"x y\"":                       "x y",
		"PW='x y'":                         "x y",
		"PW=a=b==":                         "a=b==",
		"  PW  =  x  ":                     "x",
		"PW=$HOME ${X} \\n":                `$HOME ${X} \n`,
		"OTHER=1\nPW=x\nprod_db-2=y\nA=\n": "x",
	} {
		tried{entry: "password_secret: pw", files: map[string]string{"secrets/.env": content}}.gives(t, want)
	}
	at := func(dir string) string { return filepath.Join(dir, "secrets/.env") }
	env := map[string]string{"secrets/.env": "pw=x"}
	// Loaded in spite of an event, or ignored, each of these is an error.
	for want, setup := range map[string]func(dir string) error{
		"0644": func(dir string) error { return os.Chmod(at(dir), 0o644) },
		"symbolic link": func(dir string) error {
			return errors.Join(os.Rename(at(dir), at(dir)+"1"), os.Symlink(".env1", at(dir)))
		},
		"not a regular file": func(dir string) error { return errors.Join(os.Remove(at(dir)), os.Mkdir(at(dir), 0o700)) },
		"larger than 102400 bytes": func(dir string) error {
			return os.WriteFile(at(dir), []byte("pw=x\n#"+strings.Repeat("x", 100<<10)), 0o600)
		},
		"secrets/pw: does not exist": func(dir string) error { return os.Remove(at(dir)) },
	} {
		tried{entry: "password_secret: pw", files: env, setup: setup}.refused(t, want)
	}
	full := "pw=x\n#" + strings.Repeat("x", 100<<10-len("pw=x\n#"))
	tried{entry: "password_secret: pw", files: map[string]string{"secrets/.env": full}}.gives(t, "x")

	// It was cached for the life of the process; here an edit counts at once.
	dir := oneLogin(t, "password_secret: pw", env)
	c := mustLoad(t, Options{Dir: dir})
	must(t, os.WriteFile(at(dir), []byte("pw=rotated"), 0o600))
	if login, err := c.Login("web1"); err != nil || login.Password != "rotated" {
		t.Errorf("after an edit: %q, %v", login.Password, err)
	}
}

func secretOrder(t *testing.T) {
	sources := []struct{ name, kind string }{
		{"DB_PW", "env"}, {"MCP_SSH_SECRET_DB_PW", "env"}, {"SALLYPORT_SECRET_DB_PW", "env"}, {"secrets/.env", "file"}, {"secrets/db_pw", "file"},
	}
	for first := range sources {
		e := tried{entry: "password_secret: db_pw", env: map[string]string{}, files: map[string]string{settingsFile: "secrets: {env_allow: [DB_PW]}\n"}}
		for _, s := range sources[first:] {
			switch {
			case s.kind == "env":
				e.env[s.name] = s.name
			case s.name == "secrets/.env":
				e.files[s.name] = "DB_PW=" + s.name
			default:
				e.files[s.name] = s.name
			}
		}
		e.gives(t, sources[first].name)
	}
	login, err := tried{
		entry: "key_path: id, key_passphrase_secret: key_pass, password_secret: pw",
		files: map[string]string{"keys/id": string(fakeKey("id")), "secrets/.env": "KEY_PASS='p@ss=word!'", "secrets/pw": "second"},
	}.login(t)
	if err != nil || login.Passphrase != "p@ss=word!" || login.Password != "second" || len(login.Key) == 0 {
		t.Errorf("mixed sources: %v with passphrase %q, %v", login, login.Passphrase, err)
	}
}

// problemForm: what was a security event on stderr is a problem of the
// configuration here, with a place, a sentence and a remedy; one that is found
// later is the error of a login.
func problemForm(t *testing.T) {
	dir := oneLogin(t, "key_path: ../../etc/shadow, key_passphrase_secret: pw", map[string]string{"secrets/.env": "pw=CANARY"})
	must(t, os.Chmod(filepath.Join(dir, "secrets/.env"), 0o644))
	_, err := Load(Options{Dir: dir, Env: noEnv})
	var problems *Problems
	if !errors.As(err, &problems) || len(problems.List) != 2 {
		t.Fatalf("Load = %v", err)
	}
	text, err := json.Marshal(problems.List)
	must(t, err)
	var list []map[string]any
	must(t, json.Unmarshal(text, &list))
	for _, p := range list {
		if p["file"] != filepath.Join(dir, credentialsFile) || p["line"] != 2.0 || p["severity"] != "error" || p["message"] == "" || p["remedy"] == "" {
			t.Errorf("problem %v", p)
		}
	}
	if strings.Contains(string(text), "CANARY") {
		t.Errorf("a secret is in %s", text)
	}
	// A password that YAML takes for something else is not quoted either.
	for _, password := range []string{"*CANARY", "&CANARY", "!CANARY", "!!CANARY x", "*CANARY x", "{CANARY", "[CANARY", "@CANARY", "%CANARY", "|CANARY", "CANARY: x", "'CANARY", "`CANARY"} {
		all := write(t, map[string]string{credentialsFile: "entries:\n  - name: ops\n    username: ops\n    password: " + password + "\n"})
		if _, err := Load(Options{Dir: all, Env: noEnv}); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("password: %s gives %v", password, err)
		}
	}
}

func loginNeeds(t *testing.T) {
	for _, tc := range []struct{ servers, credentials, want string }{
		{"{alias: a, credentials: c}", "{name: c, username: u, password: p}", "host is missing"},
		{"{alias: a, host: '', credentials: c}", "{name: c, username: u, password: p}", "host"},
		{"{alias: a, host: h}", "{name: c, username: u, password: p}", "credentials is missing"},
		{"{alias: a, host: h, credentials: c}", "{name: c, password: p}", "username is missing"},
		{"{alias: a, host: h, credentials: c}", "{name: c, username: '', password: p}", "username"},
		{"{alias: a, host: h, port: 99999, credentials: c}", "{name: c, username: u, password: p}", "65535"},
		{"{alias: a, host: h, port: '22', credentials: c}", "{name: c, username: u, password: p}", "port"},
		{"{alias: a, host: h, credentials: c}", "{name: c, username: u}", "no way to log in"},
		{"{alias: a, host: h, credentials: c}", "{name: c, username: u, key_path: '', password_secret: ''}", "no way to log in"},
		{"{alias: a, host: h, credentials: c, tags: web}", "{name: c, username: u, password: p}", "list"},
		{"{alias: a, host: 'fe80::1%eth0', credentials: c}", "{name: c, username: u, password: p}", "zone"},
	} {
		dir := write(t, map[string]string{serversFile: "hosts: [" + tc.servers + "]\n", credentialsFile: "entries: [" + tc.credentials + "]\n"})
		if _, err := Load(Options{Dir: dir, Env: noEnv}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s with %s: %v, want %q", tc.servers, tc.credentials, err, tc.want)
		}
	}
}

func oldFlags(t *testing.T) {
	for _, old := range []string{
		"limits: {host_key_auto_add: true}", "limits: {require_known_host: false}", "network: {require_known_host: false}",
		"overrides: {aliases: {web1: {host_key_auto_add: true}}}", "overrides: {tags: {web: {require_known_host: false}}}",
	} {
		dir := write(t, map[string]string{
			serversFile:     "hosts: [{alias: web1, host: h, credentials: c, tags: [web]}]\n",
			credentialsFile: "entries: [{name: c, username: u, password: p}]\n",
			policyFile:      old + "\n",
		})
		c := mustLoad(t, Options{Dir: dir})
		if all := strings.Join(warningsOf(c), "\n"); !strings.Contains(all, "is ignored: ") {
			t.Errorf("%s: no warning in\n%s", old, all)
		}
	}
	c := mustLoad(t, Options{Dir: write(t, map[string]string{policyFile: "limits: {host_key_auto_add: false, require_known_host: true}\n"})})
	if all := strings.Join(warningsOf(c), "\n"); strings.Contains(all, "ignored") {
		t.Errorf("what is always so is warned of: %s", all)
	}
}

// Two rules can meet on a host by different tags of it.
func TestOrderOfRulesByTags(t *testing.T) {
	for tags, warned := range map[string]bool{"[a, b]": true, "[a]": false} {
		c := mustLoad(t, Options{Dir: write(t, map[string]string{
			serversFile:     "hosts: [{alias: web1, host: h, credentials: c, tags: " + tags + "}]\n",
			credentialsFile: "entries: [{name: c, username: u, password: p}]\n",
			policyFile: "rules: [{action: allow, tags: [a], simple_binaries: [id]}, " +
				"{action: deny, tags: [b], simple_binaries: [id]}]\n",
		})})
		if all := strings.Join(warningsOf(c), "\n"); strings.Contains(all, "denies commands that rules[0] allowed before") != warned {
			t.Errorf("on a host with %s: warned %v in\n%s", tags, !warned, all)
		}
	}
}

// imported converts a directory: nothing that is other than it was is left to warn
// of in policy.yml, and no secret has come along.
func imported(t *testing.T, o Options, dir, root string) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "new")
	done, err := Import(to, o)
	must(t, err)
	c, err := Load(Options{Dir: to, Env: noEnv, WithoutSecrets: true})
	must(t, err)
	for line := range strings.Lines(c.Warned()) {
		if !strings.Contains(line, policyFile) || strings.Contains(line, "no rule grants anything") {
			continue // that is as it was
		}
		t.Errorf("it is warned of\n%s", line)
	}
	for path, text := range tree(t, to) {
		for _, secret := range []string{"Sommer2019!", "OPENSSH"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds a secret", path)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(to, policyFile))
	must(t, err)
	left := strings.Join(done.Left, "\n# ")
	golden(t, filepath.Join(dir, "converted.golden"), strings.NewReplacer(root, "$DIR", to, "$NEW").Replace("# "+left+"\n\n"+string(text)))
	if again, err := Import(to, o); err == nil || again.Written != nil || !strings.Contains(err.Error(), "nothing is overwritten") {
		t.Errorf("a second time: %v, %v", again, err)
	}
}

// TestImportedKeys: what was found by an absolute path into the directory of keys
// is looked for in the new one, to which it is to be copied.
func TestImportedKeys(t *testing.T) {
	dir := write(t, map[string]string{"keys/web": string(fakeKey("web")), "keys/known_hosts": ""})
	must(t, os.WriteFile(filepath.Join(dir, serversFile), []byte("hosts: [{alias: web1, host: h, credentials: c}]\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, credentialsFile), []byte("entries: [{name: c, username: u, key_path: "+dir+"/keys/web}]\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, policyFile), []byte("known_hosts_path: "+dir+"/keys/known_hosts\nrules: [{action: allow, simple_binaries: [uptime]}]\n"), 0o600))
	to := filepath.Join(t.TempDir(), "new")
	_, err := Import(to, Options{Dir: dir, Env: noEnv})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(to, "keys", "web"), fakeKey("web"), 0o600))
	c := mustLoad(t, Options{Dir: to, Env: noEnv})
	if login, err := c.Login("web1"); err != nil || len(login.Key) == 0 {
		t.Errorf("the key: %v", err)
	}
	if known := c.KnownHosts(); len(known) != 1 || known[0] != filepath.Join(to, "keys", "known_hosts") {
		t.Errorf("known_hosts: %v", known)
	}
}

// TestRulesInVain: a rule or network that allows nothing, because what denies goes
// over it, is told of. Where it does on some host, it is not.
func TestRulesInVain(t *testing.T) {
	const rules = "version: 3\nrules: [{action: allow, simple_binaries: [uptime, kubectl]}, {action: allow, commands: ['reboot *']}, {action: allow, binary: shutdown, arg_prefix: [-h, now]}]\n"
	for policy, wants := range map[string][]string{
		rules: {
			"rules[0]: allows kubectl, but", "rules[1]: allows reboot, but", "rules[2]: allows shutdown -h now, but",
		},
		rules + "overrides: {tags: {web: {deny_substrings: []}}}\n":                               nil,
		rules + "limits: {deny_substrings: ['nc ']}\n":                                            nil,
		rules + "limits: {deny_substrings: ['kubectl ']}\n":                                       {"rules[0]: allows kubectl, but"},
		"network: {allow_cidrs: [10.0.0.0/8, 'fd00::/8'], block_cidrs: [0.0.0.0/0]}\nrules: []\n": {`"10.0.0.0/8" allows nothing, since "0.0.0.0/0" is blocked`},
		"network: {allow_ips: [10.0.0.1], allow_cidrs: [10.0.0.0/8], block_ips: [10.0.0.1]}\nrules: []\n": {
			`"10.0.0.1" allows nothing, since "10.0.0.1" is blocked`,
		},
		"network: {allow_cidrs: [10.0.0.0/8], block_cidrs: [10.1.0.0/16]}\nrules: []\n": nil,
	} {
		dir := write(t, map[string]string{
			serversFile:     "hosts: [{alias: web1, host: h, credentials: c, tags: [web]}]\n",
			credentialsFile: "entries: [{name: c, username: u, password: p}]\n",
			policyFile:      policy,
		})
		var got []string
		for _, warning := range warningsOf(mustLoad(t, Options{Dir: dir, Env: noEnv})) {
			if strings.Contains(warning, "never match") || strings.Contains(warning, "allows nothing") {
				got = append(got, warning)
			}
		}
		if len(got) != len(wants) {
			t.Errorf("%s\nis warned of %q, want %q", policy, got, wants)
			continue
		}
		for i, want := range wants {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s\n%s\nlacks %q", policy, got[i], want)
			}
		}
	}
}

// A few lines of aliases could stand for more than there is memory for.
func TestAliasesAreBounded(t *testing.T) {
	bomb := "hosts:\n  - tags: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("  - tags: &a%d [%s*a%d]\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	_, err := Load(Options{Dir: write(t, map[string]string{serversFile: bomb}), Env: noEnv})
	if err == nil || strings.Count(err.Error(), "stand for more than 250000 values") != 1 {
		t.Errorf("%.300v", err)
	}
}

// YAML 1.1, by which the orchestrator reads its files, has more words for true and
// false. In quotes they are texts.
func TestTruths(t *testing.T) {
	for word, want := range map[string]string{
		"True": "any words", "yes": "any words", "ON": "any words", "true": "any words", "False": "these words", "no": "these words", "Off": "these words",
		`"no"`: "is text, not true or false", "maybe": "is text, not true or false", "0": "is a whole number, not true or false",
	} {
		dir := write(t, map[string]string{policyFile: "rules: [{action: allow, binary: df, arg_prefix: [-h], allow_extra_args: " + word + "}]\n"})
		c, err := Load(Options{Dir: dir, Env: noEnv})
		var got string
		if err != nil {
			got = err.Error()
		} else if got = "any words"; c.Site().Rules["0.0"].Most == 1 {
			got = "these words"
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}

// TestOrchestratorDirectories loads directories as an operator of the
// orchestrator has them, by its own variables. The golden has each host with
// what it takes to log in, secrets included, and every warning; for what is not
// loaded, every problem.
func TestOrchestratorDirectories(t *testing.T) {
	for _, dir := range cases(t, "../orchestrator") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			o := prepare(t, dir)
			root := o.Dir
			o.Dir = "" // its variable names it
			c, err := Load(o)
			var text strings.Builder
			var problems *Problems
			if errors.As(err, &problems) {
				fmt.Fprintln(&text, lines(problems.List))
			} else {
				fmt.Fprintln(&text, c.Warned())
				for _, h := range c.Hosts {
					login, err := c.Login(h.Alias)
					must(t, err)
					fmt.Fprintf(&text, "%s: %s@%s port %d tags %q %q\n\t%v passphrase %q password %q\n",
						h.Alias, h.User, h.Hostname, h.Port, h.Tags, h.Description, login, login.Passphrase, login.Password)
				}
			}
			golden(t, filepath.Join(dir, "loaded.golden"), strings.ReplaceAll(text.String(), root, "$DIR"))
			if err == nil {
				imported(t, o, dir, root)
			}
			if refused := err != nil; refused != (filepath.Base(dir) == "refused") {
				t.Errorf("refused %v: %v", refused, err)
			}
		})
	}
}
