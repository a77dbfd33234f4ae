package main

import (
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// collector is a service that takes decision logs, when it is up.
type collector struct {
	mu     sync.Mutex
	status int
	tokens []string
	events []map[string]any
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status != 0 {
		w.WriteHeader(c.status)
		return
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Encoding") != "gzip" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var events []map[string]any
	if err := json.NewDecoder(z).Decode(&events); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.tokens = append(c.tokens, r.Header.Get("Authorization"))
	c.events = append(c.events, events...)
}

func (c *collector) answers(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// ids are those of the decisions that it has.
func (c *collector) ids() map[any]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[any]bool{}
	for _, e := range c.events {
		ids[e["decision_id"]] = true
	}
	return ids
}

// uploading is a site whose decisions go to a file and to a collector.
func uploading(t *testing.T, c *collector, more string) site {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	s := newSite(t)
	s.write(t, "secrets/collector", "s3cr3t-of-the-collector\n", 0o600)
	s.write(t, "sallyport.yml", "log_level: error\n"+
		"policy: {services: {logs: {url: \""+server.URL+"/v1\", credentials: {bearer: {token: \"file:collector\"}}}}}\n"+
		"logs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}, upload: {service: logs, reporting: {max_delay_seconds: 1"+more+"}}}\n", 0o600)
	return s
}

// Decisions reach a collector in OPA's form, over an outage and a restart, and
// what is on the decision log is what it gets.
func TestUpload(t *testing.T) {
	c := &collector{status: http.StatusServiceUnavailable}
	s := uploading(t, c, "")
	t.Run("outage", func(t *testing.T) {
		client := s.serveHTTP(t)
		for range 5 {
			mustCall(t, client, runArgs("readonly", "true"))
		}
	})
	if n := len(c.ids()); n != 0 {
		t.Fatalf("a collector that is down has %d decisions", n)
	}
	c.answers(0)
	client := s.serveHTTP(t)
	for range 5 {
		mustCall(t, client, runArgs("readonly", "true"))
	}
	on := map[any]bool{}
	for _, line := range readLinesOf(t, s.dir+"/decisions.jsonl") {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		on[e["decision_id"]] = true
	}
	eventually(t, "the collector has all", func() bool { return len(c.ids()) == len(on) })
	for id := range on {
		if !c.ids()[id] {
			t.Errorf("decision %v is not at the collector", id)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, token := range c.tokens {
		if token != "Bearer s3cr3t-of-the-collector" {
			t.Errorf("it was asked with %q", token)
		}
	}
	for _, file := range []string{"decisions.jsonl", "audit.jsonl"} {
		if s.lastLine(t, file, "s3cr3t") != "" {
			t.Errorf("the token is in %s", file)
		}
	}
}

// A buffer that is full refuses calls with the code of a log that cannot be
// written, before anything runs.
func TestUploadBufferFull(t *testing.T) {
	c := &collector{status: http.StatusServiceUnavailable}
	s := uploading(t, c, ", buffer_size_limit_bytes: 1048576")
	client := s.serveHTTP(t)
	var refused string
	for n := 0; n < 3000 && refused == ""; n++ {
		answer, err := client.Call(t.Context(), "ssh_plan", runArgs("readonly", "true"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(answer.Text, "log_unwritable") || answer.IsError {
			refused = answer.Text
		}
	}
	if !strings.Contains(refused, "log") {
		t.Fatalf("with a full buffer the answer is %q", refused)
	}
	answer, err := client.Call(t.Context(), "ssh_run", runArgs("readonly", "true"))
	if err != nil || !answer.IsError {
		t.Errorf("it runs: %s, %v", answer.Text, err)
	}
	c.answers(0)
	eventually(t, "calls work again", func() bool {
		answer, err := client.Call(t.Context(), "ssh_run", runArgs("readonly", "true"))
		return err == nil && !answer.IsError
	})
}
