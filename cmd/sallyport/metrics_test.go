package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/mcpserver/mcpclient"
)

// Numbers are for those who may call, and tell of calls and decisions.
func TestMetrics(t *testing.T) {
	s := newSite(t)
	s.write(t, "sallyport.yml", "log_level: error\ntokens: [{id: agent-7, sha256: "+sha256Hex("seven")+"}]\n"+
		"shadow: {custom: [next]}\nlogs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	s.write(t, "next/next.rego", "package custom.next\n\ndeny contains \"never\"\n", 0o600)
	_, url := s.inProcess(t)
	client, err := mcpclient.Connect(t.Context(), mcpclient.Options{URL: url, Token: "seven", Name: "e2e", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	mustCall(t, client, runArgs("readonly", "true"))
	if _, err := client.Call(t.Context(), "ssh_run", runArgs("readonly", "reboot")); err != nil {
		t.Fatal(err)
	}
	ask := func(token string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(url, "/mcp")+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	if status, text := ask("eight"); status != http.StatusUnauthorized || strings.Contains(text, "sallyport_") {
		t.Errorf("with another token: %d, %s", status, text)
	}
	eventually(t, "the shadow has judged", func() bool {
		_, text := ask("seven")
		return strings.Contains(text, "sallyport_shadow_judged_total 2\n")
	})
	status, text := ask("seven")
	if status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{
		`^sallyport_decisions_total 2$`,
		`^sallyport_decisions_unrecorded_total 0$`,
		`^sallyport_events_total\{type="finished"\} 1$`,
		`^sallyport_events_total\{type="refused"\} 1$`,
		`^sallyport_connections 1$`,
		`^sallyport_shadow_differ_total 2$`,
		`^sallyport_bundle_info\{mode="live",name="sallyport",revision="[^"]+"\} 1$`,
		`^sallyport_bundle_info\{mode="shadow",name="next",revision="[^"]+"\} 1$`,
		`^process_resident_memory_bytes `,
	} {
		if !regexp.MustCompile("(?m)" + want).MatchString(text) {
			t.Errorf("nothing like %s in %s", want, text)
		}
	}
}
