package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// A key whose passphrase nobody names would fail at the first call, so it fails
// at the start.
func TestEncryptedKeyNeedsItsPassphrase(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	plain, err := ssh.MarshalPrivateKey(key, "")
	must(t, err)
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("secret"))
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	//lint:ignore SA1019 keys of this kind are still about
	old, err := x509.EncryptPEMBlock(rand.Reader, "PRIVATE KEY", der, []byte("secret"), x509.PEMCipherAES256)
	must(t, err)
	for name, test := range map[string]struct {
		block     *pem.Block
		encrypted bool
	}{
		"plain":          {plain, false},
		"encrypted":      {locked, true},
		"PKCS 8":         {&pem.Block{Type: "PRIVATE KEY", Bytes: der}, false},
		"locked PKCS 8":  {&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}, true},
		"encrypted PEM":  {old, true},
		"no key in fact": {&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: []byte("x")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, named := range []bool{false, true} {
				dir := t.TempDir()
				_, err := Init(dir)
				must(t, err)
				must(t, writeMode(filepath.Join(dir, "keys", "k"), "0600", pem.EncodeToMemory(test.block)))
				must(t, writeMode(filepath.Join(dir, "secrets", "p"), "0600", []byte("secret")))
				entry := "{name: me, username: ops, key_path: k}"
				if named {
					entry = "{name: me, username: ops, key_path: k, key_passphrase_secret: p}"
				}
				must(t, writeMode(filepath.Join(dir, "credentials.yml"), "0600", fmt.Appendf(nil, "entries: [%s]\n", entry)))
				_, err = Load(Options{Dir: dir, Env: noEnv})
				complains := err != nil && strings.Contains(err.Error(), "k is encrypted (put its passphrase")
				if complains != (test.encrypted && !named) {
					t.Errorf("passphrase named %v: %v", named, err)
				}
			}
		})
	}
}
