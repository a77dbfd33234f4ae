package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// filePattern is a pattern over absolute paths, one component after the other:
// * is any text within a component, ? any character. With ** as its last
// component it is the directory before that and everything below.
type filePattern struct {
	text       string // as written
	components []string
	literal    int  // how many of them have no sign, from the first on
	below      bool // it ends with **
}

const (
	everything   = "**"
	pathSpecial  = "*?"
	maxComponent = 255  // bytes, on every file system that there is
	maxPath      = 4095 // bytes
)

// pathSlips are signs that mean something elsewhere and nothing here.
var pathSlips = []struct{ signs, remedy string }{
	{"[]", "write ? for one character, or a pattern for each"},
	{"{}", "write a pattern for each"},
	{`\`, "write ? in its place"},
	{"$", "no variables are known here; write the path out, or ? in place of a $"},
}

func newFilePattern(text string) (filePattern, *fault) {
	if f := plainPath(text); f != nil {
		return filePattern{}, f
	}
	p := filePattern{text: text}
	if text != "/" {
		p.components = strings.Split(text[1:], "/")
	}
	if last := len(p.components) - 1; last >= 0 && p.components[last] == everything {
		p.components, p.below = p.components[:last], true
	}
	for _, c := range p.components {
		if f := component(c); f != nil {
			return filePattern{}, f
		}
	}
	p.literal = slices.IndexFunc(p.components, func(c string) bool { return strings.ContainsAny(c, pathSpecial) })
	if p.literal < 0 {
		p.literal = len(p.components)
	}
	return p, nil
}

// plainPath looks at a pattern as a whole.
func plainPath(s string) *fault {
	switch {
	case strings.HasPrefix(s, "~"):
		return faultf("write the directory out", "%q begins with ~, which is another directory for each user", s)
	case !strings.HasPrefix(s, "/"):
		return faultf("begin it with /", "%q is not an absolute path", s)
	case s != "/" && strings.HasSuffix(s, "/"):
		return faultf("remove it; "+s+everything+" is the directory and everything below", "%q has a slash at its end", s)
	case len(strings.ReplaceAll(s, "*", "")) > maxPath:
		return faultf("shorten it", "longer than any path, so it can never match")
	}
	for _, slip := range pathSlips {
		if i := strings.IndexAny(s, slip.signs); i >= 0 {
			return faultf(slip.remedy, "%q has the sign %c, which means nothing here", s, s[i])
		}
	}
	return nil
}

func component(c string) *fault {
	switch {
	case c == "":
		return faultf("write one slash", "an empty component, as between two slashes, is in no path")
	case c == "." || c == "..":
		return faultf("write the path without it", "%q leads elsewhere; it can never match", c)
	case strings.Contains(c, everything):
		return faultf("put ** alone behind the last slash, or write *", "%q has ** elsewhere than as the last component", c)
	case len(strings.ReplaceAll(c, "*", "")) > maxComponent:
		return faultf("shorten it", "a component of more than %d bytes can never match", maxComponent)
	}
	return nil
}

// directory is the part before the first sign.
func (p filePattern) directory() string {
	return "/" + strings.Join(p.components[:p.literal], "/")
}

// plain says that it is a path, or a directory and everything below.
func (p filePattern) plain() bool { return p.literal == len(p.components) }

// expression matches the paths that the pattern matches; these are clean.
func (p filePattern) expression() string {
	var b strings.Builder
	b.WriteString("^(?s:")
	for _, c := range p.components {
		b.WriteString("/" + componentExpression(c))
	}
	if p.below {
		b.WriteString("(/.*)?")
	}
	b.WriteString(")$")
	return b.String()
}

// reach matches the paths at which, or below which, there may be something that
// the pattern matches, from its directory on.
func (p filePattern) reach() string {
	rest := ""
	if p.below {
		rest = "(/.*)?"
	}
	for _, c := range slices.Backward(p.components[p.literal:]) {
		rest = "(/" + componentExpression(c) + rest + ")?"
	}
	if p.literal == 0 {
		rest = "(/|" + rest + ")"
	}
	return "^(?s:" + regexp.QuoteMeta(strings.TrimSuffix(p.directory(), "/")) + rest + ")$"
}

func componentExpression(c string) string {
	if c == "*" {
		return "[^/]+"
	}
	return strings.NewReplacer(`\*`, "[^/]*", `\?`, "[^/]").Replace(regexp.QuoteMeta(c))
}

// covers says that it matches whatever another pattern does. It may miss that.
func (p filePattern) covers(other filePattern) bool {
	if len(p.components) > len(other.components) || !p.below && (other.below || len(p.components) < len(other.components)) {
		return false
	}
	for i, c := range p.components {
		o := other.components[i]
		ok, _ := path.Match(c, o)
		if c != o && c != "*" && (!ok || strings.ContainsAny(o, pathSpecial)) {
			return false
		}
	}
	return true
}

// filePatterns stores a list of patterns.
func filePatterns(p *[]filePattern) field {
	return func(v value) {
		var list []string
		texts(&list, func(s string) *fault { _, f := newFilePattern(s); return f })(v)
		for _, s := range list {
			pattern, _ := newFilePattern(s)
			*p = append(*p, pattern)
		}
	}
}

// PathIndex finds the rules that a path falls under: by the path, by a directory
// that it is at or below, and among the patterns that begin in such a directory.
type PathIndex struct {
	Rules []string              `json:"rules"` // all of them, by the ids that Site.Files has
	Exact map[string][]string   `json:"exact"` // by path
	Under map[string][]string   `json:"under"` // by directory: it and everything below
	Globs map[string][]PathGlob `json:"globs"` // by the directory before the first sign
	// Above is of rules that deny: by each directory that there is something of
	// the rule below.
	Above map[string][]string `json:"above"`
}

// PathGlob is a pattern with signs, as regular expressions.
type PathGlob struct {
	Rule       string `json:"rule"`
	Text       string `json:"text"`
	Expression string `json:"expression"` // of the paths that it matches
	Reach      string `json:"reach"`      // of those and the directories on the way to them
	Below      bool   `json:"below"`      // whatever is below what it matches, it matches too
}

func newPathIndex() PathIndex {
	return PathIndex{
		Rules: []string{},
		Exact: map[string][]string{},
		Under: map[string][]string{},
		Globs: map[string][]PathGlob{},
		Above: map[string][]string{},
	}
}

// add files the patterns of a rule.
func (ix *PathIndex) add(id string, patterns []filePattern, denies bool) {
	ix.Rules = append(ix.Rules, id)
	for _, p := range patterns {
		dir := p.directory()
		switch {
		case !p.plain():
			ix.Globs[dir] = append(ix.Globs[dir], PathGlob{id, p.text, p.expression(), p.reach(), p.below})
		case p.below:
			ix.Under[dir] = append(ix.Under[dir], id)
		default:
			ix.Exact[dir] = append(ix.Exact[dir], id)
		}
		if denies {
			ix.addAbove(id, dir)
		}
	}
}

func (ix *PathIndex) addAbove(id, dir string) {
	for dir != "/" {
		dir = path.Dir(dir)
		if !slices.Contains(ix.Above[dir], id) {
			ix.Above[dir] = append(ix.Above[dir], id)
		}
	}
}

func (p filePattern) String() string { return fmt.Sprintf("%q", p.text) }
