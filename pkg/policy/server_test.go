package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// archive is the .tar.gz of a bundle's directory.
func archive(t testing.TB, dir string) []byte {
	t.Helper()
	img, err := take(bundle.NewDirectoryLoader(dir), maxImage)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	tw := tar.NewWriter(zip)
	for _, f := range img.files {
		if err := tw.WriteHeader(&tar.Header{Name: f.path, Mode: 0o644, Size: int64(len(f.text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// release is a bundle of a team with a package of its own, whose revision and
// serial are the number.
func (s signer) release(t testing.TB, team string, number int, rego string) []byte {
	t.Helper()
	dir := files(t, map[string]string{
		".manifest":                  fmt.Sprintf(`{"revision": "%s-%d", "roots": ["custom/%[1]s"], "metadata": {"serial": %[2]d}}`, team, number),
		"custom/" + team + "/a.rego": "package custom." + team + "\n\n" + rego + "\n",
	})
	if s.private != "" {
		s.sign(t, dir, "team")
	}
	return archive(t, dir)
}

// shelf is a server of bundles that tests do things to. Its answers have ETags.
type shelf struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	odd   func(w http.ResponseWriter, r *http.Request, content []byte) bool // true: it has answered
	asked []string                                                          // path, If-None-Match and status
	wish  string                                                            // the last Prefer
}

func newShelf(t testing.TB, start func(*httptest.Server)) *shelf {
	s := &shelf{files: map[string][]byte{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

func (s *shelf) put(name string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files["/"+name] = content
}

func (s *shelf) be(odd func(w http.ResponseWriter, r *http.Request, content []byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd = odd
}

func (s *shelf) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	content, there := s.files[r.URL.Path]
	odd := s.odd
	s.mu.Unlock()
	sum := sha256.Sum256(content)
	etag := `"` + hex.EncodeToString(sum[:4]) + `"`
	status := http.StatusOK
	switch {
	case !there:
		status = http.StatusNotFound
	case r.Header.Get("If-None-Match") == etag:
		status = http.StatusNotModified
	}
	s.mu.Lock()
	s.wish = r.Header.Get("Prefer")
	s.asked = append(s.asked, fmt.Sprintf("%s %s %d", r.URL.Path, r.Header.Get("If-None-Match"), status))
	s.mu.Unlock()
	if odd != nil && odd(w, r, content) {
		return
	}
	w.Header().Set("ETag", etag)
	w.WriteHeader(status)
	if status == http.StatusOK {
		_, _ = w.Write(content)
	}
}

func (s *shelf) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// from is a bundle of that name on the server, asked for every second.
func (s *shelf) from(name string) Source {
	return Source{
		Name: name, Resource: name + ".tar.gz", MinDelay: time.Second, MaxDelay: time.Second, Persist: true,
		Service: &Service{URL: s.URL, Headers: 10 * time.Second, Timeout: 10 * time.Second},
	}
}

// history is what was told of an engine's bundles.
type history struct {
	mu  sync.Mutex
	all []BundleChange
}

func (h *history) told(c BundleChange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, c)
}

func (h *history) kinds(of string) []Kind {
	h.mu.Lock()
	defer h.mu.Unlock()
	var kinds []Kind
	for _, c := range h.all {
		if c.Bundle == of {
			kinds = append(kinds, c.Kind)
		}
	}
	return kinds
}

func (h *history) last(of string) BundleChange {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range slices.Backward(h.all) {
		if c.Bundle == of {
			return c
		}
	}
	return BundleChange{}
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 1200 {
		if holds() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// fetching is an engine with a small policy on disk and bundles from servers,
// all of which have to be signed.
func fetching(t testing.TB, team signer, dir string, sources ...Source) (*Engine, *history) {
	t.Helper()
	h := &history{}
	e, err := New(t.Context(), Options{
		Bundle: signedMain(t, team), Bundles: sources, Keys: map[string]Key{"team": team.key()}, RequireSigned: true,
		KeepDir: dir, Told: h.told,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	return e, h
}

// signedMain is the small policy.
func signedMain(t testing.TB, team signer) string {
	dir := mainBundle(t, refusing)
	team.sign(t, dir, "team")
	return dir
}

// A bundle is fetched, asked for again by its ETag, and replaced when there is a
// newer one; what is told and what decides agree.
func TestFetched(t *testing.T) {
	team := newSigner(t)
	s := newShelf(t, (*httptest.Server).Start)
	s.put("team.tar.gz", team.release(t, "team", 1, "deny contains 1 if false"))
	e, h := fetching(t, team, t.TempDir(), s.from("team"))
	if err := e.Ready(); err != nil || e.Revisions()["team"] != "team-1" {
		t.Fatalf("%v, at %v", err, e.Revisions())
	}
	eventually(t, "it is asked for by its ETag", func() bool {
		return slices.ContainsFunc(s.requests(), func(r string) bool { return strings.HasSuffix(r, "304") })
	})
	s.put("team.tar.gz", team.release(t, "team", 2, "deny contains 2 if false"))
	eventually(t, "the newer one decides", func() bool { return e.Revisions()["team"] == "team-2" })
	eventually(t, "it is told", func() bool { return slices.Equal(h.kinds("team"), []Kind{Activated, Activated}) })
	if len(e.Behind()) > 0 {
		t.Errorf("behind %v", e.Behind())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wish != "modes=snapshot" {
		t.Errorf("it asks for %q", s.wish)
	}
}

// Whatever is wrong with what a server gives, the last good revision stays, it is
// told once however often it is tried, and the next good one decides.
func TestBadFetched(t *testing.T) {
	team, stranger := newSigner(t), newSigner(t)
	good := team.release(t, "team", 5, "deny contains 1 if false")
	serve := func(content []byte) func(*shelf) {
		return func(s *shelf) { s.put("team.tar.gz", content) }
	}
	bomb := func() []byte {
		dir := files(t, map[string]string{".manifest": customManifest, "custom/team/data.json": `{"x": "` + strings.Repeat("a", 4<<20) + `"}`})
		team.sign(t, dir, "team")
		return archive(t, dir)
	}
	owning := func(root string) []byte {
		dir := files(t, map[string]string{
			".manifest":           fmt.Sprintf(`{"revision": "team-6", "roots": [%q], "metadata": {"serial": 6}}`, root),
			root + "/team/a.rego": "package " + root + ".team\n\nx := 1\n",
		})
		team.sign(t, dir, "team")
		return archive(t, dir)
	}
	delta := func() []byte {
		dir := files(t, map[string]string{
			".manifest": `{"revision": "team-6", "roots": ["custom/team"], "metadata": {"serial": 6}}`, "patch.json": `{"data": [{"op": "upsert", "path": "/custom/team/x", "value": 1}]}`,
		})
		team.sign(t, dir, "team")
		return archive(t, dir)
	}
	odd := func(f func(w http.ResponseWriter, r *http.Request, content []byte) bool) func(*shelf) {
		return func(s *shelf) { s.be(f) }
	}
	for name, tc := range map[string]struct {
		do   func(*shelf)
		kind Kind
		want string
	}{
		"not signed":           {serve(signer{}.release(t, "team", 6, "deny contains 1 if false")), Refused, "is not signed"},
		"by a stranger":        {serve(stranger.release(t, "team", 6, "deny contains 1 if false")), Refused, "verify JWT signature"},
		"older":                {serve(team.release(t, "team", 4, "deny contains 1 if false")), Refused, "an old bundle is not taken back"},
		"asks":                 {serve(team.release(t, "team", 6, `deny contains 1 if http.send({"url": "x"})`)), Refused, "undefined function http.send"},
		"recursive":            {serve(team.release(t, "team", 6, "a if b\n\nb if a")), Refused, "recursive"},
		"does not parse":       {serve(team.release(t, "team", 6, "deny contains")), Refused, "rego_parse_error"},
		"runs away":            {serve(team.release(t, "team", 6, "deny contains x if x := count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a == b])")), Refused, "no answer in time"},
		"of the policy's root": {serve(owning("sallyport")), Refused, "not its to own"},
		"of another's root":    {serve(owning("custom")), Refused, "overlap"},
		"a change of it":       {serve(delta()), Refused, "is a delta; only whole bundles are taken"},
		"empty":                {serve([]byte{}), Refused, "EOF"},
		"corrupt":              {serve(append(slices.Clone(good[:len(good)/2]), bytes.Repeat([]byte{7}, len(good)/2)...)), Unreachable, ""},
		"half of it":           {serve(good[:len(good)/2]), Unreachable, "ends before its end"},
		"without the end":      {serve(good[:len(good)-4]), Unreachable, "ends before its end"},
		"not an archive":       {serve([]byte("<html>not an archive")), Refused, "gzip"},
		"too large":            {serve(bomb()), Unreachable, "too large"},
		"gone":                 {odd(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(404); return true }), Unreachable, "404"},
		"broken":               {odd(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(500); return true }), Unreachable, "500"},
		"cut off": {odd(func(w http.ResponseWriter, _ *http.Request, content []byte) bool {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:len(content)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}), Unreachable, "ends before its end"},
		"trickles": {odd(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			_, _ = w.Write([]byte{0x1f})
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}), Unreachable, "takes too long"},
		"goes round": {odd(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			http.Redirect(w, r, "/again"+r.URL.Path, http.StatusFound)
			return true
		}), Unreachable, "10 redirects"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, (*httptest.Server).Start)
			s.put("team.tar.gz", good)
			from := s.from("team")
			from.Service.Timeout, from.Limit = 2*time.Second, 1<<20
			h := &history{}
			main := mainBundle(t, strings.ReplaceAll(trusting, "custom.one", "custom.team"))
			local := files(t, map[string]string{".manifest": `{"revision": "l", "roots": ["custom/local"]}`, "custom/local/a.rego": "package custom.local\n\nx := 1\n"})
			team.sign(t, main, "team")
			team.sign(t, local, "team")
			e, err := New(t.Context(), Options{
				Bundle: main, Custom: []string{local}, Bundles: []Source{from}, Keys: map[string]Key{"team": team.key()}, RequireSigned: true, Told: h.told,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close(context.Background())
			if e.Revisions()["team"] != "team-5" {
				t.Fatalf("at %v: %v", e.Revisions(), e.Ready())
			}
			tc.do(s)
			before := len(s.requests())
			eventually(t, "it is tried more than once", func() bool { return len(h.kinds("team")) > 1 && len(s.requests()) > before+2 })
			last := h.last("team")
			if last.Kind != tc.kind || !strings.Contains(last.Detail, tc.want) || last.Revision != "team-5" || e.Behind()["team"] != string(tc.kind) {
				t.Errorf("told %+v, behind %v; want %s %q", last, e.Behind(), tc.kind, tc.want)
			}
			if e.Ready() != nil || e.Revisions()["team"] != "team-5" || len(h.kinds("team")) != 2 {
				t.Errorf("%v, at %v, told %v", e.Ready(), e.Revisions(), h.kinds("team"))
			}
			s.be(nil)
			s.put("team.tar.gz", team.release(t, "team", 7, "deny contains 7 if false"))
			eventually(t, "the next good one decides", func() bool { return e.Revisions()["team"] == "team-7" && len(e.Behind()) == 0 })
		})
	}
}

// While one bundle of a set is missing nothing decides, not even what is there;
// a record says so. What is there is not lost when the last one comes.
func TestHalfASet(t *testing.T) {
	team := newSigner(t)
	s := newShelf(t, (*httptest.Server).Start)
	s.put("one.tar.gz", team.release(t, "one", 1, "deny contains 1 if false"))
	var log memory
	e, err := New(t.Context(), Options{
		Bundle: signedMain(t, team), Bundles: []Source{s.from("one"), s.from("two")}, Keys: map[string]Key{"team": team.key()}, RequireSigned: true, Log: &log,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	d := e.Decide(t.Context(), NewInput(Facts{Now: time.Now()}), Mark{})
	if e.Ready() == nil || d.Allow || d.Reasons[0].Code != failNotReady.reason().Code || !strings.Contains(e.Ready().Error(), "two.tar.gz") {
		t.Errorf("%v, %+v", e.Ready(), d)
	}
	s.put("two.tar.gz", team.release(t, "two", 1, "deny contains 1 if false"))
	eventually(t, "both decide", func() bool { return e.Ready() == nil })
	if r := e.Revisions(); r["one"] != "one-1" || r["two"] != "two-1" {
		t.Error(r)
	}
}

// Two bundles that only fit together may come one after the other: the old pair
// decides until both are there.
func TestChangeOfTwoBundles(t *testing.T) {
	team := newSigner(t)
	s := newShelf(t, (*httptest.Server).Start)
	s.put("one.tar.gz", team.release(t, "one", 1, "old(x) := x"))
	s.put("two.tar.gz", team.release(t, "two", 1, "deny contains data.custom.one.old(1) if false"))
	h := &history{}
	e, err := New(t.Context(), Options{
		Bundle: signedMain(t, team), Bundles: []Source{s.from("one"), s.from("two")}, Keys: map[string]Key{"team": team.key()}, RequireSigned: true, Told: h.told,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	s.put("one.tar.gz", team.release(t, "one", 2, "new(x) := x"))
	eventually(t, "the first alone is refused", func() bool { return h.last("one").Kind == Refused })
	if r := e.Revisions(); r["one"] != "one-1" || r["two"] != "two-1" || e.Ready() != nil {
		t.Errorf("at %v, %v", r, e.Ready())
	}
	s.put("two.tar.gz", team.release(t, "two", 2, "deny contains data.custom.one.new(1) if false"))
	eventually(t, "both decide", func() bool {
		r := e.Revisions()
		return r["one"] == "one-2" && r["two"] == "two-2" && len(e.Behind()) == 0
	})
}

// A restart while the server is away starts on what decided last, which is
// verified again; what somebody changed there meanwhile does not decide, nor does
// an older one that the server has when it is back.
func TestRestartWithoutServer(t *testing.T) {
	team := newSigner(t)
	main, dir := signedMain(t, team), filepath.Join(t.TempDir(), "bundles")
	s := newShelf(t, (*httptest.Server).Start)
	s.put("team.tar.gz", team.release(t, "team", 3, "deny contains 1 if false"))
	start := func(offline bool) (*Engine, *history) {
		h := &history{}
		e, err := New(t.Context(), Options{
			Bundle: main, Bundles: []Source{s.from("team")}, Keys: map[string]Key{"team": team.key()}, RequireSigned: true,
			KeepDir: dir, Offline: offline, Told: h.told,
		})
		if err != nil {
			t.Fatal(err)
		}
		return e, h
	}
	e, _ := start(false)
	e.Close(t.Context())
	s.put("team.tar.gz", team.release(t, "team", 2, "deny contains 1 if false"))
	s.be(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(503); return true })
	e, h := start(false)
	if kinds := h.kinds("team"); e.Ready() != nil || e.Revisions()["team"] != "team-3" || !slices.Equal(kinds, []Kind{Restored, Unreachable}) {
		t.Errorf("%v, at %v, told %v", e.Ready(), e.Revisions(), kinds)
	}
	s.be(nil)
	eventually(t, "the older one is refused", func() bool { return h.last("team").Kind == Refused })
	e.Close(t.Context())

	kept, err := filepath.Glob(filepath.Join(dir, "*.tar.gz"))
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	forged := newSigner(t).release(t, "team", 9, "deny contains 1 if false")
	if err := os.WriteFile(kept[0], forged, 0o600); err != nil {
		t.Fatal(err)
	}
	e, h = start(true)
	if e.Ready() == nil || len(e.Revisions()) > 0 || !slices.Equal(h.kinds("team"), []Kind{Refused}) {
		t.Errorf("with a forged one: %v, at %v, told %v", e.Ready(), e.Revisions(), h.all)
	}
	e.Close(t.Context())
	e, h = start(false)
	defer e.Close(t.Context())
	if e.Ready() == nil || h.last("team").Kind != Refused || !strings.Contains(h.last("team").Detail, "an old bundle is not taken back") {
		t.Errorf("after that: %v, told %v", e.Ready(), h.all)
	}
}

// certificate is one for localhost, and for a client, that certifies itself.
func certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cert.pem")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// A server that wants to know who asks is shown a certificate and told a token,
// the one that there is at the time; nobody else is told, and no log.
func TestWhoAsks(t *testing.T) {
	team := newSigner(t)
	server, ca := certificate(t)
	client, clientCA := certificate(t)
	pool := x509.NewCertPool()
	text, err := os.ReadFile(clientCA)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	var mu sync.Mutex
	token := "first-secret"
	s := newShelf(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
		s.Config.ErrorLog = nil
		s.StartTLS()
	})
	var elsewhere []string
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Header.Get("Authorization"))
	}))
	defer other.Close()
	s.be(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Authorization") == "Bearer "+token {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	s.put("team.tar.gz", team.release(t, "team", 1, "deny contains 1 if false"))
	asks := s.from("team")
	asks.Service.CACert, asks.Service.Scheme = ca, "Bearer"
	asks.Service.Token = func() (string, error) { mu.Lock(); defer mu.Unlock(); return token, nil }
	asks.Service.Certificate = func() (*tls.Certificate, error) { return &client, nil }
	wrong, bare, stranger := asks, asks, asks
	wrongService, bareService, strangerService := *asks.Service, *asks.Service, *asks.Service
	wrongService.Token = func() (string, error) { return "wrong-secret", nil }
	bareService.Certificate = nil
	strangerService.CACert = clientCA
	wrong.Service, bare.Service, stranger.Service = &wrongService, &bareService, &strangerService

	var log bytes.Buffer
	start := func(from Source) *Engine {
		e, err := New(t.Context(), Options{
			Bundle: signedMain(t, team), Bundles: []Source{from}, Keys: map[string]Key{"team": team.key()},
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for name, tc := range map[string]struct {
		from Source
		want string
	}{"a wrong token": {wrong, "401"}, "no certificate": {bare, "certificate required"}, "another server": {stranger, "unknown authority"}} {
		e := start(tc.from)
		if err := e.Ready(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		e.Close(t.Context())
	}
	e := start(asks)
	if e.Ready() != nil || e.Revisions()["team"] != "team-1" {
		t.Fatalf("%v, at %v", e.Ready(), e.Revisions())
	}
	mu.Lock()
	token = "second-secret"
	mu.Unlock()
	s.put("team.tar.gz", team.release(t, "team", 2, "deny contains 1 if false"))
	eventually(t, "the new token counts", func() bool { return e.Revisions()["team"] == "team-2" })
	s.be(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		http.Redirect(w, r, other.URL+"/?sig=hidden-secret", http.StatusFound)
		return true
	})
	eventually(t, "it does not follow to where there is no TLS", func() bool { return e.Behind()["team"] == string(Unreachable) })
	e.Close(t.Context())
	if len(elsewhere) > 0 || strings.Contains(log.String(), "secret") {
		t.Errorf("told elsewhere %v; log:\n%s", elsewhere, log.String())
	}
}

// With a server that can, a newer bundle is there as soon as there is one, not
// when it is asked for the next time.
func TestLongPolling(t *testing.T) {
	team := newSigner(t)
	s := newShelf(t, (*httptest.Server).Start)
	s.put("team.tar.gz", team.release(t, "team", 1, "deny contains 1 if false"))
	waits, news := make(chan string, 16), make(chan struct{})
	s.be(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		if r.Header.Get("If-None-Match") == "" {
			return false
		}
		waits <- r.Header.Get("Prefer")
		select {
		case <-news:
		case <-r.Context().Done():
			return true
		}
		s.be(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
			return false
		})
		w.Header().Set("ETag", `"2"`)
		_, _ = w.Write(team.release(t, "team", 2, "deny contains 1 if false"))
		return true
	})
	from := s.from("team")
	from.MinDelay, from.MaxDelay, from.LongPoll = time.Hour, time.Hour, time.Minute
	e, _ := fetching(t, team, "", from)
	if prefer := <-waits; !strings.Contains(prefer, "wait=60") || e.Revisions()["team"] != "team-1" {
		t.Fatalf("asked with %q, at %v", prefer, e.Revisions())
	}
	close(news)
	eventually(t, "it is there", func() bool { return e.Revisions()["team"] == "team-2" })
}

// A registry gives bundles under a tag; what the tag stands for next decides
// next, if it is signed as it has to be.
func TestRegistry(t *testing.T) {
	team := newSigner(t)
	s := newShelf(t, (*httptest.Server).Start)
	push := func(content []byte) {
		digest := func(b []byte) string { sum := sha256.Sum256(b); return "sha256:" + hex.EncodeToString(sum[:]) }
		config := []byte("{}")
		manifest := fmt.Appendf(nil, `{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": %q, "size": %d},
"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": %q, "size": %d}]}`, digest(config), len(config), digest(content), len(content))
		for name, b := range map[string][]byte{"manifests/" + digest(manifest): manifest, "blobs/" + digest(config): config, "blobs/" + digest(content): content, "manifests/1": manifest} {
			s.put("v2/team/policy/"+name, b)
		}
		s.be(func(w http.ResponseWriter, r *http.Request, b []byte) bool {
			if r.Header.Get("Authorization") != "Bearer "+base64.StdEncoding.EncodeToString([]byte("pull-secret")) {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				w.Header().Set("Docker-Content-Digest", digest(manifest))
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			if r.Method != http.MethodHead {
				_, _ = w.Write(b)
			}
			return true
		})
	}
	push(team.release(t, "team", 1, "deny contains 1 if false"))
	from := s.from("team")
	from.Resource = strings.TrimPrefix(s.URL, "http://") + "/team/policy:1"
	from.Service.OCI, from.Service.Scheme = true, "Bearer"
	from.Service.Token = func() (string, error) { return "pull-secret", nil }
	dir := t.TempDir()
	e, h := fetching(t, team, dir, from)
	if e.Ready() != nil || e.Revisions()["team"] != "team-1" {
		t.Fatalf("%v, at %v", e.Ready(), e.Revisions())
	}
	push(newSigner(t).release(t, "team", 2, "deny contains 1 if false"))
	eventually(t, "a stranger's is refused", func() bool { return h.last("team").Kind == Refused })
	if last := h.last("team"); !strings.Contains(last.Detail, "verify JWT signature") || last.Revision != "team-1" {
		t.Errorf("told %+v", last)
	}
	push(team.release(t, "team", 3, "deny contains 1 if false"))
	eventually(t, "the next one decides", func() bool { return e.Revisions()["team"] == "team-3" && len(e.Behind()) == 0 })
	s.be(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(500); return true })
	eventually(t, "it is away", func() bool { return e.Behind()["team"] == string(Unreachable) })
	e.Close(t.Context())
	again, h := fetching(t, team, dir, from)
	if again.Ready() != nil || again.Revisions()["team"] != "team-3" {
		t.Errorf("restarted: %v, at %v, told %v", again.Ready(), again.Revisions(), h.all)
	}
}

// The bundle with the entry point may come from a server, too; while it does not,
// no other decides in its place.
func TestMainFromServer(t *testing.T) {
	team := newSigner(t)
	s := newShelf(t, (*httptest.Server).Start)
	h := &history{}
	local := files(t, map[string]string{".manifest": customManifest, "custom/team/a.rego": "package custom.team\n\nx := 1\n"})
	team.sign(t, local, "team")
	e, err := New(t.Context(), Options{
		Custom: []string{local}, Bundles: []Source{s.from("sallyport")}, Keys: map[string]Key{"team": team.key()}, RequireSigned: true, Told: h.told,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	if d := e.Decide(t.Context(), NewInput(Facts{Now: time.Now()}), Mark{}); e.Ready() == nil || d.Allow || len(e.Revisions()) > 0 {
		t.Errorf("%v, at %v, %+v", e.Ready(), e.Revisions(), d)
	}
	if err := e.Reload(t.Context(), nil); err != nil || e.Ready() == nil {
		t.Errorf("reloaded: %v, %v", err, e.Ready())
	}
	s.put("sallyport.tar.gz", archive(t, signedMain(t, team)))
	eventually(t, "it decides", func() bool { return e.Ready() == nil && e.Revisions()["sallyport"] == "r1" })
	write(t, filepath.Join(local, "custom/team/a.rego"), "package custom.team\n\nx := 2\n")
	if err := e.Reload(t.Context(), nil); err == nil || e.Ready() != nil {
		t.Errorf("a change that is not signed: %v, %v", err, e.Ready())
	}
	team.sign(t, local, "team")
	if err := e.Reload(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
