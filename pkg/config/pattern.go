package config

import (
	"regexp"
	"strings"
	"unicode"
)

// Pattern is a glob over the words of a command: as it was written, the regular
// expression that means the same, and the literal text that it begins with.
type Pattern struct {
	Text       string `json:"text"`
	Expression string `json:"expression"`
	Literal    string `json:"literal"`
}

// InnerBlank stands in a command's text for a blank inside a word, so that only
// the blanks between words look like blanks. No command line can hold it.
const innerBlank = '\u0001'

// dialect is what the signs of a glob stand for.
type dialect struct {
	any   string // one character, for ? and, repeated, for *
	never string // what [!abc] does not match either, as the inside of a class
	blank string // a blank between words
	inner string // a blank inside quotes
	words bool   // the glob is over several words, some of which may be quoted
}

var (
	// What an allow rule leaves open never fills in for a blank inside a word
	// or for a character that is one of the shell's when it is not quoted: those
	// have to be in the pattern.
	allowedLine = dialect{any: `[^;&|<>()$\x60\\"'\x01\t\n]`, never: `;&|<>()$\x60\\"'\x01\t\n`, blank: ` `, inner: `\x01`, words: true}
	// What a deny rule leaves open is anything, however it is spaced.
	deniedLine = dialect{any: `(?s:.)`, blank: `\s+`, inner: `\s+`, words: true}
	// A path that is allowed is a file beside the others, not below them; what
	// is denied reaches down.
	allowedPath = dialect{any: `[^/]`, never: `/`, blank: ` `, inner: ` `}
	deniedPath  = dialect{any: `(?s:.)`, blank: ` `, inner: ` `}
)

// linePattern reads a glob over the text of one command.
func linePattern(text string, deny bool) (Pattern, *fault) {
	if deny {
		return deniedLine.pattern(text)
	}
	return allowedLine.pattern(text)
}

// pathPattern reads a glob over one word that is a path.
func pathPattern(text string, deny bool) (Pattern, *fault) {
	switch {
	case strings.HasPrefix(text, "~"):
		return Pattern{}, faultf("write the directory out", "%q begins with ~, which is no literal path, so it can never match", text)
	case unclean.MatchString(strings.Trim(text, "/")):
		return Pattern{}, faultf("write the path without them", "%q has empty components, . or .. in it, so it can never match", text)
	case deny:
		return deniedPath.pattern(text)
	}
	return allowedPath.pattern(text)
}

// unclean is what a path has to be free of, its first and last slash aside.
var unclean = regexp.MustCompile(`(^|/)(\.\.?)?(/|$)`)

func (d dialect) pattern(text string) (Pattern, *fault) {
	g := globber{dialect: d, text: text, rest: []rune(text)}
	g.expression.WriteString("^")
	for len(g.rest) > 0 && g.bad == nil {
		g.next()
	}
	if g.bad == nil && g.quote != 0 {
		g.bad = faultf("close the quote, or write \"'\"", "%q has a quote that is not closed", text)
	}
	g.expression.WriteString("$")
	return Pattern{Text: text, Expression: g.expression.String(), Literal: g.literal.String()}, g.bad
}

// globber turns a glob into a regular expression, sign by sign.
type globber struct {
	dialect
	text       string
	rest       []rune
	quote      rune // that is open
	special    bool // something was not literal
	began      bool // a word has
	expression strings.Builder
	literal    strings.Builder
	bad        *fault
}

// What a shell would take for more than a part of a word.
const shellSigns = ";&|<>()$`\\\n"

func (g *globber) next() {
	r := g.rest[0]
	g.rest = g.rest[1:]
	switch {
	case r == '*':
		g.sign(g.any + "*")
	case r == '?':
		g.sign(g.any)
	case r == '[':
		g.class()
	case g.words && g.quote == 0 && (r == '\'' || r == '"'):
		g.quote, g.began = r, true
		return
	case g.words && r == g.quote:
		g.quote = 0
		return
	case g.words && g.quote == 0 && strings.ContainsRune(shellSigns, r):
		g.bad = faultf("write one for each command; a line of several is allowed when each of them is, and redirections and substitutions are refused anyway",
			"%q has %q outside of quotes, but a rule judges one command, so it can never match", g.text, r)
	case g.words && !g.began && g.quote == 0 && r == '~':
		g.bad = faultf("write the directory out", "%q has a word that begins with ~, which is not literal, so it can never match", g.text)
	case r == ' ':
		g.space()
		return
	default:
		g.plain(r, regexp.QuoteMeta(string(r)))
	}
	g.began = true
}

func (g *globber) space() {
	if g.quote != 0 {
		g.plain(innerBlank, g.inner)
		return
	}
	g.plain(' ', g.blank)
	g.began = false
}

func (g *globber) plain(r rune, expression string) {
	g.expression.WriteString(expression)
	if !g.special {
		g.literal.WriteRune(r)
	}
}

func (g *globber) sign(expression string) {
	g.special = true
	g.expression.WriteString(expression)
}

// class reads the inside of [abc], [a-z] or [!abc]. A range is one of letters or
// of digits, so that a reader knows what is in it.
func (g *globber) class() {
	inside, rest, closed := cutClass(g.rest)
	if !closed || len(inside) == 0 {
		g.bad = faultf("close it with ], or write [[] for the sign itself", "%q has a [ that is not closed, or nothing in it", g.text)
		return
	}
	g.rest = rest
	negated := inside[0] == '!' || inside[0] == '^'
	if negated {
		inside = inside[1:]
	}
	var set strings.Builder
	for i, r := range inside {
		if r != '-' || i == 0 || i == len(inside)-1 {
			set.WriteString(classMember(r))
			continue
		}
		if !sameKind(inside[i-1], inside[i+1]) {
			g.bad = faultf("write a range such as a-z, A-Z or 0-9", "%q has the range %s", g.text, string(inside[i-1:i+2]))
			return
		}
		set.WriteByte('-')
	}
	if negated {
		g.sign("[^" + set.String() + g.never + "]")
	} else {
		g.sign("[" + set.String() + "]")
	}
}

// cutClass cuts behind the bracket that closes a class; one that comes first is
// a member.
func cutClass(text []rune) (inside, rest []rune, closed bool) {
	first := 0
	if len(text) > 0 && (text[0] == '!' || text[0] == '^') {
		first = 1
	}
	for i := first + 1; i < len(text); i++ {
		if text[i] == ']' {
			return text[:i], text[i+1:], true
		}
	}
	return nil, nil, false
}

func classMember(r rune) string {
	if strings.ContainsRune(`\]^-[&~`, r) {
		return `\` + string(r)
	}
	return string(r)
}

func sameKind(from, to rune) bool {
	for _, is := range []func(rune) bool{unicode.IsDigit, unicode.IsUpper, unicode.IsLower} {
		if from < unicode.MaxASCII && to < unicode.MaxASCII && is(from) && is(to) {
			return from <= to
		}
	}
	return false
}
