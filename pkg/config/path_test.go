package config

import (
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPathPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		yes, no []string
	}{
		{pattern: "/", yes: []string{"/"}, no: []string{"/a"}},
		{pattern: "/**", yes: []string{"/", "/a", "/a/b"}},
		{pattern: "/a/b", yes: []string{"/a/b"}, no: []string{"/a", "/a/b/c", "/a/bb", "/x/a/b"}},
		{pattern: "/a/*", yes: []string{"/a/b", "/a/.b"}, no: []string{"/a", "/a/b/c", "/ab"}},
		{pattern: "/a/**", yes: []string{"/a", "/a/b", "/a/b/c", "/a/\n"}, no: []string{"/", "/ab", "/b"}},
		{pattern: "/*", yes: []string{"/a"}, no: []string{"/", "/a/b"}},
		{pattern: "/a/*.log", yes: []string{"/a/x.log", "/a/.log", "/a/\n.log"}, no: []string{"/a/xlog", "/a/b/x.log", "/a/x.logs"}},
		{pattern: "/a/?.x", yes: []string{"/a/b.x", "/a/é.x"}, no: []string{"/a/.x", "/a/bb.x", "/a///.x"}},
		{pattern: "/a/*/c", yes: []string{"/a/b/c"}, no: []string{"/a/c", "/a/b/b/c", "/a/b/c/d"}},
		{pattern: "/a/*/c/**", yes: []string{"/a/b/c", "/a/b/c/d/e"}, no: []string{"/a/b", "/a/b/cc"}},
		{pattern: "/a+b/(c)", yes: []string{"/a+b/(c)"}, no: []string{"/aab/c"}},
	} {
		p, f := newFilePattern(tc.pattern)
		if f != nil {
			t.Errorf("newFilePattern(%q): %v", tc.pattern, f)
			continue
		}
		for _, want := range []struct {
			paths []string
			found bool
		}{{tc.yes, true}, {tc.no, false}} {
			for _, name := range want.paths {
				if found := p.finds(name); found != want.found {
					t.Errorf("%q finds %q: %t", tc.pattern, name, found)
				}
			}
		}
	}
}

// finds looks a path up in the index of a pattern, as a policy does.
func (p filePattern) finds(name string) bool {
	ix := newPathIndex()
	ix.add("0", []filePattern{p}, false)
	if len(ix.Exact[name]) > 0 {
		return true
	}
	for _, dir := range upwards(name) {
		if len(ix.Under[dir]) > 0 {
			return true
		}
		for _, g := range ix.Globs[dir] {
			if regexp.MustCompile(g.Expression).MatchString(name) {
				return true
			}
		}
	}
	return false
}

// reaches says that there may be something at or below a directory that the
// pattern matches, as a policy does.
func (p filePattern) reaches(name string) bool {
	ix := newPathIndex()
	ix.add("0", []filePattern{p}, true)
	if p.finds(name) || len(ix.Above[name]) > 0 {
		return true
	}
	for _, dir := range upwards(name) {
		for _, g := range ix.Globs[dir] {
			if regexp.MustCompile(g.Reach).MatchString(name) {
				return true
			}
		}
	}
	return false
}

// upwards is a path and every directory above it.
func upwards(name string) []string {
	list := []string{name}
	for name != "/" {
		name = path.Dir(name)
		list = append(list, name)
	}
	return list
}

// TestPathIndex holds the index against the meaning of a pattern, component by
// component, for all paths of a small tree.
func TestPathIndex(t *testing.T) {
	var tree []string
	names := []string{"a", "b", "ab", "a.x"}
	var grow func(at string, depth int)
	grow = func(at string, depth int) {
		tree = append(tree, at)
		for _, name := range names {
			if depth > 0 {
				grow(path.Join(at, name), depth-1)
			}
		}
	}
	grow("/", 4)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		text := ""
		for range random.IntN(4) {
			text += "/" + []string{"a", "b", "*", "a?", "*.x", "a*", "?"}[random.IntN(7)]
		}
		if text == "" || random.IntN(3) == 0 {
			text += "/**"
		}
		p, f := newFilePattern(text)
		if f != nil {
			t.Fatal(f)
		}
		var matched []string
		for _, name := range tree {
			want := matchesPath(text, name)
			if got := p.finds(name); got != want {
				t.Fatalf("%q finds %q: %t", text, name, got)
			}
			if want {
				matched = append(matched, name)
			}
		}
		for _, name := range tree[:len(names)*len(names)] {
			want := slices.ContainsFunc(matched, func(m string) bool { return slices.Contains(upwards(m), name) })
			if got := p.reaches(name); got != want && strings.Count(name, "/") < 4 {
				t.Fatalf("%q reaches %q: %t", text, name, got)
			}
		}
	}
}

// matchesPath is what a pattern means, in the most obvious way.
func matchesPath(pattern, name string) bool {
	want, have := strings.Split(pattern[1:], "/"), strings.Split(name[1:], "/")
	if name == "/" {
		have = nil
	}
	for i, w := range want {
		if w == "**" {
			return true
		}
		if i >= len(have) {
			return false
		}
		if ok, _ := path.Match(w, have[i]); !ok {
			return false
		}
	}
	return len(want) == len(have)
}

func TestPathPatternCovers(t *testing.T) {
	for _, tc := range []struct {
		wide, narrow string
		want         bool
	}{
		{"/**", "/a", true},
		{"/a/**", "/a/**", true},
		{"/a/**", "/a/*/b", true},
		{"/a/**", "/a", true},
		{"/a/*", "/a/b", true},
		{"/a/*", "/a/*.log", true},
		{"/a/*.log", "/a/x.log", true},
		{"/a/*/**", "/a/b/c/**", true},
		{"/a/b", "/a/b", true},
		{"/a/*", "/a/**", false},
		{"/a/*", "/a", false},
		{"/a/*", "/a/b/c", false},
		{"/a/*.log", "/a/*", false},
		{"/a/?", "/a/*", false},
		{"/a/b/**", "/a/**", false},
		{"/a/**", "/ab", false},
	} {
		wide, _ := newFilePattern(tc.wide)
		narrow, _ := newFilePattern(tc.narrow)
		if got := wide.covers(narrow); got != tc.want {
			t.Errorf("%s covers %s: %t", tc.wide, tc.narrow, got)
		}
	}
}

func TestHostPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		yes, no []string
	}{
		{"*", []string{"web", "10.1.2.3", "fd00::1", "a.b"}, nil},
		{"*.lab.example", []string{"a.lab.example", "a.b.lab.example"}, []string{"lab.example", "xlab.example", "a.lab.example.org", "a.lab-example"}},
		{"Web?.Example.", []string{"web1.example"}, []string{"web.example", "web12.example", "web..example"}},
		{"10.1.*", []string{"10.1.2.3"}, []string{"10.1.example.org", "10.12.3.4", "110.1.2.3", "10.1.x"}},
		{"10.1.2.3", []string{"10.1.2.3"}, []string{"10.1.2.33", "10x1.2.3"}},
		{"fd00:*", []string{"fd00::1", "fd00:1:2"}, []string{"fd00.example", "fd01::1"}},
		{"*.5.*", []string{"10.5.0.1"}, []string{"x.5.example"}},
	} {
		p, f := newHostPattern(tc.pattern)
		if f != nil {
			t.Errorf("newHostPattern(%q): %v", tc.pattern, f)
			continue
		}
		e := regexp.MustCompile(p.expression)
		for _, name := range tc.yes {
			if !e.MatchString(name) {
				t.Errorf("%q does not match %q", tc.pattern, name)
			}
		}
		for _, name := range tc.no {
			if e.MatchString(name) {
				t.Errorf("%q matches %q", tc.pattern, name)
			}
		}
	}
}
