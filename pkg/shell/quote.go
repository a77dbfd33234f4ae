package shell

import (
	"fmt"
	"strings"
)

// Quote renders words so that every shell reads them back unchanged: POSIX
// shells, zsh, fish, csh and tcsh alike. Inside single quotes stands everything
// but ' \ and !, which stand outside with a backslash before them; the empty
// word is ”. Every word is quoted, also the first and also harmless ones, so
// that no alias, reserved word, assignment or history event is seen in it.
// The words are joined by a space.
//
// A null byte cannot be in a word of any program; Quote leaves it to the caller
// to refuse it. In csh a word with a newline is an error and nothing runs.
func Quote(words ...string) string {
	n := len(words)
	for _, w := range words {
		n += len(w) + 2
	}
	b := make([]byte, 0, n)
	for i, w := range words {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendQuoted(b, w)
	}
	return string(b)
}

// Remote is the text to send for a canonical line: `exec /bin/sh -c` with the
// line quoted once more. The login shell of the account, whichever it is, only
// reads this; its start-up files, aliases and functions do not reach the inner
// shell. exec saves a process and lets signals and exit status through.
func Remote(canonical string) string { return "exec /bin/sh -c " + Quote(canonical) }

// RemoteEnv is [Remote] with variables set for the line, each NAME=value. The
// inner shell exports them before it runs the line: an assignment in the outer
// one would mean nothing to csh, and /usr/bin/env would cost a process start,
// a quarter of what a short command takes. It panics when an entry is not
// NAME=value.
func RemoteEnv(env []string, canonical string) string {
	if len(env) == 0 {
		return Remote(canonical)
	}
	for _, e := range env {
		if name, _, ok := strings.Cut(e, "="); !ok || !isName(name) {
			panic("shell: not NAME=value: " + e)
		}
	}
	return Remote("export " + Quote(env...) + "; " + canonical)
}

// NoDirectory is the exit status of a line of [RemoteIn] whose directory cannot be
// entered.
const NoDirectory = 97

// RemoteIn is [RemoteEnv] for a line that runs in a directory, an absolute path.
// Entering it is a statement of its own: where that fails, nothing of the line
// runs, and the shell writes lost, and nothing else, to its error stream and ends
// with [NoDirectory].
func RemoteIn(env []string, dir, lost, canonical string) string {
	enter := fmt.Sprintf("cd -- %s 2>/dev/null || { printf %%s %s >&2; exit %d; }; ", Quote(dir), Quote(lost), NoDirectory)
	return RemoteEnv(env, enter+canonical)
}

func appendQuoted(b []byte, word string) []byte {
	if word == "" {
		return append(b, "''"...)
	}
	open := false
	for i := range len(word) {
		c := word[i]
		special := c == '\'' || c == '\\' || c == '!'
		if special == open {
			b = append(b, '\'')
			open = !special
		}
		if special {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	if open {
		b = append(b, '\'')
	}
	return b
}

// appendPattern renders a word with the characters at the offsets in globs left
// unquoted.
func appendPattern(b []byte, word string, globs []int) []byte {
	from := 0
	for _, at := range globs {
		if at > from {
			b = appendQuoted(b, word[from:at])
		}
		b = append(b, word[at])
		from = at + 1
	}
	if from < len(word) {
		b = appendQuoted(b, word[from:])
	}
	return b
}

// isName reports whether s can be the name of a shell variable.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
