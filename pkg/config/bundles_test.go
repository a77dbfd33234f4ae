package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair writes a certificate and its key.
func pair(t *testing.T, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// TestClientCertificate: a certificate goes with its key, and both are read when
// they are asked for.
func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	_, err := Init(dir)
	must(t, err)
	settings := "policy: {services: {acme: {url: 'https://example.com', credentials: {client_tls: {cert: gateway.pem, private_key: gateway.key}}}}}\n"
	must(t, os.WriteFile(filepath.Join(dir, "sallyport.yml"), []byte(settings), 0o600))
	cert, key := filepath.Join(dir, "gateway.pem"), filepath.Join(dir, "keys/gateway.key")
	pair(t, cert, key)
	c := mustLoad(t, Options{Dir: dir, Env: noEnv})
	acme := c.Settings.Policy.Services["acme"]
	first, err := c.Secrets().Certificate(acme.Cert, acme.Key)
	must(t, err)
	pair(t, cert, key)
	second, err := c.Secrets().Certificate(acme.Cert, acme.Key)
	must(t, err)
	if string(first.Certificate[0]) == string(second.Certificate[0]) {
		t.Error("the new certificate does not count")
	}
	pair(t, filepath.Join(dir, "other.pem"), key)
	if _, err := Load(Options{Dir: dir, Env: noEnv}); err == nil || !strings.Contains(err.Error(), "client_tls.cert: tls: private key does not match public key") {
		t.Errorf("with the key of another one: %v", err)
	}
}
