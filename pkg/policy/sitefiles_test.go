package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestBadSitesOfFiles(t *testing.T) {
	class := func(paths string) string {
		return `{"version": 1, "files": {"0": {}}, "classes": {"c": {"files": {"allow": ` + paths + `}}}}`
	}
	adhoc := func(rule, connect string) string {
		return `{"version": 1, "classes": {"c": {}}, "adhoc": [` + rule + `], "connect": ` + connect + `}`
	}
	for name, tc := range map[string]struct{ site, want string }{
		"a verb":                 {class(`{"any": {"list": {}}}`), `"list" is neither read nor write`},
		"a rule":                 {class(`{"any": {"read": {"rules": ["1"]}}}`), `"1", which is not there`},
		"a rule of a path":       {class(`{"groups": {"g": {"read": {"exact": {"/a": ["1"]}}}}}`), `"1", which is not there`},
		"a rule of a tree":       {class(`{"subjects": {"s": {"read": {"under": {"/a": ["1"]}}}}}`), `"1", which is not there`},
		"a rule of a glob":       {class(`{"any": {"read": {"globs": {"/a": [{"rule": "1"}]}}}}`), `"1", which is not there`},
		"a rule above":           {class(`{"any": {"write": {"above": {"/a": ["1"]}}}}`), `"1", which is not there`},
		"an expression":          {class(`{"any": {"read": {"globs": {"/a": [{"rule": "0", "expression": "("}]}}}}`), "missing closing )"},
		"a reach":                {class(`{"any": {"read": {"globs": {"/a": [{"rule": "0", "reach": "("}]}}}}`), "missing closing )"},
		"a host":                 {adhoc(`{"class": "c", "hosts": [{"expression": "("}]}`, `{}`), "missing closing )"},
		"a network":              {adhoc(`{"class": "c", "networks": {"4": {"8": {"1": "10.0.0.0/8"}}}}`, `{}`), "is filed as"},
		"a position":             {adhoc(`{"class": "c"}`, `{"allow": {"any": [1]}}`), "rule 1, which is not there"},
		"a position that denies": {adhoc(`{}`, `{"deny": {"groups": {"g": [-1]}}}`), "rule -1, which is not there"},
		"a class":                {adhoc(`{"class": "d"}`, `{"allow": {"subjects": {"s": [0]}}}`), `"d", which is not there`},
	} {
		if _, err := readSite(json.RawMessage(tc.site)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	for name, site := range map[string]string{
		"files": class(`{"any": {"read": {"rules": ["0"], "exact": {"/a": ["0"]}, "globs": {"/b": [{"rule": "0"}]}}}}`),
		"adhoc": adhoc(`{"class": "c"}, {}`, `{"allow": {"any": [0]}, "deny": {"any": [1]}}`),
	} {
		if _, err := readSite(json.RawMessage(site)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
