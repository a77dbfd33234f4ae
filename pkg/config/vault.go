package config

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The sizes of what is below keys/ and secrets/, in bytes.
const (
	maxKeyFile    = 64 << 10
	maxSecretFile = 64 << 10
	maxEnvFile    = 100 << 10
)

// secretPrefixes begin the names of environment variables that are secrets for
// the gateway. No other variable is read, unless sallyport.yml lists it: a
// secret called path must not be $PATH. What an MCP gateway injects under a
// secret's own name is listed there.
var secretPrefixes = []string{"MCP_SSH_SECRET_", "SALLYPORT_SECRET_"}

func hasSecretPrefix(variable string) bool {
	return slices.ContainsFunc(secretPrefixes, func(prefix string) bool {
		return len(variable) > len(prefix) && strings.HasPrefix(variable, prefix)
	})
}

// vault finds keys and secrets, each time anew.
type vault struct {
	keysDir, secretsDir string
	env                 func(string) string
	allowed             []string // variables that are secrets beside the prefixed
	namesOnly           bool     // at load, look at names but read nothing
}

func (l *loader) vault(s Settings) vault {
	return vault{
		keysDir:    l.directory(l.KeysDir, "KEYS_DIR", "keys"),
		secretsDir: l.directory(l.SecretsDir, "SECRETS_DIR", "secrets"),
		env:        l.env,
		allowed:    s.Secrets.EnvAllow,
		namesOnly:  l.WithoutSecrets,
	}
}

func (l *loader) directory(option, variable, def string) string {
	if dir := l.firstOf(option, "SALLYPORT_"+variable, "MCP_SSH_"+variable); dir != "" {
		return dir
	}
	return filepath.Join(l.dir, def)
}

func (v vault) haveKey(path string) *fault {
	return v.have(path, v.keyName, func(p string) *fault { _, f := v.key(p); return f })
}

func (v vault) haveCertificate(path string) *fault {
	return v.have(path, v.keyName, func(p string) *fault { _, f := v.certificate(p); return f })
}

func (v vault) haveSecret(ref string) *fault {
	return v.have(ref, secretName, func(r string) *fault { _, f := v.secret(r); return f })
}

func (v vault) have(name string, check func(string) (string, *fault), read func(string) *fault) *fault {
	if v.namesOnly {
		_, f := check(name)
		return f
	}
	return read(name)
}

// key is the private key file at a path below keys/.
func (v vault) key(path string) ([]byte, *fault) {
	rel, f := v.keyName(path)
	if f != nil {
		return nil, f
	}
	data, err := readPrivate(v.keysDir, rel, maxKeyFile)
	if err != nil {
		return nil, about("key file "+filepath.Join(v.keysDir, rel), asFault(err, "put the private key there, with mode 600"))
	}
	if block, _ := pem.Decode(data); block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, faultf("name the private key, not the .pub file; PuTTY keys need puttygen -O private-openssh",
			"key file %s holds no private key", filepath.Join(v.keysDir, rel))
	}
	return data, nil
}

// isEncrypted says that the private key at a path below keys/ needs a passphrase.
func (v vault) isEncrypted(path string) bool {
	if v.namesOnly {
		return false
	}
	data, f := v.key(path)
	if f != nil {
		return false // it has been told
	}
	block, _ := pem.Decode(data)
	// OpenSSH's own format begins with a magic word and the name of the cipher,
	// see PROTOCOL.key there.
	cipher, ok := bytes.CutPrefix(block.Bytes, []byte("openssh-key-v1\x00"))
	return ok && len(cipher) > 8 && !bytes.HasPrefix(cipher[4:], []byte("none")) ||
		strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
}

// certificate is the certificate file at a path below keys/. It is public, but
// whoever may write it decides who logs in.
func (v vault) certificate(path string) ([]byte, *fault) {
	rel, f := v.keyName(path)
	if f != nil {
		return nil, f
	}
	data, err := readBeneath(v.keysDir, rel, maxKeyFile, 0o022)
	if err != nil {
		return nil, about("certificate "+filepath.Join(v.keysDir, rel), asFault(err, "put the certificate there"))
	}
	if typ, _, _ := bytes.Cut(data, []byte(" ")); !bytes.HasSuffix(typ, []byte("-cert-v01@openssh.com")) {
		return nil, faultf("name the -cert.pub file that ssh-keygen -s wrote", "%s is not an OpenSSH certificate", filepath.Join(v.keysDir, rel))
	}
	return data, nil
}

func about(thing string, f *fault) *fault {
	return &fault{message: thing + ": " + f.message, remedy: f.remedy}
}

// keyName is a path relative to keys/. It is looked at before the file system
// is: first its length, then its characters.
func (v vault) keyName(path string) (string, *fault) {
	if f := atMost(maxKey)(path); f != nil {
		return "", f
	}
	if strings.Contains(path, "..") || strings.ContainsRune(path, '\\') {
		return "", faultf("write the path below "+v.keysDir, "%q has '..' or '\\' in it", path)
	}
	rel := filepath.Clean(path)
	if filepath.IsAbs(path) {
		var err error
		if rel, err = filepath.Rel(absolute(v.keysDir), rel); err != nil || !filepath.IsLocal(rel) {
			return "", faultf("move the key there and write its name", "%q is not below %s", path, v.keysDir)
		}
	}
	if rel == "." {
		return "", faultf("name a file in it", "%q is the directory of keys itself", path)
	}
	return rel, nil
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

var (
	bareSecret = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	fileSecret = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)
)

// secretName checks a reference to a secret before anything is looked up: first
// its length, then its characters. It returns the name in it. A fault does not
// show what is no name at all: that may be the secret itself.
func secretName(ref string) (string, *fault) {
	if f := atMost(maxSecret)(ref); f != nil {
		return "", f
	}
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		return name, variable(name)
	}
	if name, ok := strings.CutPrefix(ref, "file:"); ok {
		if !fileSecret.MatchString(name) || strings.Contains(name, "..") {
			return "", faultf("name a file in secrets/, with letters, digits, '.', '_' and '-'", "%q is not the name of a secret file", name)
		}
		return name, nil
	}
	if !bareSecret.MatchString(ref) {
		return "", faultf("use letters, digits, '_' and '-', or write env:NAME or file:NAME", "is not the name of a secret")
	}
	return ref, nil
}

// secret is what a reference leads to: env:NAME to a variable, file:NAME to a
// file in secrets/, and a bare name to the first that there is of the variable
// NAME where it is listed as a secret, MCP_SSH_SECRET_NAME,
// SALLYPORT_SECRET_NAME, NAME in secrets/.env, and the file secrets/NAME. A
// source that is there but must not be read is a fault, not passed over.
func (v vault) secret(ref string) (string, *fault) {
	name, f := secretName(ref)
	switch {
	case f != nil:
		return "", f
	case strings.HasPrefix(ref, "env:"):
		return v.fromVariable(name)
	case strings.HasPrefix(ref, "file:"):
		return v.fromFile(name)
	}
	for _, variable := range v.variables(name) {
		if s := v.env(variable); s != "" {
			return s, nil
		}
	}
	s, f := v.fromEnvFile(name)
	if f != nil || s != "" {
		return s, f
	}
	return v.fromFile(name)
}

// variables are those in which a bare name is looked for, in order.
func (v vault) variables(name string) []string {
	var names []string
	if upper := strings.ToUpper(name); slices.Contains(v.allowed, upper) {
		names = append(names, upper)
	}
	for _, prefix := range secretPrefixes {
		names = append(names, prefix+strings.ToUpper(name))
	}
	return names
}

func (v vault) fromVariable(name string) (string, *fault) {
	if !hasSecretPrefix(name) && !slices.Contains(v.allowed, name) {
		return "", faultf("call it "+secretPrefixes[1]+name+", or list it in secrets.env_allow of "+settingsFile,
			"environment variable %s is not declared as a secret", name)
	}
	s := v.env(name)
	if s == "" {
		return "", faultf("set it where the gateway runs", "environment variable %s is not set", name)
	}
	return s, nil
}

func (v vault) fromFile(name string) (string, *fault) {
	path := filepath.Join(v.secretsDir, name)
	data, err := readPrivate(v.secretsDir, name, maxSecretFile)
	if err != nil {
		return "", about("secret "+path, asFault(err, v.elsewhere(name)))
	}
	s := strings.TrimSpace(string(data))
	if s == "" {
		return "", faultf("write the secret into it", "secret %s is empty", path)
	}
	return s, nil
}

// elsewhere says where a secret that is nowhere could be. A variable of its own
// name that is set is probably meant for it.
func (v vault) elsewhere(name string) string {
	upper := strings.ToUpper(name)
	remedy := "write it there with mode 600"
	if !strings.ContainsAny(name, "-.") { // with which shells have no variables
		remedy += ", or set " + secretPrefixes[1] + upper
	}
	if v.env(upper) != "" {
		remedy += "; the variable " + upper + " is set, and counts when secrets.env_allow of " + settingsFile + " lists it"
	}
	return remedy
}

// fromEnvFile is a value of secrets/.env, empty when there is none. It is read
// every time, so an edit counts.
func (v vault) fromEnvFile(name string) (string, *fault) {
	path := filepath.Join(v.secretsDir, ".env")
	data, err := readPrivate(v.secretsDir, ".env", maxEnvFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", about(path, asFault(err, ""))
	}
	values, f := parseEnv(data)
	if f != nil {
		return "", about(path, f)
	}
	if s := values[name]; s != "" {
		return s, nil
	}
	return values[strings.ToUpper(name)], nil
}

// parseEnv reads KEY=value lines. Blank lines and those that begin with # are
// skipped, one pair of quotes around a value is removed, and nothing in it is
// expanded. A fault names a line and never shows it.
func parseEnv(data []byte) (map[string]string, *fault) {
	if !utf8.Valid(data) {
		return nil, faultf("save the file as UTF-8", "is not UTF-8")
	}
	values, line := map[string]string{}, 0
	for text := range strings.Lines(string(data)) {
		line++
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		key, val, found := strings.Cut(text, "=")
		key = strings.TrimSpace(key)
		if !found || !bareSecret.MatchString(key) {
			return nil, faultf("write KEY=value, with letters, digits, '_' and '-' in the key and no export before it", "line %d is not KEY=value", line)
		}
		if _, twice := values[key]; twice {
			return nil, faultf("keep one of the two", "line %d has a key that is there already", line)
		}
		values[key] = unquoted(strings.TrimSpace(val))
	}
	return values, nil
}

func unquoted(s string) string {
	if n := len(s); n >= 2 && s[0] == s[n-1] && (s[0] == '"' || s[0] == '\'') {
		return s[1 : n-1]
	}
	return s
}

// Secrets are what references lead to, read when they are asked for: one that
// was exchanged counts at once.
type Secrets struct{ vault vault }

// Secret is the secret of a reference.
func (s Secrets) Secret(ref string) (string, error) {
	text, f := s.vault.secret(ref)
	if f != nil {
		return "", f
	}
	return text, nil
}

// Certificate is a client's certificate from a file, and its private key from
// keys/.
func (s Secrets) Certificate(file, key string) (*tls.Certificate, error) {
	public, err := readFile(file, maxKeyFile)
	if err != nil {
		return nil, about("certificate "+file, asFault(err, "put the certificate there"))
	}
	private, f := s.vault.key(key)
	if f != nil {
		return nil, f
	}
	pair, err := tls.X509KeyPair(public, private)
	return &pair, err
}
