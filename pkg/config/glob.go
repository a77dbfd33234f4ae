package config

import (
	"path"
	"regexp"
	"strings"
)

// glob is a pattern over an alias or a tag: * is any text, ? any character,
// [abc] and [a-z] one of those, [!abc] none of those.
type glob struct {
	text    string // as written
	pattern string // for path.Match
	// What comes before the first and after the last special character rules
	// out most names before the pattern is looked at.
	prefix, suffix string
	exact, star    bool // nothing is special; only one * is
}

var globText = regexp.MustCompile(`^[A-Za-z0-9._*?!^\[\]-]+$`)

const globSpecial = "*?["

func newGlob(text string) (glob, *fault) {
	fault := faultf("use letters, digits, '.', '_', '-' and the signs *, ?, [abc], [!abc]", "%q is not a pattern", text)
	if !globText.MatchString(text) {
		return glob{}, fault
	}
	g := glob{text: text, pattern: strings.ReplaceAll(text, "[!", "[^")}
	if _, err := path.Match(g.pattern, ""); err != nil {
		return glob{}, fault
	}
	first := strings.IndexAny(text, globSpecial)
	if first < 0 {
		g.prefix, g.exact = text, true
		return g, nil
	}
	last := strings.LastIndexAny(text, globSpecial+"]")
	g.prefix, g.suffix = text[:first], text[last+1:]
	g.star = first == last && text[first] == '*'
	return g, nil
}

func (g glob) match(name string) bool {
	switch {
	case g.exact:
		return name == g.prefix
	case !strings.HasPrefix(name, g.prefix) || !strings.HasSuffix(name, g.suffix):
		return false
	case g.star:
		return len(name) >= len(g.prefix)+len(g.suffix)
	}
	ok, _ := path.Match(g.pattern, name)
	return ok
}

// globs stores a list of patterns.
func globs(p *[]glob) field {
	return func(v value) {
		var list []string
		texts(&list, func(s string) *fault { _, f := newGlob(s); return f })(v)
		for _, s := range list {
			g, _ := newGlob(s)
			*p = append(*p, g)
		}
	}
}
