package sshexec

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const certificateRemedy = "sign the public key anew with ssh-keygen -s CA -I ID -n USER, and name the -cert.pub file"

// keyring parses every private key once: bcrypt makes that take 126 ms for an
// encrypted one. A key is known by the digest of its text and passphrase, so
// that a file that changed is a new key. The zero value is ready.
type keyring struct {
	mu   sync.Mutex
	keys map[[sha256.Size]byte]func() parsedKey
}

// maxKeyring bounds what keys that were replaced leave behind.
const maxKeyring = 1024

// parsedKey is what a key file holds. Public is also known of an encrypted key
// in OpenSSH's format whose passphrase is missing.
type parsedKey struct {
	signer ssh.Signer
	public ssh.PublicKey
	err    *credentialError
}

func (r *keyring) parse(text []byte, passphrase string) parsedKey {
	a, b := sha256.Sum256(text), sha256.Sum256([]byte(passphrase))
	id := sha256.Sum256(append(a[:], b[:]...))
	r.mu.Lock()
	parse := r.keys[id]
	if parse == nil {
		if r.keys == nil || len(r.keys) >= maxKeyring {
			r.keys = map[[sha256.Size]byte]func() parsedKey{}
		}
		text := bytes.Clone(text)
		parse = sync.OnceValue(func() parsedKey { return parseKey(text, passphrase) })
		r.keys[id] = parse
	}
	r.mu.Unlock()
	return parse()
}

func parseKey(text []byte, passphrase string) parsedKey {
	raw, err := ssh.ParseRawPrivateKey(text)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		if passphrase == "" {
			return parsedKey{public: missing.PublicKey, err: &credentialError{
				what:   "key %s is encrypted and there is no passphrase for it",
				remedy: "set key_passphrase_secret beside key_path in credentials.yml",
			}}
		}
		raw, err = ssh.ParseRawPrivateKeyWithPassphrase(text, []byte(passphrase))
	}
	if errors.Is(err, x509.IncorrectPasswordError) {
		return parsedKey{err: &credentialError{
			what:   "the passphrase for key %s is wrong",
			remedy: "correct the secret that key_passphrase_secret names; ssh-keygen -y -f %s tries a passphrase",
		}}
	}
	if err != nil {
		return notPrivate(text, err)
	}
	signer, err := ssh.NewSignerFromKey(raw)
	if err != nil {
		return notPrivate(text, err)
	}
	return parsedKey{signer: signer, public: signer.PublicKey()}
}

// notPrivate says what a file is that is not a private key.
func notPrivate(text []byte, cause error) parsedKey {
	unusable := func(what, remedy string) *credentialError {
		return &credentialError{what: what, remedy: remedy, cause: cause}
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		return parsedKey{public: plainKey(public), err: unusable("key %s is a public key",
			"name the private key, the file without .pub, or an agent that has it")}
	}
	switch {
	case bytes.HasPrefix(text, []byte("PuTTY-User-Key-File-")):
		return parsedKey{err: unusable("key %s is in PuTTY's format",
			"convert it: puttygen %s -O private-openssh -o NEW")}
	case bytes.Contains(text, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----")):
		return parsedKey{err: unusable("key %s is encrypted in PKCS#8 format, which is not supported",
			"convert it to OpenSSH's format: ssh-keygen -p -f %s")}
	}
	return parsedKey{err: unusable("key %s cannot be read as a private key",
		"make a new one with ssh-keygen -t ed25519; a key on a security key works only through an agent")}
}

// restrict leaves a key only the signature algorithms that may be used.
func restrict(signer ssh.Signer, legacy bool) (ssh.Signer, *credentialError) {
	may := signatureAlgorithms(signer.PublicKey().Type(), legacy)
	if len(may) == 0 {
		return nil, &credentialError{
			what:   "key %s is of type " + signer.PublicKey().Type() + ", which is not accepted",
			remedy: "make a new one with ssh-keygen -t ed25519",
		}
	}
	restricted, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), may)
	if err != nil {
		return nil, &credentialError{what: "key %s cannot sign", cause: err, remedy: "make a new one with ssh-keygen -t ed25519"}
	}
	return restricted, nil
}

// certificate reads the user certificate of a login, if it has one.
func (t *Trust) certificate(l Login) (*ssh.Certificate, error) {
	if len(l.Certificate) == 0 {
		return nil, nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(l.Certificate)
	cert, ok := public.(*ssh.Certificate)
	if err != nil || !ok || cert.CertType != ssh.UserCert {
		return nil, &credentialError{what: "the certificate for key " + l.KeyName + " is not an OpenSSH user certificate", cause: err, remedy: certificateRemedy}
	}
	now := uint64(t.now().Unix())
	switch {
	case now < cert.ValidAfter:
		return nil, outOfDate(l, "is not valid before "+certTime(cert.ValidAfter))
	case cert.ValidBefore != ssh.CertTimeInfinity && now >= cert.ValidBefore:
		return nil, outOfDate(l, "expired at "+certTime(cert.ValidBefore))
	}
	return cert, nil
}

func outOfDate(l Login, how string) error {
	return &credentialError{what: fmt.Sprintf("the certificate for key %s %s", l.KeyName, how), remedy: certificateRemedy}
}

func certTime(seconds uint64) string {
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
