package config

import (
	"bytes"
	"strings"
	"testing"
)

// TestErrorLine: the line of a syntax error is the one to look at, not the one
// where the library gave up or where it had begun.
func TestErrorLine(t *testing.T) {
	for _, tc := range []struct {
		text string
		line int
	}{
		{"a: 1\nb: 2\n  c: 3\n", 3},
		{"hosts:\n  - alias: a\n    host: b\n   port: 1\n", 4},
		{"hosts:\n\t- a\n", 2},
		{"a: 1\nb: [1, 2\nc: 3\n", 2},
		{"a: 1\nb: \"open\nc: 3\n", 2},
		{"a: 1\nb: {x: 1\n", 2},
		{"a: 1\nb: @x\n", 2},
		{"a: 1\n- b\n", 2},
		{"a: 1\n\nb: *x\n", 3},
		{"a: 1\nb: 'x' y\nc: 1\n", 2},
		{"a: x: y\n", 1},
		{"q: 1\na: \"\\q\"\n", 2},
		{"q: 1\na: \x01\nb: 1\n", 2},
		{"q: 1\nwords\nb: 3\n", 2},
		{"q: 1\n\n\nb:\n  - x\n  y: 3\n", 6},
		{"q: 1\n%FOO\n", 2},
		{"]", 1},
		{"q: 1\na: 3]\nb: ]\n", 3},
		{"a: 1\n---\nb: 2\n", 2},
		{"a: 1\n...\n\n---\nb: [\n", 5},
		{"a: 1 # \u2028b: 2\n", 1},
		{"a: 1\n# \u0085\n", 2},
		{"a: 1\n# \rb: 1\n", 2},
		{"a: 1\n\r", 2},
		{"a: 1\nb: \u202egnp.exe\n", 2},
		{"a: \xff\n", 1},
		{"a: 1\r\nb: \xc3\r\n", 2},
	} {
		r := &report{}
		if _, ok := parse(place{report: r}, []byte(tc.text)); ok || len(r.list) != 1 || r.list[0].Line != tc.line {
			t.Errorf("%q: %v, want one problem on line %d", tc.text, r.list, tc.line)
		}
	}
}

// TestErrorLineOfLargeFile: a file that is too large to search gives at least
// the library's line, at once.
func TestErrorLineOfLargeFile(t *testing.T) {
	text := "a: 1\nb: \"open\n" + strings.Repeat("# nothing\n", maxSearched/10)
	r := &report{}
	if _, ok := parse(place{report: r}, []byte(text)); ok || len(r.list) != 1 || r.list[0].Line != 2 {
		t.Errorf("%v, want one problem on line 2", r.list)
	}
}

// FuzzFiles gives any bytes to the readers of all four files: they must come
// back, and whatever they find must say where and what.
func FuzzFiles(f *testing.F) {
	for _, seed := range []string{
		"", "---\n", "hosts: []\n", "a: &a [*a]\n", "? [a]\n: b\n", "<<: {a: b}\n", "!!map {a: b}\n", "{a: b, a: c}\n", "\xff", "- - - -\n",
		"hosts:\n  - {alias: a, host: a, credentials: b, via: a, tags: [x, x], port: 1e9}\n",
		"entries:\n  - {name: a, username: b, key_path: ../x, agent: true, password: ~}\n",
		"rules:\n  - {action: allow, aliases: ['[', '*'], profile: readonly}\nnetwork: {allow_cidrs: ['::ffff:0:0/90', 0.0.0.0/0]}\n",
		"http: {listen: ':99999'}\ntokens: [{id: a, sha256: b}]\nssh: {keepalive: 1h1h}\nlogs: {audit: {stderr: no}}\n",
		"limits: {max_seconds: 1, deny_substrings: ['']}\noverrides: {tags: {a: {max_seconds: 2}}}\nreload: {groups: ['*']}\n",
		"a: \"\\u0000\\ud800\"\n", strings.Repeat("[", 200), strings.Repeat("{a: ", 200), "a: 2001-01-01\nb: 0x1\nc: .inf\n1: 2\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func(*loader, value){
			func(l *loader, v value) { v.object(l.section("", func(v value, s setting) { s.fromNode(v) })) },
			func(_ *loader, v value) { tokens(v) },
			func(l *loader, v value) {
				inv := newInventory()
				v.object(fields{"hosts": func(v value) { v.items(inv.add) }})
				inv.connectAll(logins{})
				newSite(inv.hosts(), &sitePolicy{})
			},
			func(l *loader, v value) {
				v.object(fields{"entries": func(v value) { v.items(func(e value) { l.credential(e, vault{namesOnly: true}) }) }})
			},
			func(l *loader, v value) {
				newSite([]Host{{Alias: "a", Tags: []string{"b"}}}, l.readPolicy(v, newInventory()))
			},
		} {
			r := &report{}
			l := &loader{report: r}
			if root, ok := parse(place{report: r, file: "f"}, data); ok {
				read(l, root)
			}
			lines := 1 + bytes.Count(data, []byte("\n"))
			for _, p := range r.list {
				if p.Message == "" || p.Remedy == "" || p.Line < 0 || p.Line > lines {
					t.Errorf("%+v of %d lines", p, lines)
				}
			}
		}
	})
}
