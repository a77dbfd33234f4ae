package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/pkg/audit"
)

// bundleServer gives a team's bundle to whoever knows a token.
type bundleServer struct {
	*httptest.Server
	mu      sync.Mutex
	content []byte
}

func newBundleServer(t *testing.T, token string) *bundleServer {
	s := &bundleServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(s.content)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *bundleServer) release(t *testing.T, revision, rego string) {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	tw := tar.NewWriter(zip)
	for name, text := range map[string]string{
		"/.manifest":          `{"revision": "` + revision + `", "roots": ["custom/team"]}`,
		"/custom/team/a.rego": "package custom.team\n\n" + rego + "\n",
	} {
		err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
		if err == nil {
			_, err = tw.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content = out.Bytes()
}

// A team's bundle comes from a server: what it says counts as soon as it is
// there; a broken one leaves the last good revision, and the audit stream, the
// decision log and /readyz say so; a restart without the server goes on with it.
// What contacts nobody looks at what was kept. The token is nowhere to be read.
func TestBundlesOfAServer(t *testing.T) {
	const token = "hush-hush-hush"
	server := newBundleServer(t, token)
	server.release(t, "r1", `deny contains "not by r1" if input.call.effect == "execute"`)
	s := newSite(t)
	s.write(t, "secrets/bundles", token+"\n", 0o600)
	s.write(t, "sallyport.yml", `log_level: debug
http: {listen: "127.0.0.1:0"}
logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}
policy:
  timeout: 1s
  services:
    acme: {url: "`+server.URL+`", credentials: {bearer: {token: "file:bundles"}}}
  bundles:
    team: {service: acme, resource: team.tar.gz, polling: {min_delay_seconds: 1, max_delay_seconds: 1}}
`, 0o600)
	command := func(args ...string) string {
		out, _ := gatewayProcess(t, append(args, "--config", s.dir)...).CombinedOutput()
		return string(out)
	}
	if out := command("validate"); !strings.Contains(out, "valid") || !strings.Contains(out, "warning: policy.bundles: waiting for bundle team") {
		t.Errorf("validate: %s", out)
	}
	if out := command("plan", "--host", "readonly", "--command", "uptime"); !strings.Contains(out, "waiting for bundle team") {
		t.Errorf("plan: %s", out)
	}

	gateway, url := startGateway(t, s)
	client := connect(t, url)
	says := func(text string) func() bool {
		return func() bool {
			answer := mustCall(t, client, runArgs("readonly", "uptime"))
			return answer.IsError && strings.Contains(answer.Text, text)
		}
	}
	eventually(t, "the first revision decides", says("not by r1"))
	server.release(t, "r2", `deny contains "not by r2" if input.call.effect == "execute"`)
	eventually(t, "the second does", says("not by r2"))
	server.release(t, "r3", `deny contains "x" if input.hots`)
	eventually(t, "the third does not", func() bool { return strings.Contains(lastAudit(t, s, audit.Bundle), "undefined ref: input.hots") })
	if line := lastAudit(t, s, audit.Bundle); !strings.Contains(line, `"failure":"bundle_refused"`) || !strings.Contains(line, `"subject":"team"`) {
		t.Error(line)
	}
	if !says("not by r2")() {
		t.Error("the last good revision does not decide any more")
	}
	if ready := get(t, strings.TrimSuffix(url, "/mcp")+"/readyz"); ready != "ready\nbundle team: the last good revision decides (refused)\n" {
		t.Errorf("readyz: %q", ready)
	}
	if metrics := get(t, strings.TrimSuffix(url, "/mcp")+"/metrics"); !strings.Contains(metrics, `sallyport_bundle_behind{mode="live",name="team",state="refused"} 1`) ||
		!strings.Contains(metrics, `sallyport_events_total{type="bundle"} 3`) {
		t.Errorf("metrics: %s", metrics)
	}
	if log := readFile(t, s, "decisions.jsonl"); !strings.Contains(log, `"bundles_behind":{"team":"refused"}`) || !strings.Contains(log, `"team":{"revision":"r2"}`) {
		t.Errorf("decision log: %s", log)
	}

	server.Close()
	if err := gateway.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it ends", func() bool { return strings.Contains(readFile(t, s, "audit.jsonl"), `"type":"stop"`) })
	if out := command("validate", "--output", "json"); !strings.Contains(out, `"team":"r2"`) {
		t.Errorf("validate with what was kept: %s", out)
	}
	_, url = startGateway(t, s)
	client = connect(t, url)
	if !says("not by r2")() {
		t.Error("after a restart without the server it does not decide")
	}
	stream := readFile(t, s, "audit.jsonl")
	for _, want := range []string{`"detail":"activated r1"`, `"detail":"activated r2"`, `"detail":"restored r2"`, `"failure":"bundle_unreachable"`} {
		if !strings.Contains(stream, want) {
			t.Errorf("the audit stream lacks %s: %s", want, stream)
		}
	}
	for _, text := range []string{stream, readFile(t, s, "decisions.jsonl")} {
		if strings.Contains(text, token) {
			t.Error("the token is in a log")
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readFile(t *testing.T, s site, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
