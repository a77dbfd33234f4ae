package mcpserver

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func (e era) rawRead(id int, uri string) []byte {
	return rawRequest(id, "resources/read", e.params(map[string]any{"uri": uri}))
}

func TestResourceLists(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		list := l.ask(t, rawRequest(1, "resources/list", l.era().params(nil)))
		want := []listedResource{
			{URI: "ssh://hosts", Name: "read_hosts", Title: "Hosts", Description: "All hosts.", MIMEType: "application/json"},
			{URI: "ssh://key", Name: "read_key", Title: "Key", Description: "Bytes.", MIMEType: "application/octet-stream"},
		}
		if d := cmp.Diff(want, list.Result.Resources); d != "" {
			t.Error(d)
		}
		templates := l.ask(t, rawRequest(2, "resources/templates/list", l.era().params(nil)))
		want = []listedResource{{
			URITemplate: "ssh://host/{alias}", Name: "read_host", Title: "Host", Description: "One host.", MIMEType: "application/json",
		}}
		if d := cmp.Diff(want, templates.Result.ResourceTemplates); d != "" {
			t.Error(d)
		}
	})
}

func TestResourcesAreThoseOfTheCaller(t *testing.T) {
	w := serveHTTP(t, newServer(t, newSite()), HTTPOptions{Tokens: twoTokens})
	for token, want := range map[string]int{"ops-token": 3, "dev-token": 2} {
		r := w.client(t, modern, token).ask(t, rawRequest(1, "resources/list", modern.params(nil)))
		if n := len(r.Result.Resources); n != want {
			t.Errorf("%s sees %d resources, want %d", token, n, want)
		}
	}
}

func TestRead(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		for i, tc := range []struct{ uri, mime, text, blob string }{
			{"ssh://hosts", "application/json", `{"count":1}`, ""},
			{"ssh://host/web1", "application/json", `{"alias":"web1"}`, ""},
			{"ssh://key", "application/octet-stream", "", base64.StdEncoding.EncodeToString([]byte{0, 255})},
		} {
			r := l.ask(t, l.era().rawRead(i+1, tc.uri))
			if r.Error != nil || len(r.Result.Contents) != 1 {
				t.Fatalf("%s: %+v", tc.uri, r)
			}
			c := r.Result.Contents[0]
			if c.URI != tc.uri || c.MIMEType != tc.mime || c.Text != tc.text || c.Blob != tc.blob {
				t.Errorf("%s: %+v", tc.uri, c)
			}
			if d := cmp.Diff([]any{"01JTESTDECISION"}, c.Meta[decisionIDs]); d != "" {
				t.Error(d)
			}
		}
		if got := g.started(t, 3)[2]; got.args != "ssh://key" || got.caller.Subject == "" || got.caller.Client.Name == "" {
			t.Errorf("the gateway was asked %+v", got)
		}
	})
}

// What is not there is an error that its era has a code for, and names the URI.
func TestReadErrors(t *testing.T) {
	over(t, func(t *testing.T, g *site, _ *Server, l link) {
		missing := map[era]int{modern: -32602, legacy: -32002}[l.era()]
		for i, tc := range []struct {
			uri  string
			code int
		}{
			{"ssh://host/moon", missing},
			{"file:///etc/passwd", missing},
			{anyResource, missing},
			{"not a URI \" {x}", missing},
			{"ssh://host/locked", codeDenied},
		} {
			r := l.ask(t, l.era().rawRead(i+1, tc.uri))
			if r.Error == nil || r.Error.Code != tc.code || r.Error.Data["uri"] != tc.uri || !strings.Contains(r.Error.Message, " ") {
				t.Errorf("%s: %+v, want code %d", tc.uri, r.Error, tc.code)
			}
			if got := g.started(t, i+1)[i].args; got != tc.uri {
				t.Errorf("the gateway was asked for %q, not %q", got, tc.uri)
			}
		}
		r := l.ask(t, l.era().rawRead(90, "ssh://host/panic"))
		if r.Error == nil || r.Error.Code != -32603 || strings.Contains(r.Error.Message, "secret") {
			t.Errorf("a panic: %+v", r.Error)
		}
		confused := strings.Replace(string(l.era().rawRead(91, "ssh://hosts")), `"uri":`, `"URI":"ssh://key","uri":`, 1)
		if r := l.ask(t, []byte(confused)); r.Error == nil || r.Error.Code != -32600 {
			t.Errorf("uri and URI: %+v, want a refusal", r)
		}
	})
}

func TestPrompts(t *testing.T) {
	over(t, func(t *testing.T, _ *site, _ *Server, l link) {
		list := l.ask(t, rawRequest(1, "prompts/list", l.era().params(nil))).Result.Prompts
		if len(list) != 1 || list[0].Name != "ssh_usage" || list[0].Title != "Usage" || list[0].Description != "How to use it." {
			t.Errorf("prompts %+v", list)
		}
		r := l.ask(t, rawRequest(2, "prompts/get", l.era().params(map[string]any{"name": "ssh_usage"})))
		if r.Error != nil || len(r.Result.Messages) != 1 {
			t.Fatalf("%+v", r)
		}
		m := r.Result.Messages[0]
		if m.Role != "user" || m.Content.Type != "text" || !strings.HasSuffix(m.Content.Text, ", this is ssh_usage") {
			t.Errorf("%+v", m)
		}
		if r := l.ask(t, rawRequest(3, "prompts/get", l.era().params(map[string]any{"name": "no"}))); r.Error == nil || r.Error.Code != -32602 {
			t.Errorf("no such prompt: %+v", r)
		}
	})
}
