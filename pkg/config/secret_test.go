package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// oneLogin is a configuration with one host and one entry, of which the test
// writes the way to log in.
func oneLogin(t testing.TB, entry string, files map[string]string) string {
	t.Helper()
	all := map[string]string{
		serversFile:     "hosts: [{alias: web1, host: 192.0.2.1, credentials: ops}]\n",
		credentialsFile: "entries:\n  - {name: ops, username: ops, " + entry + "}\n",
	}
	for name, content := range files {
		all[name] = content
	}
	return write(t, all)
}

// TestSecretSources walks the order in which a bare name is looked for.
func TestSecretSources(t *testing.T) {
	for _, tc := range []struct {
		name  string
		ref   string
		env   map[string]string
		files map[string]string
		want  string
	}{
		{
			"the orchestrator's variable is first", "db-1",
			map[string]string{"MCP_SSH_SECRET_DB-1": "a", "SALLYPORT_SECRET_DB-1": "b"},
			map[string]string{"secrets/.env": "db-1=c", "secrets/db-1": "d"},
			"a",
		},
		{
			"our variable", "db",
			map[string]string{"SALLYPORT_SECRET_DB": "b", "MCP_SSH_SECRET_DB": ""},
			map[string]string{"secrets/.env": "db=c", "secrets/db": "d"},
			"b",
		},
		{".env before the file", "db", nil, map[string]string{"secrets/.env": "db=c", "secrets/db": "d"}, "c"},
		{".env as written before upper-cased", "db", nil, map[string]string{"secrets/.env": "DB=C\ndb=c"}, "c"},
		{"a lower-case name finds an upper-case key", "db_pass", nil, map[string]string{"secrets/.env": "DB_PASS=C"}, "C"},
		{"an empty value in .env is none", "db", nil, map[string]string{"secrets/.env": "db=\nDB=\"\"", "secrets/db": "d"}, "d"},
		{"the file, without its newline", "db", nil, map[string]string{"secrets/db": " d e\r\n"}, "d e"},
		{"a name of 100 characters", strings.Repeat("s", 100), nil, map[string]string{"secrets/" + strings.Repeat("s", 100): "d"}, "d"},
		{"a bare variable is not a secret", "db", map[string]string{"DB": "a", "db": "a"}, map[string]string{"secrets/db": "d"}, "d"},
		{"env: with a prefix", "env:SALLYPORT_SECRET_DB", map[string]string{"SALLYPORT_SECRET_DB": "b"}, nil, "b"},
		{"env: with the other prefix", "env:MCP_SSH_SECRET_db", map[string]string{"MCP_SSH_SECRET_db": "b"}, nil, "b"},
		{"env: that is listed", "env:VAULT", map[string]string{"VAULT": "v"}, map[string]string{settingsFile: "secrets: {env_allow: [VAULT]}"}, "v"},
		{"file: goes past the others", "file:db", map[string]string{"SALLYPORT_SECRET_DB": "b"}, map[string]string{"secrets/.env": "db=c", "secrets/db": "d"}, "d"},
		{"file: with a dot", "file:db.txt", nil, map[string]string{"secrets/db.txt": "d"}, "d"},

		{".env: comments and blanks", "db", nil, map[string]string{"secrets/.env": "# x=1\n\n  \n  # y\nother=o\n db = c d \n"}, "c d"},
		{".env: double quotes", "db", nil, map[string]string{"secrets/.env": `db=" c "`}, " c "},
		{".env: single quotes", "db", nil, map[string]string{"secrets/.env": `db='"c"'`}, `"c"`},
		{".env: quotes that do not match", "db", nil, map[string]string{"secrets/.env": `db="c'`}, `"c'`},
		{".env: a single quote", "db", nil, map[string]string{"secrets/.env": `db="`}, `"`},
		{".env: an equals sign in a value", "db", nil, map[string]string{"secrets/.env": "db=c=d=="}, "c=d=="},
		{".env: nothing is expanded", "db", nil, map[string]string{"secrets/.env": `db=$HOME\n#c`}, `$HOME\n#c`},
		{".env: lines end with CR LF", "db", nil, map[string]string{"secrets/.env": "other=o\r\ndb=c\r\n"}, "c"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := mustLoad(t, Options{Dir: oneLogin(t, "password_secret: "+tc.ref, tc.files), Env: lookup(tc.env)})
			login, err := c.Login("web1")
			if err != nil || login.Password != tc.want || login.User != "ops" {
				t.Errorf("Login = %q for %q, %v; want %q", login.Password, login.User, err, tc.want)
			}
		})
	}
}

// TestSecretRefused: what must not be read is not read, at load and at login.
func TestSecretRefused(t *testing.T) {
	bad := []string{
		"../x", "..\\x", "....//....//etc/passwd", "/etc/passwd", "a/b", "a b", "a\nb", "a\tb", "a\"b", "a'b",
		"a;b", "a|b", "a&b", "a$b", "a`b", "a(b", "a<b", "a*b", "a?b", "a.b", ".", "..", "ä", "a\x00b", " a",
		strings.Repeat("s", 101), "env:", "env:A-B", "env:PATH", "env:SALLYPORT_SECRETS_DIR", "file:", "file:../x", "file:a/b", "file:.env", "file:a..b", "FILE:a", "none",
	}
	v := vault{secretsDir: t.TempDir(), env: func(string) string { return "from the environment" }}
	for _, ref := range bad[:len(bad)-1] {
		if got, f := v.secret(ref); f == nil {
			t.Errorf("secret(%q) = %q", ref, got)
		}
	}
	v.env = func(string) string { return "" }
	if got, f := v.secret("none"); f == nil || !strings.Contains(f.message, filepath.Join(v.secretsDir, "none")) {
		t.Errorf("a missing secret gives %q, %v", got, f)
	}
}

// TestLengthBeforeCharacters: which of two reasons is given.
func TestLengthBeforeCharacters(t *testing.T) {
	v := vault{keysDir: "keys"}
	if _, f := secretName(strings.Repeat("/", 101)); f == nil || f.message != "longer than 100 characters" {
		t.Errorf("secret: %v", f)
	}
	if _, f := secretName(strings.Repeat("ä", 100)); f == nil || strings.Contains(f.message, "longer") {
		t.Errorf("secret of 100 characters in more bytes: %v", f)
	}
	if _, f := v.keyName(strings.Repeat("../", 167)); f == nil || f.message != "longer than 500 characters" {
		t.Errorf("key: %v", f)
	}
	if _, f := v.keyName(strings.Repeat("k", 500)); f != nil {
		t.Errorf("key path of 500 characters: %v", f)
	}
}

// TestKeyPaths are the ways to name a key file that lead to it.
func TestKeyPaths(t *testing.T) {
	for name, path := range map[string]string{
		"relative": "id", "below": "team/id", "with a dot": "./id", "with a dot inside": "team/./id", "absolute": "$KEYS/team/id",
	} {
		t.Run(name, func(t *testing.T) {
			key := string(fakeKey("id"))
			dir := oneLogin(t, "agent: true", map[string]string{"keys/id": key, "keys/team/id": key})
			path = strings.ReplaceAll(path, "$KEYS", filepath.Join(dir, "keys"))
			must(t, os.WriteFile(filepath.Join(dir, credentialsFile), []byte("entries: [{name: ops, username: ops, key_path: "+path+"}]"), 0o600))
			login, err := mustLoad(t, Options{Dir: dir}).Login("web1")
			if err != nil || string(login.Key) != key || login.KeyName != path {
				t.Errorf("Login = %v, %v", login, err)
			}
		})
	}
}

// TestLinkedDirectory: keys/ itself may be a symbolic link.
func TestLinkedDirectory(t *testing.T) {
	dir := oneLogin(t, "key_path: id", map[string]string{"elsewhere/id": string(fakeKey("id"))})
	must(t, os.RemoveAll(filepath.Join(dir, "keys")))
	must(t, os.Symlink("elsewhere", filepath.Join(dir, "keys")))
	if _, err := mustLoad(t, Options{Dir: dir}).Login("web1"); err != nil {
		t.Error(err)
	}
}

// TestLoginNow: a login is read when it is asked for, and refused when its
// files are no longer as they must be.
func TestLoginNow(t *testing.T) {
	dir := oneLogin(t, "key_path: id, key_passphrase_secret: pass, certificate_path: id-cert.pub", map[string]string{
		"keys/id":          string(fakeKey("old")),
		"keys/id-cert.pub": "ssh-ed25519-cert-v01@openssh.com AAAA",
		"secrets/.env":     "pass=old",
	})
	c := mustLoad(t, Options{Dir: dir})
	key, env := filepath.Join(dir, "keys/id"), filepath.Join(dir, "secrets/.env")

	must(t, os.WriteFile(key, fakeKey("new"), 0o600))
	must(t, os.WriteFile(env, []byte("pass=new"), 0o600))
	login, err := c.Login("web1")
	must(t, err)
	if !bytes.Equal(login.Key, fakeKey("new")) || login.Passphrase != "new" || len(login.Certificate) == 0 || login.Password != "" {
		t.Errorf("Login is not what the files are now: %v", login)
	}

	for _, tc := range []struct {
		change func() error
		want   []string
	}{
		{func() error { return os.Chmod(env, 0o640) }, []string{`credentials "ops" of host "web1"`, env, "0640", "chmod go-rwx"}},
		{func() error { return os.Chmod(key, 0o604) }, []string{key, "0604"}},
		{func() error { return os.Remove(key) }, []string{key, "does not exist"}},
		{func() error { return os.Symlink("id-cert.pub", key) }, []string{key, "symbolic link"}},
	} {
		must(t, tc.change())
		login, err := c.Login("web1")
		if err == nil || len(login.Key)+len(login.Passphrase) > 0 {
			t.Fatalf("Login = %v, %v; want an error with %q and nothing else", login, err, tc.want)
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v\ndoes not say %q", err, want)
			}
		}
	}
	if _, err := c.Login("web2"); err == nil || !strings.Contains(err.Error(), `"web2"`) {
		t.Errorf("Login of an unknown host: %v", err)
	}
}

func TestAgent(t *testing.T) {
	env := map[string]string{"SSH_AUTH_SOCK": "/run/agent"}
	for entry, want := range map[string]string{"agent: true": "/run/agent", "agent: /run/other": "/run/other"} {
		c := mustLoad(t, Options{Dir: oneLogin(t, entry, nil), Env: lookup(env)})
		if login, err := c.Login("web1"); err != nil || login.Agent != want {
			t.Errorf("%s: Login = %q, %v; want %q", entry, login.Agent, err, want)
		}
	}
	c := mustLoad(t, Options{Dir: oneLogin(t, "agent: true", nil)})
	if _, err := c.Login("web1"); err == nil || !strings.Contains(err.Error(), "SSH_AUTH_SOCK") {
		t.Errorf("without an agent, Login gives %v", err)
	}
}

func TestPlaintextPassword(t *testing.T) {
	c := mustLoad(t, Options{Dir: oneLogin(t, "password: ' hunter2 '", nil)})
	login, err := c.Login("web1")
	if err != nil || login.Password != " hunter2 " {
		t.Errorf("Login = %q, %v", login.Password, err)
	}
	if all := strings.Join(warningsOf(c), "\n"); !strings.Contains(all, "plain text") || strings.Contains(all, "hunter2") {
		t.Errorf("warnings: %s", all)
	}
}

// TestLoginShowsNothing prints a login in every way there is.
func TestLoginShowsNothing(t *testing.T) {
	l := Login{
		User: "ops", Key: []byte("SECRETKEY"), KeyName: "id_ed25519", Passphrase: "SECRETPHRASE",
		Password: "SECRETWORD", Agent: "/run/agent", Certificate: []byte("CERTIFICATE"),
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T %[1]v", "%10v"} {
		fmt.Fprintf(&out, verb+"\n", l)
		fmt.Fprintf(&out, verb+"\n", &l)
		fmt.Fprintf(&out, verb+"\n", []Login{l})
		fmt.Fprintf(&out, verb+"\n", map[string]any{"login": l})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("login", "login", l, "pointer", &l, "group", slog.GroupValue(slog.Any("login", l)))
	}
	b, err := json.Marshal(map[string]any{"login": l, "pointer": &l})
	must(t, err)
	out.Write(b)
	fmt.Fprintln(&out, l.String(), l.GoString())
	text := strings.ToLower(out.String())
	for _, secret := range []string{"SECRETKEY", "SECRETPHRASE", "SECRETWORD"} {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprint([]byte(secret)), "U0VDUkVU"} {
			if strings.Contains(text, strings.ToLower(form)) {
				t.Errorf("%s shows as %s in\n%s", secret, form, out.String())
			}
		}
	}
	if want := "login ops (key id_ed25519, certificate, passphrase, password, agent)"; l.String() != want {
		t.Errorf("String() = %s, want %s", l, want)
	}
}

// TestSwapped reads while a directory and a file are swapped for symbolic links
// to others beside them, as often as it takes to lose a race: whatever it gets,
// it is never from there.
func TestSwapped(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "team"), filepath.Join(dir, "spare")
	for path, content := range map[string]string{"team/key": "inside", "team/other": "outside", "elsewhere/key": "outside"} {
		path = filepath.Join(dir, path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	must(t, os.Symlink("elsewhere", out))
	must(t, os.Symlink("other", in+"/spare"))

	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
				swap(in, out)
				swap(filepath.Join(in, "key"), filepath.Join(in, "spare"))
			}
		}
	}()
	read := 0
	for range 20_000 {
		data, err := readPrivate(dir, "team/key", maxKeyFile)
		if err == nil && string(data) != "inside" {
			t.Errorf("read %q through a symbolic link", data)
			break
		}
		if err == nil {
			read++
		}
	}
	close(done)
	<-stopped
	t.Logf("%d of 20000 reads met the file itself", read)
}

// swap exchanges two names. In between neither is there, and swapping twice
// leaves all as it was.
func swap(a, b string) {
	_ = os.Rename(a, a+".tmp")
	_ = os.Rename(b, a)
	_ = os.Rename(a+".tmp", b)
}

// TestNamedPipe: a pipe in place of a file is refused, not waited for.
func TestNamedPipe(t *testing.T) {
	dir := oneLogin(t, "password_secret: pipe", nil)
	must(t, syscall.Mkfifo(filepath.Join(dir, "secrets/pipe"), 0o600))
	must(t, syscall.Mkfifo(filepath.Join(dir, settingsFile), 0o600))
	_, err := Load(Options{Dir: dir, Env: noEnv})
	if err == nil || strings.Count(err.Error(), "not a regular file") != 2 {
		t.Errorf("Load = %v", err)
	}
}
