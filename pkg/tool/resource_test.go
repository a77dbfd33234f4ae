package tool

import "testing"

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		uri, asked, value, args string
		ok                      bool
	}{
		{"ssh://hosts", "ssh://hosts", "", `{}`, true},
		{"ssh://hosts", "ssh://hosts/", "", ``, false},
		{"ssh://host/{alias}", "ssh://host/web1", "web1", `{"alias":"web1"}`, true},
		{"ssh://host/{alias}", "ssh://host/", "", ``, false},
		{"ssh://host/{alias}", "ssh://host/web1/tags", "", ``, false},
		{"ssh://host/{alias}", "ssh://hosts", "", ``, false},
		{"ssh://host/{alias}/tags", "ssh://host/web1/tags", "web1", `{"alias":"web1"}`, true},
		{"ssh://host/{alias}/tags", "ssh://host//tags", "", ``, false},
		{"ssh://host/{alias}/tags", "ssh://host/tags", "", ``, false},
		{"ssh://host/{alias}/tags", "ssh://host/a/b/tags", "", ``, false},
		{"ssh://host/{alias}", `ssh://host/"<`, `"<`, `{"alias":"\"\u003c"}`, true},
	} {
		r := Resource{URI: tc.uri}
		value, args, ok := r.Match(tc.asked)
		if ok != tc.ok || ok && (value != tc.value || string(args) != tc.args) {
			t.Errorf("%s for %s: %q, %s, %v", tc.asked, tc.uri, value, args, ok)
		}
	}
}
