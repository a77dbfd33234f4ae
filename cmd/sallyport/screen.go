package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/sallyport/sallyport/pkg/tool"
)

// screen writes for people: aligned, coloured on a terminal, plain otherwise.
type screen struct {
	w      io.Writer
	colour bool
}

type paint string

const (
	bold  paint = "1"
	dim   paint = "2"
	red   paint = "31"
	green paint = "32"
	amber paint = "33"
	blue  paint = "36"
)

func newScreen(w io.Writer) *screen {
	f, ok := w.(*os.File)
	return &screen{w: w, colour: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""}
}

func (s *screen) paint(p paint, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + string(p) + "m" + text + "\x1b[0m"
}

func (s *screen) line(format string, args ...any) { fmt.Fprintf(s.w, format+"\n", args...) }

// field writes a label and a value, the values in one column.
func (s *screen) field(label, value string) {
	s.line("   %s %s", s.paint(dim, fmt.Sprintf("%-10s", label)), value)
}

// block writes text indented and wrapped, at most so many lines of it.
func (s *screen) block(text string, most int) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		if i == most {
			s.line("     %s", s.paint(dim, "… and "+tool.Count(len(lines)-most, "more line")))
			return
		}
		for _, part := range wrap(l, screenWidth) {
			s.line("     %s", part)
		}
	}
}

const screenWidth = 110

// wrap breaks a line at blanks where it is too long; what follows the first
// part is indented.
func wrap(line string, width int) []string {
	var parts []string
	for len([]rune(line)) > width {
		r := []rune(line)
		at := strings.LastIndex(string(r[:width]), " ")
		if at < width/2 {
			at = len(string(r[:width]))
		}
		parts = append(parts, line[:at])
		line = "    " + strings.TrimLeft(line[at:], " ")
	}
	return append(parts, line)
}

func clip(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	return string(r[:width-1]) + "…"
}
