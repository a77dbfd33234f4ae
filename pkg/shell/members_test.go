package shell

import (
	"slices"
	"testing"
)

func TestMembers(t *testing.T) {
	for line, want := range map[string][]string{
		"uptime":                         {"uptime"},
		"uptime; id":                     {"uptime", "id"},
		" uptime && df -h /  | tail -1 ": {"uptime", "df -h /", "tail -1"},
		"a || { b; c; } 2>/dev/null\nd":  {"a", "{ b; c; } 2>/dev/null", "d"},
		"echo 'a; b' & ! true":           {"echo 'a; b'", "! true"},
		"(a; b) | c":                     {"(a; b)", "c"},
		"a |& b":                         {"a", "b"},
		"a $(b; c)":                      {"a $(b; c)"},
		"":                               nil,
		"a ;; b":                         nil,
		"a 'b":                           nil,
	} {
		if got := Members(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
