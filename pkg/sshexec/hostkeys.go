package sshexec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

// hostCheck decides about the keys that one host shows, the way OpenSSH does
// with StrictHostKeyChecking. It looks at one state of the known_hosts files,
// so that the algorithms it asks for and the decision agree.
type hostCheck struct {
	target tool.Target
	alias  string  // of the inventory, if any
	name   string  // the host in certificates
	scopes []scope // the host in known_hosts, in order
	files  []string
	pin    string // fingerprint that the caller asks for; empty for none
	legacy bool
	now    func() time.Time
}

// scope is one name under which a host may be known, and the lines that match.
type scope struct {
	name string
	keys []knownKey
}

// check looks up target by its name in the inventory, not by its address; or
// by alias, when there is one.
func (h *knownHosts) check(target tool.Target, alias string) *hostCheck {
	c := &hostCheck{target: target, alias: alias, name: lowerASCII(alias), files: h.files}
	if target.AdHoc != nil {
		c.pin = target.AdHoc.HostKey
	}
	names := []string{c.name}
	if alias == "" {
		c.name = lowerASCII(strings.Trim(target.Hostname, "[]"))
		names = knownNames(c.name, port(target))
	}
	for _, name := range names {
		c.scopes = append(c.scopes, scope{name, h.matching(name)})
	}
	return c
}

// knownNames is a host as known_hosts has it. A host on another port may also
// be known by its bare name; then its key is believed, as that of the same
// machine.
func knownNames(host string, port uint16) []string {
	if port == 22 {
		return []string{host}
	}
	return []string{fmt.Sprintf("[%s]:%d", host, port), host}
}

// algorithms puts first what the host has a known key or authority for, so
// that a host with many keys shows the one that can be verified. The rest stay
// in the list: a host that has lost its known key is to be called changed, not
// incompatible.
func (c *hostCheck) algorithms(all []string) []string {
	keys := c.scopes[0].keys
	if knowsType(keys, all[0]) {
		return all
	}
	certs := slices.ContainsFunc(keys, func(k knownKey) bool { return k.marker == authority })
	var first, last []string
	for _, algo := range all {
		if knowsType(keys, algo) || certs && isCertAlgorithm(algo) {
			first = append(first, algo)
		} else {
			last = append(last, algo)
		}
	}
	return append(first, last...)
}

func knowsType(keys []knownKey, algo string) bool {
	return slices.ContainsFunc(keys, func(k knownKey) bool {
		return k.marker == hostKey && k.key.Type() == keyTypeOf(algo)
	})
}

// callback is an [ssh.HostKeyCallback]. Its error is a [*tool.Failure]. A pinned
// key is believed where nothing is known of the host, and no other one then; what
// is known goes before it.
func (c *hostCheck) callback(_ string, _ net.Addr, key ssh.PublicKey) error {
	d := c.decide(c.scopes, key)
	pinned := c.pin == ssh.FingerprintSHA256(plainKey(key))
	switch {
	case d.standing == trusted && c.pin != "" && !pinned, d.standing == unknown && c.pin != "" && !pinned:
		return c.otherThanPinned(key)
	case d.standing == trusted, d.standing == unknown && pinned:
		return nil
	}
	return c.failure(d, key)
}

// standing is what known_hosts makes of a key.
type standing int

const (
	unknown    standing = iota // nothing is known of the host
	trusted                    // the key, or the authority that signed it, is known
	changed                    // other keys are known
	distrusted                 // the key or its authority is revoked
	invalid                    // signed by a known authority, but not for this host or time
)

// decision is a standing, the line that it rests on where there is one, and
// why a certificate did not help.
type decision struct {
	standing standing
	by       knownKey
	note     string
}

// decide goes through what OpenSSH tries: the first name that is known; and
// for a certificate that does not hold, the plain key in it. What is revoked is
// not tried further.
func (c *hostCheck) decide(scopes []scope, key ssh.PublicKey) decision {
	d := c.judge(scopes[0].keys, key)
	var bare decision
	if d.standing == unknown && len(scopes) > 1 {
		if bare = c.decide(scopes[1:], key); bare.standing == trusted {
			return bare
		}
	}
	if cert, ok := key.(*ssh.Certificate); ok && (d.standing == unknown || d.standing == invalid) {
		note := cmp.Or(bare.note, d.note)
		if d = c.decide(scopes, cert.Key); d.standing == trusted {
			return d
		}
		d.note = note
	}
	if bare.standing == distrusted {
		return bare
	}
	return d
}

func (c *hostCheck) judge(keys []knownKey, key ssh.PublicKey) decision {
	cert, isCert := key.(*ssh.Certificate)
	for _, k := range keys {
		if k.marker == revoked && (sameKey(k.key, plainKey(key)) || isCert && sameKey(k.key, cert.SignatureKey)) {
			return decision{standing: distrusted, by: k}
		}
	}
	if isCert {
		return c.judgeCert(keys, cert)
	}
	return judgeKey(keys, key)
}

func judgeKey(keys []knownKey, key ssh.PublicKey) decision {
	var d decision
	for _, k := range keys {
		if k.marker != hostKey {
			continue
		}
		if sameKey(k.key, key) {
			return decision{standing: trusted, by: k}
		}
		// Of several other keys, one of the same type says most.
		if d.standing == unknown || d.by.key.Type() != key.Type() && k.key.Type() == key.Type() {
			d = decision{standing: changed, by: k}
		}
	}
	return d
}

func (c *hostCheck) judgeCert(keys []knownKey, cert *ssh.Certificate) decision {
	d := decision{note: fmt.Sprintf("its certificate is signed by %s %s, which is no %s for it",
		keyKind(cert.SignatureKey), ssh.FingerprintSHA256(cert.SignatureKey), authority)}
	for _, k := range keys {
		if k.marker != authority || !sameKey(k.key, cert.SignatureKey) {
			continue
		}
		if err := c.certHolds(cert); err != nil {
			return decision{standing: invalid, by: k, note: fmt.Sprintf("its certificate does not count: %v", err)}
		}
		return decision{standing: trusted, by: k}
	}
	return d
}

// certHolds reports why a certificate of a known authority is not good for
// this host now. Like OpenSSH it takes a certificate without principals for
// one of any host.
func (c *hostCheck) certHolds(cert *ssh.Certificate) error {
	if cert.CertType != ssh.HostCert {
		return errors.New("it is not a host certificate")
	}
	if cert.Signature.Format == ssh.KeyAlgoRSA && !c.legacy {
		return errors.New("its signature is by ssh-rsa, which rests on SHA-1")
	}
	checker := ssh.CertChecker{Clock: c.now}
	if err := checker.CheckCert(c.name, cert); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "ssh: "))
	}
	return nil
}

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

// plainKey is a key without the certificate around it.
func plainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}
