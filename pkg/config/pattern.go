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

// innerBlank stands in a command's text for a blank inside a word, so that only
// the blanks between words look like blanks. No command line can hold it.
const innerBlank = '\u0001'

// dialect is what the signs of a glob stand for.
type dialect struct {
	deny  bool   // what it leaves open is anything
	words bool   // the glob is over several words, some of which may be quoted
	blank string // a blank between words
	inner string // a blank inside quotes
}

var (
	allowedLine = dialect{words: true, blank: ` `, inner: `\x01`}
	// However a command is spaced that is denied, it is denied.
	deniedLine  = dialect{words: true, deny: true, blank: `\s+`, inner: `\s+`}
	allowedPath = dialect{blank: ` `, inner: ` `}
	deniedPath  = dialect{deny: true, blank: ` `, inner: ` `}
)

// A sign of a glob in a rule that allows does not reach across a slash: a path
// stands for a file beside the others, not for one below them. In a glob over a
// command, * is any number of words, but in a glob that has a slash none of
// those words may.
const (
	anything   = `(?s:.)`
	inPath     = `[^/]`
	inPathWord = `[^/ ]`
)

// linePattern reads a glob over the text of one command, and the words at its
// beginning that it spells out.
func linePattern(text string, deny bool) (Pattern, []string, *fault) {
	d := allowedLine
	if deny {
		d = deniedLine
	}
	g := d.read(strings.TrimSpace(text))
	return Pattern{Text: text, Expression: g.expression.String(), Literal: g.literal.String()}, g.whole, g.bad
}

// pathPattern reads a glob over one word that is a path.
func pathPattern(text string, deny bool) (Pattern, *fault) {
	d := allowedPath
	switch {
	case strings.HasPrefix(text, "~"):
		return Pattern{}, faultf("write the directory out", "%q begins with ~, which is no literal path, so it can never match", text)
	case unclean.MatchString(text):
		return Pattern{}, faultf("write the path without them", "%q has empty components, . or .. in it, so it can never match", text)
	case deny:
		d = deniedPath
	}
	g := d.read(text)
	return Pattern{Text: text, Expression: g.expression.String(), Literal: g.literal.String()}, g.bad
}

// unclean is what a path has to be free of.
var unclean = regexp.MustCompile(`(^|/)\.\.?(/|$)|//`)

// globber turns a glob into a regular expression, sign by sign.
type globber struct {
	dialect
	text  string
	rest  []rune
	paths bool // there is a slash in it

	quote   rune   // that is open
	word    string // what is literal of the word so far
	began   bool   // the word has
	mixed   bool   // something in the word is not literal
	slash   bool   // the word has one
	runs    bool   // the word before is one that runs its words, or an option of one
	special bool   // something was not literal
	number  int    // of words before this one

	whole      []string // words at the beginning that are all literal
	expression strings.Builder
	literal    strings.Builder
	bad        *fault
}

func (d dialect) read(text string) *globber {
	g := &globber{dialect: d, text: text, rest: []rune(text), paths: strings.ContainsRune(text, '/')}
	g.expression.WriteString("^")
	for len(g.rest) > 0 && g.bad == nil {
		g.next()
	}
	if g.bad == nil && g.quote != 0 {
		g.bad = faultf("close the quote, or write \"'\"", "%q has a quote that is not closed", text)
	}
	g.endWord()
	g.expression.WriteString("$")
	return g
}

// What a shell would take for more than a part of a word.
const shellSigns = ";&|<>()$`\\\n"

func (g *globber) next() {
	r := g.rest[0]
	g.rest = g.rest[1:]
	bare := g.words && g.quote == 0
	switch {
	case r == '*':
		g.star()
	case r == '?':
		g.sign(g.character())
	case r == '[':
		g.class()
	case bare && (r == '\'' || r == '"'):
		g.quote, g.began = r, true
	case g.words && r == g.quote:
		g.quote = 0
	case bare && !g.deny && strings.ContainsRune(shellSigns, r):
		g.bad = faultf("write one for each command; a line of several is allowed when each of them is, and redirections and substitutions are refused anyway",
			"%q has %q outside of quotes, but a rule judges one command, so it can never match", g.text, r)
	case bare && !g.deny && !g.began && r == '~':
		g.bad = faultf("write the directory out", "%q has a word that begins with ~, which is not literal, so it can never match", g.text)
	case r == ' ' && bare:
		g.space()
	case r == ' ' && g.words:
		g.plain(innerBlank, g.inner)
	default:
		g.plain(r, regexp.QuoteMeta(string(r)))
	}
}

// star is any text. Behind the name of a program it is not a longer name, but
// whatever words follow: ps* does not stand for psql.
func (g *globber) star() {
	for len(g.rest) > 0 && g.rest[0] == '*' {
		g.rest = g.rest[1:]
	}
	ends := len(g.rest) == 0 || g.rest[0] == ' '
	switch component := g.expression.String()[g.expression.Len()-1] == '/' && (ends || g.rest[0] == '/'); {
	case g.deny:
		g.sign(anything + "*")
	case !g.words && component:
		g.sign(inPath + "+")
	case !g.words:
		g.sign(inPath + "*")
	case g.slash && component:
		g.sign(inPathWord + "+")
	case g.names() && ends:
		g.endWord()
		g.sign("( " + g.anyOf() + "*)?")
	case g.slash || g.names():
		g.sign(inPathWord + "*")
	default:
		g.sign(g.anyOf() + "*")
	}
}

// names says that the word is the name of a program, as far as one can see:
// that of the command, or of one that is run by it.
func (g *globber) names() bool {
	return g.word != "" && !g.mixed && (g.number == 0 || g.runs && !ownWord.MatchString(g.word))
}

// anyOf is a character of any number of words.
func (g *globber) anyOf() string {
	if g.paths {
		return inPath
	}
	return anything
}

// character is one that is left open.
func (g *globber) character() string {
	switch {
	case g.deny:
		return anything
	case g.words:
		return inPathWord
	}
	return inPath
}

// space is between words, of however many blanks.
func (g *globber) space() {
	for len(g.rest) > 0 && g.rest[0] == ' ' {
		g.rest = g.rest[1:]
	}
	g.endWord()
	g.expression.WriteString(g.blank)
	if !g.special {
		g.literal.WriteByte(' ')
	}
	g.number++
	g.word, g.began, g.mixed, g.slash = "", false, false, false
}

// endWord keeps a word that is literal, if all before it are.
func (g *globber) endWord() {
	if !g.began || g.mixed {
		return
	}
	if !g.special {
		g.whole = append(g.whole, g.word)
	}
	g.runs = runsWords(g.word) || g.runs && ownWord.MatchString(g.word)
}

func (g *globber) plain(r rune, expression string) {
	g.expression.WriteString(expression)
	if !g.special {
		g.literal.WriteRune(r)
	}
	g.word += string(r)
	g.began, g.slash = true, g.slash || r == '/'
}

func (g *globber) sign(expression string) {
	g.expression.WriteString(expression)
	g.special, g.mixed, g.began = true, true, true
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
	switch {
	case !negated:
		g.sign("[" + set.String() + "]")
	case g.deny:
		g.sign("[^" + set.String() + "]")
	default:
		g.sign("[^" + set.String() + "/ ]")
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
