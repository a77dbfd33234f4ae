package sshexec

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// hostKeyLab is a real sshd with three host keys, and perhaps a certificate for
// one of them.
type hostKeyLab struct {
	*sshtest.OpenSSH
	dir                    string
	ed25519, rsa, stranger string // "type base64" of public keys
	otherECDSA             string
	ca, otherCA, cert      string
	hashed, hashedBare     string // [localhost]:port and localhost
}

// newHostKeyLab starts an sshd. The certificate for one of its keys, if any, is
// signed by the authority ca with these arguments of ssh-keygen.
func newHostKeyLab(t *testing.T, certified string, cert ...string) *hostKeyLab {
	t.Helper()
	lab := &hostKeyLab{dir: t.TempDir()}
	for _, k := range []struct {
		name, kind string
		public     *string
	}{
		{"ed25519", "ed25519", &lab.ed25519},
		{"ecdsa", "ecdsa", new(string)},
		{"rsa", "rsa", &lab.rsa},
		{"stranger", "ed25519", &lab.stranger},
		{"other-ecdsa", "ecdsa", &lab.otherECDSA},
		{"ca", "ed25519", &lab.ca},
		{"other-ca", "ed25519", &lab.otherCA},
	} {
		keygen(t, "-q", "-t", k.kind, "-N", "", "-C", "", "-f", lab.path(k.name))
		*k.public = lab.public(t, k.name+".pub")
	}
	config := append(noPenalties(t), "HostKey "+lab.path("ed25519"), "HostKey "+lab.path("ecdsa"), "HostKey "+lab.path("rsa"))
	if certified != "" {
		keygen(t, slices.Concat([]string{"-q", "-s", lab.path("ca"), "-I", "host", "-h"}, cert, []string{lab.path(certified + ".pub")})...)
		lab.cert = lab.public(t, certified+"-cert.pub")
		config = append(config, "HostCertificate "+lab.path(certified+"-cert.pub"))
	}
	lab.OpenSSH = sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Config: config})
	lab.hashed = hashedName(t, fmt.Sprintf("[localhost]:%d", lab.Addr.Port()), lab.path("hash"))
	lab.hashedBare = hashedName(t, "localhost", lab.path("hash"))
	return lab
}

func (l *hostKeyLab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *hostKeyLab) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(l.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l *hostKeyLab) public(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(l.path(file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func keygen(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(sshtest.Require(t, "ssh-keygen", "openssh-client"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// noPenalties keeps an sshd that would penalise this address for the refusals
// that a test is about from doing so.
func noPenalties(t testing.TB) []string {
	t.Helper()
	out, _ := exec.Command(sshtest.Require(t, "ssh", "openssh-client"), "-V").CombinedOutput()
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "OpenSSH_%d.%d", &major, &minor); err != nil {
		t.Fatalf("ssh -V: %s: %v", out, err)
	}
	if major > 9 || major == 9 && minor >= 8 {
		return []string{"PerSourcePenalties no"}
	}
	return nil
}

// opensshAccepts has the ssh program connect, without anything to log in with,
// and reports whether it believed the host.
func (l *hostKeyLab) opensshAccepts(t *testing.T, host, alias string) bool {
	t.Helper()
	args := []string{
		"-F", "none", "-p", fmt.Sprint(l.Addr.Port()), "-l", "nobody",
		"-o", "UserKnownHostsFile=" + l.path("known_hosts"), "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "PreferredAuthentications=none",
		"-o", "AddressFamily=inet", "-o", "KexAlgorithms=curve25519-sha256", "-o", "ConnectTimeout=30",
	}
	if alias != "" {
		args = append(args, "-o", "HostKeyAlias="+alias)
	}
	out, _ := exec.Command(sshtest.Require(t, "ssh", "openssh-client"), append(args, "--", host, "true")...).CombinedOutput()
	believed := strings.Contains(string(out), "Permission denied")
	if believed == strings.Contains(string(out), "Host key verification failed") {
		t.Fatalf("ssh: %s", out)
	}
	return believed
}

// handshakeErr holds one handshake and login, as the dial path does.
func handshakeErr(t testing.TB, trust *Trust, target tool.Target, l Login) error {
	t.Helper()
	config, err := trust.clientConfig(target, l)
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", addrPort(target).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	client, chans, reqs, err := ssh.NewClientConn(c, "", config)
	if err != nil {
		return classifyHandshake(err, target)
	}
	ssh.NewClient(client, chans, reqs).Close()
	return client.Wait()
}

// failureOf is the failure that an error is; nil for a login that worked.
func failureOf(t testing.TB, err error) *tool.Failure {
	t.Helper()
	var f *tool.Failure
	switch {
	case errors.As(err, &f) && f.Message != "" && f.Remedy != "":
		return f
	case err != nil && (strings.Contains(err.Error(), "closed") || strings.Contains(err.Error(), "EOF")):
		return nil // of the Close after a login
	case err != nil:
		t.Fatalf("not a failure with a message and a remedy: %#v", err)
	}
	return nil
}

func newTrust(t testing.TB, files ...string) *Trust {
	t.Helper()
	trust, err := NewTrust(TrustOptions{KnownHosts: files})
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// hostKeyCase is a known_hosts file, and what becomes of a host under it.
type hostKeyCase struct {
	name  string
	host  string // empty: localhost
	alias string
	// known are lines in which the words in braces stand for keys, the port
	// and the hashed host.
	known []string
	want  tool.FailureCode // empty: it is believed
}

// fill puts the lab's keys into lines.
func (l *hostKeyLab) fill(lines []string) string {
	return strings.NewReplacer(
		"{ed25519}", l.ed25519, "{rsa}", l.rsa, "{stranger}", l.stranger, "{ca}", l.ca, "{other-ca}", l.otherCA,
		"{other ecdsa}", l.otherECDSA, "{cert}", l.cert,
		"{port}", fmt.Sprint(l.Addr.Port()), "{ed25519 blob}", strings.Fields(l.ed25519)[1],
		"{hashed}", l.hashed, "{hashed bare}", l.hashedBare,
	).Replace(strings.Join(lines, "\n") + "\n")
}

// hashedName is a host name as ssh-keygen -H hashes it.
func hashedName(t *testing.T, name, scratch string) string {
	t.Helper()
	if err := os.WriteFile(scratch, []byte(name+" "+someKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keygen(t, "-q", "-H", "-f", scratch)
	text, err := os.ReadFile(scratch)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))[0]
}

// hostKeyGroups are the cases by what the host has.
var hostKeyGroups = []struct {
	name      string
	certified string   // the key that has a certificate
	cert      []string // its arguments for ssh-keygen
	cases     []hostKeyCase
}{
	{"plain keys", "", nil, []hostKeyCase{
		{name: "one key of three, ed25519", known: []string{"[localhost]:{port} {ed25519}"}},
		{name: "one key of three, rsa", known: []string{"[localhost]:{port} {rsa}"}},
		{name: "hashed", known: []string{"{hashed} {ed25519}"}},
		{name: "hashed, bare", known: []string{"{hashed bare} {ed25519}"}},
		{name: "trailing comment", known: []string{"[localhost]:{port} {ed25519} root@somewhere # else"}},
		{name: "leading blanks and tabs", known: []string{" \t[localhost]:{port}\t \t{ed25519}"}},
		{name: "carriage returns", known: []string{"\r", "# comment\r", "[localhost]:{port} {ed25519}\r"}},
		{name: "plain host on odd port", known: []string{"localhost {ed25519}"}},
		{name: "plain host on odd port, rsa only", known: []string{"localhost {rsa}"}, want: tool.FailUnknownHostKey},
		{name: "plain host on odd port, another key", known: []string{"localhost {stranger}"}, want: tool.FailUnknownHostKey},
		{name: "port known with another key, plain host right", known: []string{"[localhost]:{port} {stranger}", "localhost {ed25519}"}, want: tool.FailChangedHostKey},
		{name: "everyone", known: []string{"* {ed25519}"}},
		{name: "everyone but this host", known: []string{"*,![localhost]:{port} {ed25519}"}},
		{name: "everyone but this host by any name", known: []string{"*,!*localhost* {ed25519}"}, want: tool.FailUnknownHostKey},
		{name: "question marks", known: []string{"[local????]:{port} {ed25519}"}},
		{name: "address pattern with port", host: "127.0.0.1", known: []string{"[127.0.0.*]:{port} {ed25519}"}},
		{name: "address pattern for another port", host: "127.0.0.1", known: []string{"[127.0.0.*]:22 {ed25519}"}, want: tool.FailUnknownHostKey},
		{name: "address pattern without port", host: "127.0.0.1", known: []string{"127.0.0.* {ed25519}"}},
		{name: "known by address alone", known: []string{"[127.0.0.1]:{port} {ed25519}"}, want: tool.FailUnknownHostKey},
		{name: "wrong key", known: []string{"[localhost]:{port} {stranger}"}, want: tool.FailChangedHostKey},
		{name: "wrong key and right key", known: []string{"[localhost]:{port} {stranger}", "[localhost]:{port} {ed25519}"}},
		{name: "unknown host", known: []string{"[elsewhere]:{port} {ed25519}"}, want: tool.FailUnknownHostKey},
		{name: "empty file", want: tool.FailUnknownHostKey},
		{name: "revoked and listed", known: []string{"[localhost]:{port} {ed25519}", "@revoked [localhost]:{port} {ed25519}"}, want: tool.FailRevokedHostKey},
		{name: "revoked for everyone", known: []string{"@revoked * {ed25519}", "[localhost]:{port} {ed25519}"}, want: tool.FailRevokedHostKey},
		{name: "revoked alone", known: []string{"@revoked [localhost]:{port} {ed25519}"}, want: tool.FailRevokedHostKey},
		{name: "revoked by its bare name", known: []string{"localhost {ed25519}", "@revoked localhost {ed25519}"}, want: tool.FailRevokedHostKey},
		{name: "revoked for another host", known: []string{"[localhost]:{port} {ed25519}", "@revoked elsewhere {ed25519}"}},
		{name: "another key revoked", known: []string{"[localhost]:{port} {ed25519}", "@revoked [localhost]:{port} {stranger}"}},
		{name: "upper case in the file", known: []string{"[LOCALHOST]:{port} {ed25519}"}},
		{name: "upper case in the inventory", host: "LocalHost", known: []string{"[localhost]:{port} {ed25519}"}},
		{name: "malformed line", known: []string{"[localhost]:{port} ssh-ed25519 !!!", "word", "[localhost]:{port} {ed25519}"}},
		{name: "malformed line alone", known: []string{"[localhost]:{port} ssh-ed25519 !!!"}, want: tool.FailUnknownHostKey},
		{name: "unknown key type", known: []string{"[localhost]:{port} ssh-quantum AAAA", "[localhost]:{port} {ed25519}"}},
		{name: "key type that is not the key's", known: []string{"[localhost]:{port} ssh-rsa {ed25519 blob}"}, want: tool.FailUnknownHostKey},
		{name: "SSH-1 line", known: []string{"[localhost]:{port} 1024 35 1234567890", "[localhost]:{port} {ed25519}"}},
		{name: "unknown marker", known: []string{"@trusted [localhost]:{port} {stranger}", "[localhost]:{port} {ed25519}"}},
		{name: "two markers", known: []string{"@cert-authority @cert-authority [localhost]:{port} {stranger}", "[localhost]:{port} {ed25519}"}},
		{name: "its key as an authority", known: []string{"@cert-authority [localhost]:{port} {ed25519}"}, want: tool.FailUnknownHostKey},
		{name: "alias", alias: "web1", known: []string{"web1 {ed25519}"}},
		{name: "alias in upper case", alias: "WEB1", known: []string{"web1 {ed25519}"}},
		{name: "alias has no port", alias: "web1", known: []string{"[web1]:{port} {ed25519}"}, want: tool.FailUnknownHostKey},
		{name: "alias, known by name", alias: "web1", known: []string{"[localhost]:{port} {ed25519}", "localhost {ed25519}"}, want: tool.FailUnknownHostKey},
	}},
	{"certificate", "ed25519", []string{"-n", "localhost"}, []hostKeyCase{
		{name: "authority for [host]:port", known: []string{"@cert-authority [localhost]:{port} {ca}"}},
		{name: "authority for host", known: []string{"@cert-authority localhost {ca}"}},
		{name: "authority for everyone", known: []string{"@cert-authority * {ca}"}},
		{name: "authority after blanks", known: []string{"@cert-authority \t [localhost]:{port} {ca}"}},
		{name: "wrong authority", known: []string{"@cert-authority * {other-ca}"}, want: tool.FailUnknownHostKey},
		{name: "two authorities", known: []string{"@cert-authority * {other-ca}", "@cert-authority * {ca}"}},
		{name: "authority for others", known: []string{"@cert-authority *.example.com {ca}"}, want: tool.FailUnknownHostKey},
		{name: "authority as a plain key", known: []string{"* {ca}"}, want: tool.FailChangedHostKey},
		{name: "revoked authority", known: []string{"@cert-authority * {ca}", "@revoked * {ca}"}, want: tool.FailRevokedHostKey},
		{name: "authority revoked for another host", known: []string{"@cert-authority * {ca}", "@revoked elsewhere {ca}"}},
		{name: "revoked authority, plain key known", known: []string{"[localhost]:{port} {ed25519}", "@revoked * {ca}"}, want: tool.FailRevokedHostKey},
		{name: "authority revoked by bare name, plain key known", known: []string{"[localhost]:{port} {ed25519}", "@revoked localhost {ca}"}},
		{name: "authority revoked by bare name", known: []string{"@revoked localhost {ca}"}, want: tool.FailRevokedHostKey},
		{name: "revoked host key", known: []string{"@cert-authority * {ca}", "@revoked * {ed25519}"}, want: tool.FailRevokedHostKey},
		{name: "plain key known", known: []string{"[localhost]:{port} {ed25519}"}},
		{name: "plain key known by bare name", known: []string{"localhost {ed25519}"}},
		{name: "other plain key known", known: []string{"[localhost]:{port} {rsa}"}},
		{name: "wrong plain key known", known: []string{"[localhost]:{port} {stranger}"}, want: tool.FailChangedHostKey},
		{name: "wrong authority, plain key known", known: []string{"@cert-authority * {other-ca}", "[localhost]:{port} {ed25519}"}},
		{name: "authority, wrong plain key", known: []string{"[localhost]:{port} {stranger}", "@cert-authority [localhost]:{port} {ca}"}},
		{name: "authority, wrong plain key of another type", known: []string{"[localhost]:{port} {other ecdsa}", "@cert-authority [localhost]:{port} {ca}"}},
		{name: "revoked by its certificate", known: []string{"@cert-authority * {ca}", "@revoked * {cert}"}, want: tool.FailRevokedHostKey},
		{name: "known by its certificate", known: []string{"* {cert}"}, want: tool.FailUnknownHostKey},
		{name: "principal is not the address", host: "127.0.0.1", known: []string{"@cert-authority * {ca}"}, want: tool.FailUnknownHostKey},
		{name: "principal is not the alias", alias: "web1", known: []string{"@cert-authority * {ca}"}, want: tool.FailUnknownHostKey},
		{name: "principal of an alias in upper case", alias: "LOCALHOST", known: []string{"@cert-authority * {ca}"}},
		{name: "upper case in the inventory", host: "LOCALHOST", known: []string{"@cert-authority localhost {ca}"}},
	}},
	{"expired certificate", "ed25519", []string{"-n", "localhost", "-V", "20200101:20210101"}, []hostKeyCase{
		{name: "authority known", known: []string{"@cert-authority * {ca}"}, want: tool.FailUnknownHostKey},
		{name: "plain key known", known: []string{"@cert-authority * {ca}", "[localhost]:{port} {ed25519}"}},
		{name: "plain key changed", known: []string{"@cert-authority * {ca}", "[localhost]:{port} {stranger}"}, want: tool.FailChangedHostKey},
	}},
	{"certificate for others", "ed25519", []string{"-n", "elsewhere,*.localhost,Localhost"}, []hostKeyCase{
		{name: "principal mismatch", known: []string{"@cert-authority * {ca}"}, want: tool.FailUnknownHostKey},
		{name: "principal mismatch, plain key known", known: []string{"@cert-authority * {ca}", "localhost {ed25519}"}},
		{name: "principal of the alias", alias: "elsewhere", known: []string{"@cert-authority * {ca}"}},
	}},
	{"certificate for a pattern", "ed25519", []string{"-n", "local*"}, []hostKeyCase{
		{name: "authority known", known: []string{"@cert-authority * {ca}"}, want: tool.FailUnknownHostKey},
	}},
	{"certificate for a key that is not the known one", "ecdsa", []string{"-n", "localhost"}, []hostKeyCase{
		{name: "authority known", known: []string{"@cert-authority * {ca}", "* {ed25519}"}},
		{name: "best key known", known: []string{"[localhost]:{port} {ed25519}"}, want: tool.FailChangedHostKey},
		{name: "rsa key known", known: []string{"[localhost]:{port} {rsa}"}},
	}},
	{"certificate for anyone", "ed25519", []string{"-V", "+52w"}, []hostKeyCase{
		{name: "authority known", known: []string{"@cert-authority * {ca}"}},
	}},
}

// TestHostKeysLikeOpenSSH has the ssh program and this package decide about the
// same hosts under the same files.
func TestHostKeysLikeOpenSSH(t *testing.T) {
	for _, group := range hostKeyGroups {
		t.Run(group.name, func(t *testing.T) {
			lab := newHostKeyLab(t, group.certified, group.cert...)
			for _, tc := range group.cases {
				t.Run(tc.name, func(t *testing.T) { lab.agree(t, tc) })
			}
		})
	}
}

// agree runs one case through both. Neither can log in: a host that is believed
// refuses them.
func (l *hostKeyLab) agree(t *testing.T, tc hostKeyCase) {
	text := l.fill(tc.known)
	l.write(t, "known_hosts", text)
	host := cmp.Or(tc.host, "localhost")
	there := target("nobody", l.Addr)
	there.Hostname = host
	f := failureOf(t, handshakeErr(t, newTrust(t, l.path("known_hosts")), there, Login{Password: "wrong", HostKeyAlias: tc.alias}))
	if want := cmp.Or(tc.want, tool.FailAuth); f.Code != want {
		t.Errorf("we say %s: %s; want %s, under\n%s", f.Code, f.Message, want, text)
	}
	if l.opensshAccepts(t, host, tc.alias) != (tc.want == "") {
		t.Errorf("ssh does not say %q, under\n%s", tc.want, text)
	}
}

// TestUnknownHostKeyRemedy does what the remedy says, and is then believed.
func TestUnknownHostKeyRemedy(t *testing.T) {
	lab := newHostKeyLab(t, "")
	for _, alias := range []string{"", "web1"} {
		lab.write(t, "known_hosts", "")
		there := target("nobody", lab.Addr)
		there.Hostname = "localhost"
		trust := newTrust(t, lab.path("known_hosts"))
		login := Login{Password: "wrong", HostKeyAlias: alias}
		f := failureOf(t, handshakeErr(t, trust, there, login))
		if f.Code != tool.FailUnknownHostKey {
			t.Fatalf("%s: %s", f.Code, f.Message)
		}
		for _, part := range []string{"ED25519", fingerprint(t, lab.ed25519), lab.path("known_hosts"), fmt.Sprint(lab.Addr.Port())} {
			if !strings.Contains(f.Message, part) {
				t.Errorf("%q does not name %s", f.Message, part)
			}
		}
		if _, command, ok := strings.Cut(f.Remedy, "run: "); ok {
			command, _, _ = strings.Cut(command, ", and reload")
			sshtest.Require(t, "ssh-keyscan", "openssh-client")
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", command, err, out)
			}
		} else if _, line, ok := strings.Cut(f.Remedy, "the line: "); ok {
			line, _, _ = strings.Cut(line, ", and reload")
			lab.write(t, "known_hosts", line+"\n")
		} else {
			t.Fatalf("no command and no line in: %s", f.Remedy)
		}
		reload(t, trust)
		if f := failureOf(t, handshakeErr(t, trust, there, login)); f.Code != tool.FailAuth {
			t.Errorf("alias %q: after the remedy: %s: %s", alias, f.Code, f.Message)
		}
	}
}

func fingerprint(t *testing.T, public string) string {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(key)
}

func TestHostKeyFailuresNameBothKeysAndTheLine(t *testing.T) {
	lab := newHostKeyLab(t, "")
	file := lab.path("known_hosts")
	there := target("nobody", lab.Addr)
	for _, tc := range []struct {
		lines string
		code  tool.FailureCode
		says  []string
	}{
		{
			"# one\n[127.0.0.1]:{port} {stranger}\n", tool.FailChangedHostKey,
			[]string{fingerprint(t, lab.ed25519), fingerprint(t, lab.stranger), file + ":2", "has changed"},
		},
		{"@revoked * {ed25519}\n", tool.FailRevokedHostKey, []string{fingerprint(t, lab.ed25519), file + ":1"}},
		{"* " + someKey + "\n* {stranger}", tool.FailChangedHostKey, []string{fingerprint(t, someKey), file + ":1"}},
	} {
		lab.write(t, "known_hosts", lab.fill([]string{tc.lines}))
		f := failureOf(t, handshakeErr(t, newTrust(t, file), there, Login{Password: "wrong"}))
		if f.Code != tc.code {
			t.Errorf("%s: %s", f.Code, f.Message)
		}
		for _, part := range tc.says {
			if !strings.Contains(f.Message, part) {
				t.Errorf("%q does not name %s", f.Message, part)
			}
		}
	}
	f := failureOf(t, handshakeErr(t, newTrust(t), there, Login{Password: "wrong"}))
	if f.Code != tool.FailUnknownHostKey || !strings.Contains(f.Message, "no known_hosts file is configured") ||
		!strings.Contains(f.Remedy, ">> keys/known_hosts") {
		t.Errorf("without a file: %s: %s", f.Code, f.Message)
	}
	lab.write(t, "known_hosts", "")
	behind := there
	behind.Via = []tool.Target{{Alias: "bastion"}}
	f = failureOf(t, handshakeErr(t, newTrust(t, file), behind, Login{Password: "wrong"}))
	if !strings.Contains(f.Message, "through bastion") || strings.Contains(f.Remedy, "ssh-keyscan") {
		t.Errorf("behind a jump host, where ssh-keyscan does not reach: %s; %s", f.Message, f.Remedy)
	}
}
