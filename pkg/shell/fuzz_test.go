package shell

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func addSeeds(f *testing.F) {
	for _, c := range corpus(f) {
		if len(c.Command) < 1000 {
			f.Add(c.Command)
		}
	}
}

// FuzzParse: no panic, and every document is sound, its canonical form a fixed
// point among it.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	for _, s := range vocabulary {
		f.Add("a " + s)
	}
	f.Fuzz(func(t *testing.T, text string) { sound(t, Parse(text)) })
}

// FuzzSameAsShells: a static line and its canonical form do the same in bash
// and in dash, and start nothing but what was judged.
func FuzzSameAsShells(f *testing.F) {
	for _, c := range corpus(f) {
		if c.Expect == "allow" {
			f.Add(c.Command)
		}
	}
	for _, d := range randomLines(7, 40) {
		f.Add(d.Text)
	}
	l := newLab(f)
	f.Fuzz(func(t *testing.T, text string) {
		doc := Parse(text)
		if doc.Certainty != Static || !tame(text) || !harmless(doc) {
			t.Skip("not static, or not to be run here")
		}
		l.provide(t, names.FindAllString(text, -1)...)
		for _, shell := range []string{l.bash, l.dash} {
			check(t, shell, doc, l.run(t, shell, text), l.run(t, shell, doc.Canonical))
		}
	})
}

// names are what could be a program in a text, when it is misread as well: no
// longer than a file's name can be.
var names = regexp.MustCompile(`[A-Za-z0-9_@][A-Za-z0-9_@.-]{0,254}`)

// paths are those that a line to be run may name: no program, nothing to write.
var paths = regexp.MustCompile(`(2>|>) ?/dev/null\b|(/etc/(os-release|hostname|hosts)|/proc/[a-z]+|/var/log|/srv|/opt)(/[A-Za-z0-9._-]+)*`)

// tame reports whether a text can do no harm, however a shell reads it: it
// names no file but a few, and none of the builtins that reach out.
func tame(text string) bool {
	if slices.ContainsFunc(names.FindAllString(text, -1), func(w string) bool {
		return slices.Contains([]string{"kill", "cd", "pushd", "exit", "ulimit", "umask", "read", "wait", "enable", "suspend", "logout", "fc", "history", "hash"}, w)
	}) {
		return false
	}
	return !strings.Contains(paths.ReplaceAllString(text, ""), "/") && !redirections.MatchString(strings.ReplaceAll(text, "/dev/null", ""))
}

// redirections to a path.
var redirections = regexp.MustCompile(`[<>][^;|\n]*/`)
