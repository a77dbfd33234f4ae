package sshexec

import (
	"crypto/rand"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

func TestAlgorithmsAreModern(t *testing.T) {
	now := algorithmsFor(false)
	for _, algo := range slices.Concat(allAlgorithms(now), now.PublicKeyAuths) {
		if strings.Contains(algo, "sha1") || strings.Contains(algo, "cbc") || strings.Contains(algo, "arcfour") ||
			strings.HasPrefix(algo, "ssh-rsa") || strings.HasPrefix(algo, "ssh-dss") {
			t.Errorf("%s is offered", algo)
		}
	}
	wantCiphers := []string{
		ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305,
		ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR,
	}
	if d := cmp.Diff(wantCiphers, now.Ciphers); d != "" {
		t.Errorf("ciphers (-want +got):\n%s", d)
	}
	if now.KeyExchanges[0] != ssh.KeyExchangeMLKEM768X25519 {
		t.Errorf("the first key exchange is %s", now.KeyExchanges[0])
	}
	if d := cmp.Diff(hostKeyOrder, now.HostKeys[:len(hostKeyOrder)]); d != "" {
		t.Errorf("host keys (-want +got):\n%s", d)
	}
	old := algorithmsFor(true)
	for _, algo := range []string{ssh.InsecureKeyExchangeDH14SHA1, ssh.HMACSHA1, ssh.KeyAlgoRSA} {
		if !slices.Contains(allAlgorithms(old), algo) {
			t.Errorf("legacy does not offer %s", algo)
		}
	}
	if !slices.Equal(old.Ciphers, now.Ciphers) {
		t.Errorf("legacy offers ciphers that are broken: %v", old.Ciphers)
	}
}

// TestOldServers has real servers that speak nothing but one old algorithm.
func TestOldServers(t *testing.T) {
	hostRSA := filepath.Join(t.TempDir(), "host_rsa")
	keygen(t, "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", hostRSA)
	public, err := os.ReadFile(hostRSA + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		config   []string
		offers   string
		noLegacy bool // legacy does not help
	}{
		{"key exchange", []string{"KexAlgorithms diffie-hellman-group14-sha1"}, "diffie-hellman-group14-sha1", false},
		{"MAC", []string{"Ciphers aes128-ctr", "MACs hmac-sha1"}, "hmac-sha1", false},
		{"host key", []string{"HostKeyAlgorithms ssh-rsa"}, "ssh-rsa", false},
		{"cipher", []string{"Ciphers aes128-cbc,3des-cbc"}, "aes128-cbc, 3des-cbc", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lab := newLoginLab(t, append(tc.config, "HostKey "+hostRSA)...)
			key := lab.newKey(t, "rsa", "-t", "rsa", "-b", "2048", "-N", "")
			lab.write(t, "known_hosts", "* "+string(public)+lab.KnownLine+"\n")
			reload(t, lab.trust)
			login := Login{Key: key, KeyName: "rsa"}
			f := lab.try(t, login)
			fails(t, "modern", f, tool.FailAlgorithms, tc.offers)
			if strings.Contains(f.Remedy, optIn) == tc.noLegacy {
				t.Errorf("the remedy is: %s", f.Remedy)
			}
			login.Legacy = true
			if f := lab.try(t, login); tc.noLegacy {
				fails(t, "legacy", f, tool.FailAlgorithms, tc.offers)
			} else {
				works(t, "legacy", f)
			}
		})
	}
}

// TestOldSignatures has a server that takes signatures by SHA-1 alone.
func TestOldSignatures(t *testing.T) {
	s := serveAuth(t, &ssh.ServerConfig{
		PublicKeyAuthAlgorithms: []string{ssh.KeyAlgoRSA},
		PublicKeyCallback:       func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
	})
	file := filepath.Join(t.TempDir(), "rsa")
	keygen(t, "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", file)
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, login := range map[string]Login{"file": {Key: key, KeyName: "rsa"}, "agent": {Agent: serveAgent(t, key).socket}} {
		fails(t, what, s.try(t, login), tool.FailAlgorithms, "SHA-1", optIn)
		login.Legacy = true
		works(t, what, s.try(t, login))
	}
}

func TestNegotiatedWithOpenSSH(t *testing.T) {
	lab := newLoginLab(t)
	key := lab.newKey(t, "id", "-t", "ed25519", "-N", "")
	config, err := lab.trust.clientConfig(target(sshtest.Me(t), lab.Addr), Login{Key: key, KeyName: "id"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", lab.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, chans, reqs, err := ssh.NewClientConn(c, "", config)
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(conn, chans, reqs)
	got := conn.(ssh.AlgorithmsConnMetadata).Algorithms()
	client.Close()
	_ = client.Wait()
	if got.Read.Cipher != ssh.CipherAES128GCM || got.Write.Cipher != ssh.CipherAES128GCM || got.HostKey != ssh.KeyAlgoED25519 {
		t.Errorf("negotiated %+v", got)
	}
}

// TestWeakCertificateSignature has a known authority sign a host's key with
// SHA-1.
func TestWeakCertificateSignature(t *testing.T) {
	dir := t.TempDir()
	keygen(t, "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", dir+"/ca")
	keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", dir+"/host")
	lab := &loginLab{dir: dir}
	lab.write(t, "known_hosts", "@cert-authority * "+string(lab.read(t, "ca.pub")))
	trust := newTrust(t, dir+"/known_hosts")
	there := target("ops", netip.MustParseAddrPort("127.0.0.1:22"))
	for _, tc := range []struct {
		algo   string
		legacy bool
		want   bool
	}{{"rsa-sha2-512", false, true}, {"ssh-rsa", false, false}, {"ssh-rsa", true, true}} {
		keygen(t, "-q", "-s", dir+"/ca", "-t", tc.algo, "-I", "host", "-h", "-n", "127.0.0.1", dir+"/host.pub")
		cert, _, _, _, err := ssh.ParseAuthorizedKey(lab.read(t, "host-cert.pub"))
		if err != nil {
			t.Fatal(err)
		}
		config, err := trust.clientConfig(there, Login{Password: "x", Legacy: tc.legacy})
		if err != nil {
			t.Fatal(err)
		}
		f := failureOf(t, config.HostKeyCallback("", nil, cert))
		if (f == nil) != tc.want {
			t.Errorf("%s, legacy=%t: %v", tc.algo, tc.legacy, f)
		}
		if !tc.want {
			fails(t, tc.algo, f, tool.FailUnknownHostKey, "SHA-1")
		}
	}
}

// TestForgedCertificate changes what an authority has signed.
func TestForgedCertificate(t *testing.T) {
	newKey := func() ssh.Signer {
		text, _, err := sshtest.NewKeyFile()
		if err != nil {
			t.Fatal(err)
		}
		return parseKey(text, "").signer
	}
	ca, host := newKey(), newKey()
	dir := t.TempDir()
	lab := &loginLab{dir: dir}
	lab.write(t, "known_hosts", "@cert-authority * "+string(ssh.MarshalAuthorizedKey(ca.PublicKey())))
	now := time.Now()
	trust, err := NewTrust(TrustOptions{KnownHosts: []string{lab.path("known_hosts")}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	good := ssh.Certificate{
		Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"127.0.0.1"},
		ValidAfter: uint64(now.Unix()), ValidBefore: uint64(now.Unix() + 60),
	}
	for _, tc := range []struct {
		name   string
		before func(*ssh.Certificate)
		after  func(*ssh.Certificate)
		says   string // empty: it is believed
	}{
		{name: "good"},
		{name: "another key", after: func(c *ssh.Certificate) { c.Key = newKey().PublicKey() }, says: "signature"},
		{name: "other principals", after: func(c *ssh.Certificate) { c.ValidPrincipals = nil }, says: "signature"},
		{name: "of a user", before: func(c *ssh.Certificate) { c.CertType = ssh.UserCert }, says: "not a host certificate"},
		{name: "critical option", before: func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"x": "y"} }, says: "critical option"},
		{name: "not yet", before: func(c *ssh.Certificate) { c.ValidAfter++ }, says: "not yet valid"},
		{name: "no longer", before: func(c *ssh.Certificate) { c.ValidAfter--; c.ValidBefore = c.ValidAfter + 1 }, says: "expired"},
	} {
		cert := good
		if tc.before != nil {
			tc.before(&cert)
		}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
		if tc.after != nil {
			tc.after(&cert)
		}
		config, err := trust.clientConfig(target("ops", netip.MustParseAddrPort("127.0.0.1:22")), Login{Password: "x"})
		if err != nil {
			t.Fatal(err)
		}
		f := failureOf(t, config.HostKeyCallback("", nil, &cert))
		if tc.says == "" {
			works(t, tc.name, f)
		} else {
			fails(t, tc.name, f, tool.FailUnknownHostKey, tc.says)
		}
	}
}
