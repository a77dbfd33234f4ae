package sshexec

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Login is how the gateway proves who it is to a host: a user name and one or
// more credentials. What is empty is not offered; what is there is offered in
// the order certificate, key, agent, password. It holds secrets and prints none
// of them, whichever way it is printed.
type Login struct {
	User    string // empty: the target's user
	KeyName string // what the key is called in messages: its file name
	// Key is a private key, OpenSSH or PEM. Together with Agent it may also be
	// a public key, or an encrypted key without its Passphrase: then it names
	// the one key of the agent to use.
	Key []byte
	// Passphrase decrypts Key.
	Passphrase string
	// Certificate is an OpenSSH user certificate for Key, or for a key of the
	// agent, as ssh-keygen writes it.
	Certificate []byte
	// Agent is the path of an ssh-agent's socket. Without Key and Certificate
	// its first five keys are offered.
	Agent string
	// Password answers the password and the keyboard-interactive method.
	Password string
	// HostKeyAlias is the name that the host's key is known by, where that is
	// not its hostname.
	HostKeyAlias string
	// Legacy also permits algorithms that rest on SHA-1, for a host that has
	// nothing better.
	Legacy bool
}

// String names the user and the kinds of credential.
func (l Login) String() string {
	var has []string
	for _, part := range []struct {
		kind string
		held bool
	}{
		{"certificate", len(l.Certificate) > 0},
		{"key " + l.KeyName, len(l.Key) > 0},
		{"passphrase", l.Passphrase != ""},
		{"agent", l.Agent != ""},
		{"password", l.Password != ""},
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

// steps turns a login into what can be offered. All that can be wrong with the
// credentials is found here, before the host hears of it.
func (t *Trust) steps(target tool.Target, l Login) ([]step, error) {
	keys, err := t.signers(l)
	if err != nil {
		return nil, unusable(target, err)
	}
	var steps []step
	for _, k := range keys {
		steps = append(steps, keyStep(k))
	}
	if l.Password != "" {
		steps = append(steps, passwordStep(l.Password), keyboardStep(target, l.Password))
	}
	if len(steps) == 0 {
		return nil, unusable(target, &credentialError{
			what: "there is nothing to log in with", remedy: "give its entry in credentials.yml a key, an agent or a password",
		})
	}
	return steps, nil
}

// offer is a key that can be offered, and what it is called in messages.
type offer struct {
	ssh.Signer
	name string
}

// signers collects the keys of a login. A key of the gateway's own needs no
// agent; an agent with a named key is asked for no other.
func (t *Trust) signers(l Login) ([]offer, error) {
	own, public, err := t.ownKey(l)
	if err != nil {
		return nil, err
	}
	cert, err := t.certificate(l)
	if err != nil {
		return nil, err
	}
	var offers []offer
	switch {
	case own != nil:
		offers = []offer{{own, "key " + l.KeyName}}
	case l.Agent != "":
		if public == nil && cert != nil {
			public = cert.Key
		}
		if offers, err = agentOffers(l.Agent, public, l.Legacy); err != nil {
			return nil, err
		}
	case cert != nil:
		return nil, &credentialError{
			what:   "there is a certificate but no key for it",
			remedy: "name the private key, or an agent that has it, beside the certificate",
		}
	}
	return withCertificate(offers, cert, l)
}

// ownKey is the private key of a login. When an agent has it instead, it is
// the public key that says which.
func (t *Trust) ownKey(l Login) (ssh.Signer, ssh.PublicKey, error) {
	if len(l.Key) == 0 {
		return nil, nil, nil
	}
	key := t.keys.parse(l.Key, l.Passphrase)
	if key.signer == nil && key.public != nil && l.Agent != "" {
		return nil, key.public, nil
	}
	if key.err != nil {
		return nil, nil, key.err.named(l.KeyName)
	}
	signer, err := restrict(key.signer, l.Legacy)
	if err != nil {
		return nil, nil, err.named(l.KeyName)
	}
	return signer, nil, nil
}

// withCertificate puts a certificate before the plain key that it is for.
func withCertificate(offers []offer, cert *ssh.Certificate, l Login) ([]offer, error) {
	if cert == nil {
		return offers, nil
	}
	for _, o := range offers {
		if !sameKey(o.PublicKey(), cert.Key) {
			continue
		}
		signer, err := ssh.NewCertSigner(cert, o.Signer)
		if err != nil {
			return nil, &credentialError{what: "the certificate cannot be used", cause: err, remedy: certificateRemedy}
		}
		return append([]offer{{signer, "certificate of " + o.name}}, offers...), nil
	}
	return nil, &credentialError{
		what:   fmt.Sprintf("the certificate is for another key (%s) than %s", ssh.FingerprintSHA256(cert.Key), l.KeyName),
		remedy: certificateRemedy,
	}
}

// credentialError is what is wrong with a credential, in words that hold no
// secret.
type credentialError struct {
	what   string // %s, if any, is the key's name
	remedy string
	cause  error
}

func (e *credentialError) Error() string { return e.what }

// named puts the name of the key into the words.
func (e *credentialError) named(key string) *credentialError {
	named := *e
	named.what = strings.ReplaceAll(e.what, "%s", key)
	named.remedy = strings.ReplaceAll(e.remedy, "%s", shellWord(key))
	return &named
}
