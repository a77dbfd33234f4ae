package sshexec

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" // the hash of hashed host names, fixed by the file format
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

// maxKnownHosts is far above the file of a large fleet, and far below what
// would hurt to read by mistake.
const maxKnownHosts = 64 << 20

// marker is what a known_hosts line says of its key.
type marker string

const (
	hostKey   marker = ""                // a host's own key
	authority marker = "@cert-authority" // signs the keys of hosts
	revoked   marker = "@revoked"        // is never to be believed
)

// knownKey is one line of a known_hosts file.
type knownKey struct {
	marker marker
	names  hostNames
	key    ssh.PublicKey
	file   string
	line   int
}

func (k knownKey) String() string {
	return fmt.Sprintf("%s:%d (%s %s)", k.file, k.line, keyKind(k.key), ssh.FingerprintSHA256(k.key))
}

// knownHosts is what the known_hosts files say, in their order. A line with
// nothing but plain names is found by name: a large fleet has one a host, and
// all of it may be connected to at once.
type knownHosts struct {
	files  []string
	keys   []knownKey
	byName map[string][]int // name to indexes of keys
	rest   []int            // the other lines: patterns and hashed names

	skipped []*KnownHostsError
}

// KnownHostsError is what is wrong with a line of a known_hosts file, or with the
// file, whose line is 0.
type KnownHostsError struct {
	File string
	Line int
	Err  error
}

// Error says what, and not where.
func (e *KnownHostsError) Error() string { return e.Err.Error() }

func (e *KnownHostsError) Unwrap() error { return e.Err }

// readKnownHosts reads files as OpenSSH does: a line that it cannot understand
// is skipped, and logged. Only a revocation must not be skipped, because that
// would trust the key that it revokes.
func readKnownHosts(files []string, log *slog.Logger) (*knownHosts, error) {
	known := &knownHosts{files: files, byName: map[string][]int{}}
	for _, file := range files {
		text, err := readLimited(file, maxKnownHosts)
		if err != nil {
			return nil, knownHostsFailure(file, err)
		}
		if err := known.add(file, text, log); err != nil {
			return nil, err
		}
	}
	return known, nil
}

func readLimited(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is larger than %d MiB", limit>>20)
	}
	return text, err
}

func (h *knownHosts) add(file string, text []byte, log *slog.Logger) error {
	n := 0
	for raw := range bytes.Lines(text) {
		n++
		line := strings.Trim(string(raw), " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := parseKnownKey(line)
		switch {
		case err == nil:
			key.file, key.line = file, n
			h.index(key)
		case revokes(line):
			return badRevocation(file, n, err)
		default:
			h.skipped = append(h.skipped, &KnownHostsError{file, n, err})
			log.Warn("a line of known_hosts is skipped", "file", file, "line", n, "why", err.Error())
		}
	}
	return nil
}

func (h *knownHosts) index(key knownKey) {
	i := len(h.keys)
	h.keys = append(h.keys, key)
	if key.names.hash != nil || strings.ContainsAny(key.names.patterns, "*?!") {
		h.rest = append(h.rest, i)
		return
	}
	for name := range strings.SplitSeq(key.names.patterns, ",") {
		if same := h.byName[name]; len(same) == 0 || same[len(same)-1] != i {
			h.byName[name] = append(same, i)
		}
	}
}

// matching is every line that is about a host, which is named as in
// [knownNames], in the order of the files.
func (h *knownHosts) matching(name string) []knownKey {
	found := slices.Clone(h.byName[name])
	for _, i := range h.rest {
		if h.keys[i].names.match(name) {
			found = append(found, i)
		}
	}
	slices.Sort(found)
	var keys []knownKey
	for _, i := range found {
		keys = append(keys, h.keys[i])
	}
	return keys
}

// revokes reports whether a line means to revoke a key, however wrongly it is
// written.
func revokes(line string) bool {
	for _, word := range strings.Fields(strings.TrimPrefix(line, "\ufeff")) {
		if word[0] != '@' {
			return false
		}
		if strings.HasPrefix(strings.ToLower(word), "@revoke") {
			return true
		}
	}
	return false
}

// parseKnownKey reads a line that is neither blank nor a comment: an optional
// marker, host names, key type, key, and a comment which is ignored.
func parseKnownKey(line string) (knownKey, error) {
	var k knownKey
	if line[0] == '@' {
		var word string
		word, line = cutWord(line)
		k.marker = marker(word)
		if k.marker != authority && k.marker != revoked {
			return k, errors.New("unknown marker")
		}
	}
	names, line := cutWord(line)
	typ, line := cutWord(line)
	blob, _ := cutWord(line)
	if blob == "" || names[0] == '@' {
		return k, errors.New("it is not: host names, key type, key")
	}
	var err error
	if k.names, err = parseHostNames(names); err != nil {
		return k, err
	}
	k.key, err = parseKnownBlob(k.marker, typ, blob)
	return k, err
}

// cutWord splits off the first word; blanks and tabs separate words.
func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// parseKnownBlob reads a public key. A certificate stands for no host, but one
// that is revoked revokes its key.
func parseKnownBlob(m marker, typ, blob string) (ssh.PublicKey, error) {
	wire, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return nil, errors.New("the key is not base64")
	}
	key, err := ssh.ParsePublicKey(wire)
	switch {
	case err != nil:
		return nil, errors.New("the key is malformed, or of a type that is not supported")
	case key.Type() != typ:
		return nil, errors.New("the key is not of the type that stands before it")
	}
	cert, ok := key.(*ssh.Certificate)
	switch {
	case !ok:
		return key, nil
	case m == revoked:
		return cert.Key, nil
	}
	return nil, errors.New("a certificate is not a host key; name its authority with " + string(authority))
}

// hostNames is the first field of a line: a list of patterns, or one hashed
// name.
type hostNames struct {
	patterns   string // lower case, separated by commas
	salt, hash []byte // of a hashed name
}

func parseHostNames(field string) (hostNames, error) {
	if field[0] != '|' {
		return hostNames{patterns: lowerASCII(field)}, nil
	}
	part := strings.Split(field, "|")
	if len(part) != 4 || part[1] != "1" {
		return hostNames{}, errors.New("the hashed host name is not of the form |1|salt|hash")
	}
	salt, err1 := base64.StdEncoding.DecodeString(part[2])
	hash, err2 := base64.StdEncoding.DecodeString(part[3])
	if err1 != nil || err2 != nil || len(salt) != sha1.Size || len(hash) != sha1.Size {
		return hostNames{}, errors.New("the hashed host name is malformed")
	}
	return hostNames{salt: salt, hash: hash}, nil
}

// match compares the whole of name, in lower case and with brackets and port
// where it has them: a pattern is text, not an address. A negated pattern that
// matches overrules all others.
func (h hostNames) match(name string) bool {
	if h.hash != nil {
		mac := hmac.New(sha1.New, h.salt)
		mac.Write([]byte(name))
		return hmac.Equal(mac.Sum(nil), h.hash)
	}
	found := false
	for pattern := range strings.SplitSeq(h.patterns, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !matchPattern(name, pattern) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// matchPattern compares s with a pattern in which * is any text and ? any one
// byte. It takes at most len(s)*len(pattern) steps.
func matchPattern(s, pattern string) bool {
	i, p := 0, 0
	star, from := -1, 0 // the last *, and where what it stands for ends
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			i++
			p++
		case star >= 0:
			from++
			i, p = from, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// lowerASCII is how OpenSSH folds host names. Folding all of Unicode would make
// two names of one: K is also the lower case of the Kelvin sign.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func knownHostsFailure(file string, cause error) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailKnownHosts,
		Message: fmt.Sprintf("known_hosts file %s cannot be read", file),
		Remedy:  "make it a readable file of the gateway's user, or correct known_hosts in the configuration",
		Cause:   &KnownHostsError{file, 0, cause},
	}
}

func badRevocation(file string, line int, why error) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailKnownHosts,
		Message: fmt.Sprintf("%s:%d: this %s line cannot be understood", file, line, revoked),
		Remedy:  "correct or remove the line; a revocation is not skipped, because the key that it revokes would be trusted",
		Cause:   &KnownHostsError{file, line, why},
	}
}
