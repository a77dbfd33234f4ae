// Package config reads the directory that an operator writes: sallyport.yml
// (settings), servers.yml, credentials.yml, policy.yml, and beside them keys/
// and secrets/.
//
// [Load] is strict. A key it does not know, a key written twice, a list given
// as a scalar, a number out of range, a name that leads nowhere, a network
// that does not parse, a key file that others may read: each is a [Problem]
// with file, line, what is wrong and the remedy, and all of them are reported
// at once. Nothing that is written is silently ignored; what only has no
// effect is a warning. Of YAML, mappings, lists and scalars are read, and the
// aliases and merges that stand for them; tags are refused, and so is an anchor
// that nothing refers to.
//
// A [Config] never changes after Load; to reload is to load another one and to
// swap. It holds no key and no secret from keys/ or secrets/: [Config.Login]
// reads them when a connection is made, so a rotated secret counts at once.
// [Config.Site] is the same configuration in the form that policies look
// things up in.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
)

// The files of a configuration, in the order in which problems are reported.
const (
	settingsFile    = "sallyport.yml"
	serversFile     = "servers.yml"
	credentialsFile = "credentials.yml"
	policyFile      = "policy.yml"
)

// Options say where the configuration is and what goes over it.
type Options struct {
	// Dir is the configuration directory. When it is empty,
	// SALLYPORT_CONFIG_DIR or MCP_SSH_CONFIG_DIR names it.
	Dir string
	// KeysDir and SecretsDir default to SALLYPORT_KEYS_DIR or
	// MCP_SSH_KEYS_DIR or Dir/keys, and likewise for secrets.
	KeysDir, SecretsDir string
	// Flags may hold --transport, --listen, --subject, --toolsets, --global
	// and --log-level. One that was given on the command line goes over the
	// environment, which goes over the file.
	Flags *pflag.FlagSet
	// Env looks up an environment variable; nil is the process environment.
	// An empty variable counts as unset.
	Env func(string) (string, bool)
	// Profiles are the profile names that a rule may grant; nil is those
	// shipped: readonly, diagnose, ops.
	Profiles []string
	// Toolsets are the names that `toolsets` may hold; nil accepts any.
	Toolsets []string
	// WithoutSecrets leaves key files and secrets unread, and agents and the
	// places of logs unlooked for: a check of the configuration elsewhere than
	// where it will run. Login still reads them.
	WithoutSecrets bool
}

// Config is a configuration without errors. It is read-only and safe for
// concurrent use.
type Config struct {
	Dir      string
	Settings Settings
	Origins  Origins // of the settings
	Hosts    []Host  // in file order
	Warnings []Problem

	byAlias    map[string]int
	byTag      map[string][]int
	logins     map[string]*credential
	vault      vault
	knownHosts knownHosts
	policy     *sitePolicy
	site       Site
	digest     string
}

// Load reads the configuration. Its error is a [*Problems].
func Load(o Options) (*Config, error) {
	l := &loader{Options: o, report: &report{}, digest: sha256.New()}
	c := l.load()
	problems := l.report.sorted(filesIn(l.dir))
	if l.report.failed() {
		return nil, &Problems{List: problems, Settings: l.settled, Origins: l.origins, vault: l.vaulted}
	}
	c.Warnings = problems
	return c, nil
}

// Warned is the warnings as text, one on each line.
func (c *Config) Warned() string { return lines(c.Warnings) }

// Host is the host with an alias.
func (c *Config) Host(alias string) (Host, bool) {
	i, ok := c.byAlias[alias]
	if !ok {
		return Host{}, false
	}
	return c.Hosts[i], true
}

// HostsByTag are the hosts that have a tag, in file order.
func (c *Config) HostsByTag(tag string) []Host {
	var hosts []Host
	for _, i := range c.byTag[tag] {
		hosts = append(hosts, c.Hosts[i])
	}
	return hosts
}

// Site is the document for policies.
func (c *Config) Site() Site { return c.site }

// Secrets are what references in the configuration lead to.
func (c *Config) Secrets() Secrets { return Secrets{c.vault} }

// Digest is the SHA-256, in hex, of the files that were loaded.
func (c *Config) Digest() string { return c.digest }

// Files are those of the configuration directory, whether they are there or not.
func (c *Config) Files() []string { return filesIn(c.Dir) }

// KnownHosts are the known_hosts files to verify host keys against: the one
// that sallyport.yml or else policy.yml names, or else those that exist of
// keys/known_hosts and ~/.ssh/known_hosts.
func (c *Config) KnownHosts() []string { return c.knownHosts.files() }

// TaskTimes are how long the result of a task on a host is kept, and how often
// its progress is told.
func (c *Config) TaskTimes(alias string) (resultTTL, progressInterval time.Duration) {
	host, _ := c.Host(alias)
	layers := c.policy.layers(host)
	return time.Duration(pick(layers, "task_result_ttl")) * time.Second,
		time.Duration(pick(layers, "task_progress_interval")) * time.Second
}

// loader is one Load: it goes on after a problem, to find them all.
type loader struct {
	Options
	dir    string
	report *report
	digest hash.Hash

	settled *Settings // as far as they could be read
	vaulted vault
	later   []func(vault) // checks of secrets that settings name, whose places they say, too
	origins Origins
}

func (l *loader) load() *Config {
	if !l.findDir() {
		return nil
	}
	settings := l.settings()
	l.settled = &settings
	v := l.vault(settings)
	l.vaulted = v
	l.checkBundles(&settings, v)
	logins := l.credentials(v)
	hosts := l.servers(logins)
	policy := l.policy(hosts)
	known := l.knownHosts(settings, policy, v, hosts)
	if l.report.failed() {
		return nil
	}
	c := &Config{
		Dir: l.dir, Settings: settings, Origins: l.origins, Hosts: hosts.hosts(),
		byAlias: hosts.byAlias, byTag: hosts.byTag(), logins: logins.byName,
		vault: v, knownHosts: known, policy: policy,
		digest: hex.EncodeToString(l.digest.Sum(nil)),
	}
	c.site = newSite(c.Hosts, policy)
	return c
}

func (l *loader) env(name string) string {
	lookup := l.Env
	if lookup == nil {
		lookup = os.LookupEnv
	}
	s, _ := lookup(name)
	return s
}

// firstOf is the option, or else the first variable that is set.
func (l *loader) firstOf(option string, variables ...string) string {
	for _, name := range variables {
		if option == "" {
			option = l.env(name)
		}
	}
	return option
}

func (l *loader) findDir() bool {
	l.dir = l.firstOf(l.Dir, "SALLYPORT_CONFIG_DIR", "MCP_SSH_CONFIG_DIR")
	if l.dir == "" {
		place{report: l.report, file: "--config"}.fail(faultf(
			"give --config DIR or set SALLYPORT_CONFIG_DIR; `sallyport init DIR` writes a first one", "no configuration directory"))
		return false
	}
	info, err := os.Stat(l.dir)
	if err == nil && !info.IsDir() {
		err = faultf("name the directory that holds "+serversFile, "not a directory")
	}
	if err != nil {
		place{report: l.report, file: l.dir}.fail(asFault(err, "write a first configuration with: sallyport init "+l.dir))
	}
	return err == nil
}

func (l *loader) place(file string) place {
	return place{report: l.report, file: filepath.Join(l.dir, file)}
}

func filesIn(dir string) []string {
	var files []string
	for _, name := range []string{settingsFile, serversFile, credentialsFile, policyFile} {
		files = append(files, filepath.Join(dir, name))
	}
	return files
}

// required reads one of the files; ok is false when it has no readable mapping,
// which is reported.
func (l *loader) required(file string) (root value, ok bool) {
	p := l.place(file)
	data, err := readFile(p.file, maxFile)
	if err != nil {
		p.fail(asFault(err, "sallyport init writes an example into an empty directory"))
		return value{}, false
	}
	fmt.Fprintf(l.digest, "%s %d\n", file, len(data))
	l.digest.Write(data)
	return parse(p, data)
}

// optional reads a file that may be missing.
func (l *loader) optional(file string) (root value, ok bool) {
	if _, err := os.Lstat(l.place(file).file); os.IsNotExist(err) {
		return value{}, false
	}
	return l.required(file)
}
