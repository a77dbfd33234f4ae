package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
)

// signer is who signs bundles, and the key to check it with.
type signer struct{ private, public string }

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return signer{text("PRIVATE KEY", private), text("PUBLIC KEY", public)}
}

func (s signer) key() Key {
	return Key{Algorithm: "ES256", Text: func() (string, error) { return s.public, nil }}
}

// sign writes a directory's .signatures.json, by a key of the given name, as
// `opa sign` does.
func (s signer) sign(t testing.TB, dir, keyID string) {
	t.Helper()
	_ = os.Remove(filepath.Join(dir, ".signatures.json"))
	img, err := take(bundle.NewDirectoryLoader(dir), maxImage)
	if err != nil {
		t.Fatal(err)
	}
	hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var signed []bundle.FileInfo
	for _, f := range img.files {
		var content any = f.text
		if bundle.IsStructuredDoc(f.path) {
			content = nil
			if err := util.Unmarshal(f.text, &content); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := hasher.HashFile(content)
		if err != nil {
			t.Fatal(err)
		}
		signed = append(signed, bundle.NewFile(strings.TrimPrefix(f.path, "/"), hex.EncodeToString(sum), "SHA-256"))
	}
	token, err := bundle.GenerateSignedToken(signed, bundle.NewSigningConfig(s.private, "ES256", ""), keyID)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".signatures.json"), `{"signatures": ["`+token+`"]}`)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is signed decides, and nothing else where a signature is required: not
// what was signed by somebody else, nor what somebody changed, added or took
// away since.
func TestSignatures(t *testing.T) {
	team, stranger := newSigner(t), newSigner(t)
	content := func() map[string]string {
		return map[string]string{
			".manifest": customManifest, "custom/team/team.rego": "package custom.team\n\ndeny contains \"signed\" if input.host.alias == \"web3\"\n",
			"custom/team/team_test.rego": "package custom.team_test\n\ntest_x if true\n", "custom/team/data.json": `{"a": 1}`,
		}
	}
	for name, tc := range map[string]struct {
		by      signer
		keyID   string
		signing *Signing
		lax     bool // no signature is required
		after   func(dir string)
		want    string
	}{
		"signed":                {by: team, keyID: "team"},
		"by the key asked for":  {by: team, keyID: "other", signing: &Signing{KeyID: "team"}},
		"not signed":            {want: "is not signed"},
		"not signed: lax":       {lax: true},
		"not signed: but asked": {lax: true, signing: &Signing{}, want: "is not signed"},
		"by a stranger":         {by: stranger, keyID: "team", want: "verify JWT signature"},
		"by a stranger: lax":    {by: stranger, keyID: "team", lax: true, want: "verify JWT signature"},
		"by an unknown key":     {by: stranger, keyID: "stranger", want: "ID stranger not found"},
		"of another scope":      {by: team, keyID: "team", signing: &Signing{Scope: "read"}, want: "scope mismatch"},
		"a rule changed": {by: team, keyID: "team", want: "digest mismatch", after: func(dir string) {
			write(t, filepath.Join(dir, "custom/team/team.rego"), "package custom.team\n")
		}},
		"data changed": {by: team, keyID: "team", want: "digest mismatch", after: func(dir string) {
			write(t, filepath.Join(dir, "custom/team/data.json"), `{"a": 2}`)
		}},
		"the manifest changed": {by: team, keyID: "team", want: "digest mismatch", after: func(dir string) {
			write(t, filepath.Join(dir, ".manifest"), strings.Replace(customManifest, "c1", "c2", 1))
		}},
		"a rule added": {by: team, keyID: "team", want: "not included in bundle signature", after: func(dir string) {
			write(t, filepath.Join(dir, "custom/team/more.rego"), "package custom.team\n")
		}},
		"a rule taken away": {by: team, keyID: "team", want: "signed, and not there", after: func(dir string) {
			_ = os.Remove(filepath.Join(dir, "custom/team/team.rego"))
		}},
		"no signatures in it": {by: team, keyID: "team", want: "missing JWT", after: func(dir string) {
			write(t, filepath.Join(dir, ".signatures.json"), `{"signatures": []}`)
		}},
		"no algorithm": {by: team, keyID: "team", want: "signature", after: func(dir string) {
			write(t, filepath.Join(dir, ".signatures.json"), `{"signatures": ["eyJhbGciOiJub25lIn0.eyJmaWxlcyI6W10sImtleWlkIjoidGVhbSJ9."]}`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := files(t, content())
			if tc.by.private != "" {
				tc.by.sign(t, dir, tc.keyID)
			}
			if tc.after != nil {
				tc.after(dir)
			}
			e := newEngine(Options{
				Bundles: []Source{{Name: "team", Path: dir, Signing: tc.signing}},
				Keys:    map[string]Key{"team": team.key()}, RequireSigned: !tc.lax,
			})
			bundles, faults := fromDisk(e)
			switch err := faults.orNil(); {
			case tc.want == "" && (err != nil || bundles["team"] == nil):
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || faults[0].Remedy == ""):
				t.Errorf("%v, want %q and a remedy", err, tc.want)
			}
		})
	}
}

// A change that is not signed is noticed at a reload, and the last good revision
// stays; the shipped bundle needs no signature.
func TestUnsignedChange(t *testing.T) {
	team := newSigner(t)
	dir := files(t, map[string]string{".manifest": customManifest, "custom/team/team.rego": "package custom.team\n\ndeny contains \"x\" if input.host.alias == \"web3\"\n"})
	team.sign(t, dir, "team")
	e, err := New(t.Context(), Options{Custom: []string{dir}, Keys: map[string]Key{"team": team.key()}, RequireSigned: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	name := bundleName(dir)
	write(t, filepath.Join(dir, ".manifest"), strings.Replace(customManifest, "c1", "c2", 1))
	if err := e.Reload(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "digest mismatch") || e.Revisions()[name] != "c1" {
		t.Errorf("%v, at %v", err, e.Revisions())
	}
	team.sign(t, dir, "team")
	if err := e.Reload(t.Context(), nil); err != nil || e.Revisions()[name] != "c2" {
		t.Errorf("%v, at %v", err, e.Revisions())
	}
}
