package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// credential is an entry of credentials.yml: names of secrets, not secrets,
// but for a password that was written there. That one is a function, so that
// no print of a Config, with whatever verb, can show it.
type credential struct {
	name, username  string
	keyPath         string        // below keys/
	certificatePath string        // below keys/
	passphrase      string        // reference to a secret
	passwordSecret  string        // reference to a secret
	password        func() string // nil when there is none
	agent           bool
	agentSocket     string // empty for that of SSH_AUTH_SOCK
}

// auth is the word that policies see for how one logs in.
func (c *credential) auth() string {
	switch {
	case c.certificatePath != "":
		return "cert"
	case c.keyPath != "":
		return "key"
	case c.agent:
		return "agent"
	}
	return "password"
}

// logins are the entries of credentials.yml. read is false when the file could
// not be read, so that nothing can be said about a name that is not here.
type logins struct {
	byName map[string]*credential
	names  []string // sorted
	read   bool
}

func (l *loader) credentials(v vault) logins {
	all := logins{byName: map[string]*credential{}}
	root, ok := l.required(credentialsFile)
	if !ok {
		return all
	}
	all.read = true
	lines := map[string]int{}
	root.object(fields{
		"entries": func(list value) {
			list.items(func(entry value) {
				c := l.credential(entry, v)
				if entry.claim(lines, c.name, fmt.Sprintf("name %q", c.name)) {
					all.byName[c.name] = c
				}
			})
		},
	}, "entries")
	all.names = sortedKeys(all.byName)
	return all
}

// credential reads one entry, and sees that what it names can be had.
func (l *loader) credential(v value, vault vault) *credential {
	c := &credential{}
	var key, certificate, passphrase, secret, password place
	ok := v.object(fields{
		"name":                  text(&c.name, name(maxAlias)),
		"username":              text(&c.username, loginName),
		"key_path":              located(&key, text(&c.keyPath)),
		"certificate_path":      located(&certificate, text(&c.certificatePath)),
		"key_passphrase_secret": located(&passphrase, text(&c.passphrase)),
		"password_secret":       located(&secret, text(&c.passwordSecret)),
		"password":              located(&password, inline(&c.password)),
		"agent":                 agent(c),
	}, "name", "username")
	if !ok {
		return c
	}
	c.check(v, password)
	for _, need := range []struct {
		at   place
		name string
		find func(string) *fault
	}{
		{key, c.keyPath, vault.haveKey},
		{certificate, c.certificatePath, vault.haveCertificate},
		{passphrase, c.passphrase, vault.haveSecret},
		{secret, c.passwordSecret, vault.haveSecret},
	} {
		if need.name == "" {
			continue
		}
		if f := need.find(need.name); f != nil {
			need.at.fail(f)
		}
	}
	if c.keyPath != "" && c.passphrase == "" && vault.isEncrypted(c.keyPath) {
		key.fail(faultf("put its passphrase into secrets/ and name that as key_passphrase_secret", "the key file %s is encrypted", c.keyPath))
	}
	if c.agent {
		l.checkAgent(c, v)
	}
	return c
}

// checkAgent says that there is no agent to ask, as far as can be seen from here.
func (l *loader) checkAgent(c *credential, v value) {
	switch {
	case l.WithoutSecrets:
	case c.agentSocket == "" && l.env("SSH_AUTH_SOCK") == "":
		v.warn(faultf("start an agent where the gateway runs, or name its socket as agent:", "there is no SSH agent here: SSH_AUTH_SOCK is not set"))
	case c.agentSocket != "":
		if _, err := os.Stat(c.agentSocket); err != nil {
			v.warn(faultf("start the agent, or correct the path", "there is no socket %s", c.agentSocket))
		}
	}
}

// inline stores a password as it is, which may hold anything.
func inline(p *func() string) field {
	return func(v value) {
		if s, _ := v.text(); s != "" {
			*p = func() string { return s }
		}
	}
}

// agent is true, false, or the path of the agent's socket.
func agent(c *credential) field {
	return func(v value) {
		if v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!str" {
			text(&c.agentSocket, filled, socketPath)(v)
			c.agent = true
			return
		}
		boolean(&c.agent)(v)
	}
}

// socketPath is an absolute path. A word in quotes that looks like a truth is
// none.
func socketPath(s string) *fault {
	switch {
	case slices.Contains([]string{"true", "false", "yes", "no", "on", "off"}, strings.ToLower(s)):
		return faultf("write agent: true, without quotes", "%q is text", s)
	case !filepath.IsAbs(s):
		return faultf("write agent: true, or the absolute path of its socket", "%q is not an absolute path", s)
	}
	return nil
}

// check sees that an entry says one thing about how to log in.
func (c *credential) check(v value, password place) {
	hasPassword := c.password != nil || c.passwordSecret != ""
	switch {
	case c.keyPath != "" && c.agent:
		v.fail(faultf("keep one of the two", "has both key_path and agent"))
	case c.certificatePath != "" && c.keyPath == "" && !c.agent:
		v.fail(faultf("add key_path, or agent: true", "has certificate_path without the key that it certifies"))
	case c.passphrase != "" && c.keyPath == "":
		v.fail(faultf("add key_path, or remove it", "has key_passphrase_secret without a key"))
	case c.keyPath == "" && !c.agent && !hasPassword:
		v.fail(faultf("add key_path, agent or password_secret", "has no way to log in"))
	case hasPassword && (c.keyPath != "" || c.agent):
		v.warn(faultf("remove the one that is not needed", "has a password beside a key: it is offered where the key is refused, and policies see only %q", c.auth()))
	}
	if c.password == nil {
		return
	}
	if c.passwordSecret != "" {
		password.fail(faultf("remove password", "is there beside password_secret"))
	}
	password.warn(faultf("put it into secrets/ and name it as password_secret", "is written in plain text"))
}
