package shell

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a line may be before the parser sees it. The parser recurses once for
// every opening token, and a stack that overflows cannot be recovered from.
const (
	maxBytes    = 16384
	maxOpenings = 64 // ( { [ ` and reserved words such as if
	maxDepth    = 24 // of statements inside statements
	maxCommands = 64
	maxWords    = 1024
	maxScripts  = 3 // sh -c inside sh -c
	// maxFacts bounds, in bytes, what a line's clusters of letters and deep
	// paths grow to when they are spelled out: both grow with the square.
	maxFacts = 128 << 10
)

// gate refuses text that is not plain, before any parser sees it.
func gate(text string) *Error {
	if len(text) > maxBytes {
		return refuse(TooLong, "the text has %d bytes and %d are the limit; split it into several calls", len(text), maxBytes)
	}
	openings := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && size == 1 {
				return refuse(BadText, "byte 0x%02X at offset %d is not valid UTF-8; send the text as UTF-8", c, i)
			}
			if !plain(r) {
				return badCharacter(r, i)
			}
			i += size
			continue
		}
		if c < ' ' && c != '\t' && c != '\n' || c == 0x7F {
			return badCharacter(rune(c), i)
		}
		if opens(text, i) {
			openings++
		}
		if openings > maxOpenings {
			return refuse(TooComplex, "the text has more than %d opening tokens (parentheses, braces, brackets, backquotes, if and the like); split it into several calls", maxOpenings)
		}
		i++
	}
	return nil
}

// opens reports whether the parser would go one level down at a byte.
func opens(text string, i int) bool {
	switch text[i] {
	case '(', '{', '[', '`':
		return true
	case 'i', 'w', 'u', 'f', 'c', 's':
		return (i == 0 || strings.IndexByte(" \t\n;&|(){`!", text[i-1]) >= 0) && nests(text[i:])
	}
	return false
}

// nests reports whether text begins with a reserved word that holds statements.
func nests(text string) bool {
	for _, word := range nesting {
		if strings.HasPrefix(text, word) {
			return true
		}
	}
	return false
}

var nesting = []string{"if", "while", "until", "for", "case", "select", "function", "coproc"}

// plain reports whether a character outside ASCII may stand in a line: not a
// control character, nothing that cannot be seen, no space but the ordinary.
func plain(r rune) bool {
	return !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Cn, unicode.Zs, unicode.Zl, unicode.Zp)
}

func badCharacter(r rune, at int) *Error {
	return refuse(BadText, "U+%04X (%s) at byte %d is not allowed; %s", r, describe(r), at, remedy(r))
}

func describe(r rune) string {
	switch {
	case r == 0:
		return "null"
	case r == '\r':
		return "carriage return"
	case r == 0x1B:
		return "escape"
	case r == 0x7F:
		return "delete"
	case unicode.Is(unicode.Cc, r):
		return "a control character"
	case unicode.Is(unicode.Zs, r):
		return "a space that is not the ordinary one"
	case unicode.In(r, unicode.Zl, unicode.Zp):
		return "a line or paragraph separator"
	case unicode.Is(unicode.Cf, r):
		return "an invisible formatting character"
	case unicode.Is(unicode.Co, r):
		return "a private-use character"
	}
	return "an unassigned character"
}

func remedy(r rune) string {
	switch {
	case r == '\r':
		return "end lines with a newline alone"
	case unicode.Is(unicode.Zs, r):
		return "use an ordinary space"
	}
	return "leave it out"
}

func refuse(code ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// excerpt is a piece of the text for a message: one line, not too long.
func excerpt(s string) string {
	const most = 60
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	return strings.ReplaceAll(s, "\n", `\n`)
}
