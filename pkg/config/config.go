// Package config reads the directory that an operator writes: sallyport.yml
// (settings), servers.yml, credentials.yml, policy.yml, and beside them keys/
// and secrets/.
//
// [Load] is strict. A key it does not know, a key written twice, a list given
// as a scalar, a number out of range, a name that leads nowhere, a network
// that does not parse, a key file that others may read: each is a [Problem]
// with file, line, what is wrong and the remedy, and all of them are reported
// at once. Nothing that is written is silently ignored; what only has no
// effect is a warning.
//
// A [Config] never changes after Load; to reload is to load another one and to
// swap. It holds no key and no secret from keys/ or secrets/: [Config.Login]
// reads them when a connection is made, so a rotated secret counts at once.
// [Config.Site] is the same configuration in the form that policies look
// things up in.
package config

import (
	"github.com/spf13/pflag"
)

// Options say where the configuration is and what goes over it.
type Options struct {
	// Dir is the configuration directory. When it is empty,
	// SALLYPORT_CONFIG_DIR or MCP_SSH_CONFIG_DIR names it.
	Dir string
	// KeysDir and SecretsDir default to SALLYPORT_KEYS_DIR or
	// MCP_SSH_KEYS_DIR or Dir/keys, and likewise for secrets.
	KeysDir, SecretsDir string
	// Flags may hold --transport, --listen, --subject, --toolsets and
	// --log-level. One that was given on the command line goes over the
	// environment, which goes over the file.
	Flags *pflag.FlagSet
	// Env looks up an environment variable; nil is the process environment.
	Env func(string) (string, bool)
	// Profiles are the profile names that a rule may grant; nil is those
	// shipped: readonly, diagnose, ops.
	Profiles []string
	// Toolsets are the names that `toolsets` may hold; nil accepts any.
	Toolsets []string
	// WithoutSecrets leaves key files and secrets unread, for a check of the
	// configuration where they are not at hand. Login still reads them.
	WithoutSecrets bool
}

// Config is a configuration without errors. It is read-only and safe for
// concurrent use.
type Config struct {
	Dir      string
	Settings Settings
	Hosts    []Host // in file order
	Warnings []Problem
}

// Load reads the configuration. Its error is a [*Problems].
func Load(o Options) (*Config, error) {
	return nil, &Problems{List: []Problem{{File: o.Dir, Severity: Error, Message: "nothing is loaded yet"}}}
}

// Host is a host of servers.yml together with what its credentials entry says
// about how one logs in.
type Host struct {
	Alias       string
	Hostname    string // a name or an IP address
	Port        int
	Credentials string // name of the entry in credentials.yml
	User        string // of that entry
	Auth        string // of that entry: key, agent, password or cert
	Tags        []string
	Description string
	Kind        string // posix, restricted, network or windows
	// Via are the aliases of the whole way to the host, the first one dialled
	// first. It is complete: where the first jump host has a way of its own,
	// that is already in front.
	Via          []string
	HostKeyAlias string // the name to look for in known_hosts; empty for Hostname
	Legacy       bool   // accept algorithms that are off by default
	Line         int    // in servers.yml
}

// Host is the host with an alias.
func (c *Config) Host(alias string) (Host, bool) {
	return Host{}, false
}

// HostsByTag are the hosts that have a tag, in file order.
func (c *Config) HostsByTag(tag string) []Host {
	return nil
}

// KnownHosts are the known_hosts files to verify host keys against.
func (c *Config) KnownHosts() []string {
	return nil
}

// Digest is the SHA-256, in hex, of the files that were loaded.
func (c *Config) Digest() string {
	return ""
}

// Init writes a commented configuration that loads and works. It overwrites
// nothing: when one of its files exists, the error names it and nothing is
// written.
func Init(dir string) (written []string, err error) {
	return nil, nil
}
