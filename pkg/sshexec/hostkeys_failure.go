package sshexec

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// failure says why the key that a host showed is not believed.
func (c *hostCheck) failure(d decision, key ssh.PublicKey) *tool.Failure {
	key = plainKey(key)
	var f *tool.Failure
	switch d.standing {
	case distrusted:
		f = c.revokedKey(d.by, key)
	case changed:
		f = c.changedKey(d.by, key)
	default:
		f = c.unknownKey(key)
	}
	if d.note != "" {
		f.Message += "; " + d.note
	}
	return f
}

func (c *hostCheck) unknownKey(key ssh.PublicKey) *tool.Failure {
	where := "no known_hosts file is configured"
	if len(c.files) > 0 {
		where = fmt.Sprintf("%s has no key for %s", strings.Join(c.files, ", "), c.scopes[0].name)
	}
	pin := ""
	if c.target.AdHoc != nil {
		pin = "send it as host_key, or "
	}
	return &tool.Failure{
		Code:    tool.FailUnknownHostKey,
		Message: fmt.Sprintf("%s: unknown host key %s %s: %s", place(c.target), keyKind(key), ssh.FingerprintSHA256(key), where),
		Remedy:  verify(key) + "; only then " + pin + c.howToAdd(key) + ", and reload the configuration",
	}
}

// otherThanPinned is a host that does not show the key that the caller asks for.
func (c *hostCheck) otherThanPinned(key ssh.PublicKey) *tool.Failure {
	key = plainKey(key)
	return &tool.Failure{
		Code: tool.FailChangedHostKey,
		Message: fmt.Sprintf("%s: the host key is not the pinned one: it shows %s %s, but host_key is %s",
			place(c.target), keyKind(key), ssh.FingerprintSHA256(key), c.pin),
		Remedy: "someone may stand between; pin the fingerprint of its " + keyKind(key) + " key, and none that it only shows here",
	}
}

func (c *hostCheck) changedKey(known knownKey, key ssh.PublicKey) *tool.Failure {
	what := "the host key has changed"
	if known.key.Type() != key.Type() {
		what = "the host does not show the key that it is known by"
	}
	return &tool.Failure{
		Code: tool.FailChangedHostKey,
		Message: fmt.Sprintf("%s: %s: it shows %s %s, but known for %s is %s",
			place(c.target), what, keyKind(key), ssh.FingerprintSHA256(key), c.scopes[0].name, known),
		Remedy: fmt.Sprintf("someone may stand between; if the host was reinstalled, %s; only then put the new key in the place of %s:%d and reload the configuration",
			verify(key), known.file, known.line),
	}
}

func (c *hostCheck) revokedKey(by knownKey, key ssh.PublicKey) *tool.Failure {
	what := "its host key"
	if !sameKey(by.key, key) {
		what = "the authority that signed its host certificate"
	}
	return &tool.Failure{
		Code:    tool.FailRevokedHostKey,
		Message: fmt.Sprintf("%s: %s is revoked by %s; it shows %s %s", place(c.target), what, by, keyKind(key), ssh.FingerprintSHA256(key)),
		Remedy:  "do not use the host: whoever holds the revoked key can pass for it; give it a new key and make that known",
	}
}

// verify is how an operator makes sure of a key, at the host's own console.
func verify(key ssh.PublicKey) string {
	return fmt.Sprintf("at the host's own console, ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub must print %s",
		strings.ToLower(keyKind(key)), ssh.FingerprintSHA256(key))
}

// howToAdd is the command that makes a key known. Behind a jump host or under
// an alias, ssh-keyscan would not do.
func (c *hostCheck) howToAdd(key ssh.PublicKey) string {
	file := "keys/known_hosts" // where the configuration looks first
	if len(c.files) > 0 {
		file = shellWord(c.files[0])
	}
	if len(c.target.Via) > 0 || c.alias != "" {
		return fmt.Sprintf("append to %s the line: %s %s", file, c.scopes[0].name, bytes.TrimSpace(ssh.MarshalAuthorizedKey(key)))
	}
	scan := "ssh-keyscan"
	if p := port(c.target); p != 22 {
		scan += fmt.Sprintf(" -p %d", p)
	}
	return fmt.Sprintf("run: %s -t %s -- %s >> %s", scan, strings.ToLower(keyKind(key)), shellWord(c.name), file)
}

var harmless = regexp.MustCompile(`^[A-Za-z0-9@%_+=:,./-]+$`)

// shellWord quotes a word for people to paste, where it needs it.
func shellWord(s string) string {
	if harmless.MatchString(s) {
		return s
	}
	return shell.Quote(s)
}

// keyKind is the type of a key as OpenSSH calls it: ED25519, ECDSA, RSA.
func keyKind(key ssh.PublicKey) string {
	t := key.Type()
	switch {
	case t == ssh.KeyAlgoRSA:
		return "RSA"
	case strings.HasPrefix(t, "ecdsa-sha2-"):
		return "ECDSA"
	}
	return strings.ToUpper(strings.TrimPrefix(t, "ssh-"))
}
