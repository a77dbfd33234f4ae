package shell

import (
	"bytes"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// word is a word as it was read.
type word struct {
	text  string     // after quote removal; as written when kinds holds more than glob
	kinds featureSet // what is not literal in it
	globs []int      // offsets in text of * and ? that are not quoted
}

// literal reports whether the far shell passes the word on as it is here.
func (w *word) literal() bool { return w.kinds == 0 }

// pattern reports whether the word is an absolute path with * or ? in it and
// literal otherwise. A relative pattern could turn into an option.
func (w *word) pattern() bool {
	return w.kinds == hasGlob && w.text[0] == '/' && w.globs[0] > 0
}

// wordReader takes words apart. The parser leaves backslashes in its literals,
// and patterns, tildes and braces are plain text to it.
type wordReader struct {
	text   []byte
	quoted []bool // for each byte of text
	kinds  featureSet
	odd    string // set by text that shells do not agree on
}

// read reads one word of the text src. It does not look into expansions.
func (r *wordReader) read(src string, w *syntax.Word) word {
	if len(w.Parts) == 1 {
		switch part := w.Parts[0].(type) {
		case *syntax.Lit:
			if isPlain(part.Value) {
				return word{text: part.Value}
			}
		case *syntax.SglQuoted:
			if !part.Dollar {
				return word{text: part.Value}
			}
		}
	}
	r.text, r.quoted, r.kinds = r.text[:0], r.quoted[:0], 0
	for _, part := range w.Parts {
		r.part(part)
	}
	r.classify()
	if r.kinds&^hasGlob != 0 {
		return word{text: src[w.Pos().Offset():w.End().Offset()], kinds: r.kinds}
	}
	return word{text: string(r.text), kinds: r.kinds, globs: r.globs()}
}

// isPlain reports whether a literal has no character that needs a second look.
func isPlain(s string) bool {
	for i := range len(s) {
		switch s[i] {
		case '\\', '*', '?', '[', '~', '{':
			return false
		}
	}
	return true
}

func (r *wordReader) part(part syntax.WordPart) {
	switch part := part.(type) {
	case *syntax.Lit:
		r.bare(part.Value)
	case *syntax.SglQuoted:
		if part.Dollar {
			r.kinds |= hasANSICQuote
		}
		r.add(part.Value, true)
	case *syntax.DblQuoted:
		if part.Dollar {
			r.kinds |= hasLocaleQuote
		}
		for _, inner := range part.Parts {
			if lit, ok := inner.(*syntax.Lit); ok {
				r.doubleQuoted(lit.Value)
			} else {
				r.kinds |= kindOf(inner)
			}
		}
	default:
		r.kinds |= kindOf(part)
	}
}

// kindOf is what an expansion is called.
func kindOf(part syntax.WordPart) featureSet {
	switch part.(type) {
	case *syntax.ParamExp:
		return hasParameter
	case *syntax.CmdSubst:
		return hasCommandSubstitution
	case *syntax.ArithmExp:
		return hasArithmetic
	case *syntax.ProcSubst:
		return hasProcessSubstitution
	case *syntax.ExtGlob:
		return hasExtglob
	}
	return hasUnknown
}

// bare adds text that stands outside quotes.
func (r *wordReader) bare(s string) {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			r.add(s[i:i+1], false)
			continue
		}
		if i++; i == len(s) {
			r.odd = "a backslash at the end of the text, with nothing behind it"
			return
		}
		r.add(s[i:i+1], true)
	}
}

// doubleQuoted adds text that stands in double quotes, where a backslash
// escapes four characters and is itself before all others.
func (r *wordReader) doubleQuoted(s string) {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("$`\"\\", s[i+1]) >= 0 {
			i++
		}
		r.add(s[i:i+1], true)
	}
}

func (r *wordReader) add(s string, quoted bool) {
	r.text = append(r.text, s...)
	for range len(s) {
		r.quoted = append(r.quoted, quoted)
	}
}

// classify finds what the shell expands in text without an operator for it.
func (r *wordReader) classify() {
	for i, c := range r.text {
		if r.quoted[i] {
			continue
		}
		switch c {
		case '*', '?':
			r.kinds |= hasGlob
		case '[':
			if i+2 < len(r.text) && bytes.IndexByte(r.text[i+2:], ']') >= 0 {
				r.kinds |= hasGlobClass
			}
		case '~':
			// Shells differ on a tilde behind = and : outside assignments.
			if i == 0 || r.text[i-1] == '=' || r.text[i-1] == ':' {
				r.kinds |= hasTilde
			}
		}
	}
	if r.braces() {
		r.kinds |= hasBraceExpansion
	}
}

// braces reports whether bash expands braces in the text: a comma or two dots
// inside a pair. It errs on the safe side when braces do not pair up, because
// bash then still finds pairs of its own.
func (r *wordReader) braces() bool {
	depth, paired, inside := 0, true, false
	opened, parted, closed := false, false, false // in this order, paired or not
	for i, c := range r.text {
		if r.quoted[i] {
			continue
		}
		switch c {
		case '{':
			depth++
			opened = true
		case '}':
			if depth--; depth < 0 {
				paired = false
			}
			closed = closed || parted
		case ',', '.':
			if c == '.' && (i+1 == len(r.text) || r.text[i+1] != '.') {
				continue
			}
			inside = inside || depth > 0
			parted = parted || opened
		}
	}
	return closed && (inside || !paired || depth != 0)
}

func (r *wordReader) globs() []int {
	if r.kinds == 0 {
		return nil
	}
	var at []int
	for i, c := range r.text {
		if !r.quoted[i] && (c == '*' || c == '?') {
			at = append(at, i)
		}
	}
	return at
}
