package tool

import (
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/pkg/shell"
)

// streamEdits reads sed: files like those of other programs, and what its scripts
// do to files by themselves.
func streamEdits(p *program, ops []Op, c *shell.Command) []Op {
	ops = files(p, ops, c)
	given, suffix := false, ""
	for _, o := range p.words(c.Args) {
		switch o.name {
		case "e", "expression":
			ops, given = sedScript(ops, o.value), true
		case "f", "file":
			ops, given = append(ops, tree(FileWrite, "/")), true // whatever the file says
		case "i", "in-place":
			suffix = o.value
		}
	}
	edited := p.named(c.Args)
	if !given && len(edited) > 0 {
		ops = sedScript(ops, edited[0].value)
		edited = edited[1:]
	}
	for _, o := range edited {
		ops = backup(ops, o, suffix)
	}
	return ops
}

// backup is the file in which sed -i keeps what a file was. What comes of a * in
// the suffix, the name or the last part of it, is another thing with each sed.
func backup(ops []Op, edited option, suffix string) []Op {
	switch {
	case suffix == "":
		return ops
	case strings.Contains(suffix, "*"):
		return append(ops, tree(FileWrite, "/"))
	}
	edited.value += suffix
	return append(ops, edited.file(FileWrite))
}

// sedScript adds what a script of sed reads and writes. One that runs commands,
// or is not understood, may write anything.
func sedScript(ops []Op, script string) []Op {
	s := &sed{rest: script, ops: ops}
	for s.rest != "" {
		if !s.command() {
			return append(s.ops, tree(FileWrite, "/"))
		}
	}
	return s.ops
}

// sed is a script as far as it was read.
type sed struct {
	rest string
	ops  []Op
}

// next takes a character off the script.
func (s *sed) next() byte {
	if s.rest == "" {
		return 0
	}
	c := s.rest[0]
	s.rest = s.rest[1:]
	return c
}

// line takes the rest of a line off the script.
func (s *sed) line() string {
	text, rest, _ := strings.Cut(s.rest, "\n")
	s.rest = rest
	return text
}

// command reads one sign of the script, with what belongs to it, and reports
// whether it is understood. Signs of addresses are read like commands.
func (s *sed) command() bool {
	switch c := s.next(); {
	case strings.IndexByte(" \t\n;{}!,$~+0123456789IM", c) >= 0:
	case strings.IndexByte("pPdDqQhHgGxnNlFz=", c) >= 0:
	case c == '/':
		return s.until('/', true)
	case c == '\\':
		return s.until(s.next(), true)
	case c == 's':
		delimiter := s.next()
		return s.until(delimiter, true) && s.until(delimiter, false) && s.flags()
	case c == 'y':
		delimiter := s.next()
		from, to := s.until(delimiter, false), s.until(delimiter, false)
		return from && to
	case c == '#':
		s.line()
	case c == 'r', c == 'R':
		s.ops = append(s.ops, file(FileRead, strings.TrimSpace(s.line())))
	case c == 'w', c == 'W':
		s.ops = append(s.ops, file(FileWrite, strings.TrimSpace(s.line())))
	case strings.IndexByte("aic", c) >= 0:
		for strings.HasSuffix(s.line(), "\\") {
			continue // the text goes on
		}
	case strings.IndexByte(":btT", c) >= 0:
		s.rest = strings.TrimLeft(s.rest, " \t")
		s.rest = s.rest[len(s.rest)-len(strings.TrimLeftFunc(s.rest, inLabel)):]
	default:
		return false
	}
	return true
}

func inLabel(r rune) bool { return !strings.ContainsRune("\n\t ;}", r) }

// until takes a part off the script that ends at a delimiter. Where a bracket of a
// regular expression holds the delimiter, some go on and others end there, so that
// is not understood.
func (s *sed) until(delimiter byte, regex bool) bool {
	if delimiter == '\n' || delimiter == '\\' {
		return false
	}
	for s.rest != "" {
		switch c := s.next(); {
		case c == delimiter:
			return true
		case c == '\\':
			s.next()
		case c == '[' && regex:
			if !s.bracket(delimiter) {
				return false
			}
		}
	}
	return false
}

// sedBracket is what stands in a bracket behind the first of its signs.
var sedBracket = regexp.MustCompile(`^\^?\]?(?:\[[:.=][^]]*[:.=]\]|[^]])*\]`)

func (s *sed) bracket(delimiter byte) bool {
	inside := sedBracket.FindString(s.rest)
	s.rest = s.rest[len(inside):]
	return inside != "" && strings.IndexByte(inside, delimiter) < 0 && !strings.ContainsAny(inside, "\\\n")
}

// flags reads what stands behind a substitution.
func (s *sed) flags() bool {
	for s.rest != "" {
		switch c := s.rest[0]; {
		case strings.IndexByte("gpiImM0123456789", c) >= 0:
			s.next()
		case c == 'w':
			s.next()
			s.ops = append(s.ops, file(FileWrite, strings.TrimSpace(s.line())))
			return true
		default:
			return strings.IndexByte(" \t\n;}#", c) >= 0
		}
	}
	return true
}
