package config

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Login is what it takes to log in to a host. However it is printed, logged or
// marshalled, it shows which kinds of secret it holds and none of them.
type Login struct {
	User        string
	Key         []byte // private key file, PEM
	KeyName     string // as credentials.yml names it
	Passphrase  string // of the key
	Password    string
	Agent       string // socket of an SSH agent
	Certificate []byte // OpenSSH certificate of the key, a line as in a .pub file
}

// Login reads what it takes to log in to a host, from keys/, secrets/ and the
// environment as they are now. Its error names the entry, the file and the
// remedy.
func (c *Config) Login(alias string) (Login, error) {
	host, ok := c.Host(alias)
	if !ok {
		return Login{}, fmt.Errorf("host %q is not in %s", alias, serversFile)
	}
	entry := c.logins[host.Credentials]
	login, f := entry.login(c.vault)
	if f != nil {
		return Login{}, fmt.Errorf("credentials %q of host %q: %w", entry.name, alias, f)
	}
	return login, nil
}

// Key reads a private key file by its path below keys/, for a host that is not in
// the inventory. The error is for the operator: it says what is there and what is
// not.
func (c *Config) Key(path string) ([]byte, error) {
	key, f := c.vault.key(path)
	if f != nil {
		return nil, f
	}
	return key, nil
}

func (c *credential) login(v vault) (Login, *fault) {
	l := Login{User: c.username, KeyName: c.keyPath}
	if c.password != nil {
		l.Password = c.password()
	}
	for _, part := range []struct {
		name string
		read func(string) *fault
	}{
		{c.keyPath, into(&l.Key, v.key)},
		{c.certificatePath, into(&l.Certificate, v.certificate)},
		{c.passphrase, into(&l.Passphrase, v.secret)},
		{c.passwordSecret, into(&l.Password, v.secret)},
	} {
		if part.name == "" {
			continue
		}
		if f := part.read(part.name); f != nil {
			return Login{}, f
		}
	}
	if c.agent {
		l.Agent = c.agentSocket
		if l.Agent == "" {
			l.Agent = v.env("SSH_AUTH_SOCK")
		}
		if l.Agent == "" {
			return Login{}, faultf("start an agent where the gateway runs, or name its socket as agent:", "there is no SSH agent: SSH_AUTH_SOCK is not set")
		}
	}
	return l, nil
}

func into[T any](p *T, read func(string) (T, *fault)) func(string) *fault {
	return func(name string) (f *fault) {
		*p, f = read(name)
		return f
	}
}

// String names the user and the kinds of secret.
func (l Login) String() string {
	var has []string
	for _, part := range []struct {
		kind string
		held bool
	}{
		{"key " + l.KeyName, len(l.Key) > 0},
		{"certificate", len(l.Certificate) > 0},
		{"passphrase", l.Passphrase != ""},
		{"password", l.Password != ""},
		{"agent", l.Agent != ""},
	} {
		if part.held {
			has = append(has, part.kind)
		}
	}
	return fmt.Sprintf("login %s (%s)", l.User, strings.Join(has, ", "))
}

// GoString is String, for %#v.
func (l Login) GoString() string { return l.String() }

// Format is String for every verb: %x of a password would be the password.
func (l Login) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, l.String()) }

// LogValue is String, for slog.
func (l Login) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalJSON is String, quoted.
func (l Login) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }
