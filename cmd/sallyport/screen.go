package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
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

// block writes text indented, at most so many lines of it.
func (s *screen) block(text string, most int) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		if i == most {
			s.line("   %s", s.paint(dim, fmt.Sprintf("  … %d more lines", len(lines)-most)))
			return
		}
		s.line("     %s", clip(l, 110))
	}
}

func clip(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	return string(r[:width-1]) + "…"
}
