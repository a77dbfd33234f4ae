package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a problem keeps a configuration from loading.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Problem is one thing that is wrong with a configuration. Line and Column
// count from 1; both are 0 where a problem has no place in a file. For a
// setting from elsewhere, File is the flag or the environment variable.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line,omitempty"`
	Column   int      `json:"column,omitempty"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy,omitempty"`
}

// String is "file:line: message (remedy)".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	if p.Remedy != "" {
		fmt.Fprintf(&b, " (%s)", p.Remedy)
	}
	return b.String()
}

// Problems is the error of [Load]: everything that is wrong, warnings too, by
// file and line.
type Problems struct {
	List []Problem
	// Settings are those of sallyport.yml as far as they could be read, without
	// what leads nowhere, so that the rest of what they name can be looked at in
	// the same run. They are nil when there is no directory.
	Settings *Settings
	Origins  Origins

	vault vault
}

// Secrets are what references in the settings lead to.
func (p *Problems) Secrets() Secrets { return Secrets{p.vault} }

// Error has one problem on each line. Warnings are about a configuration that
// nobody uses, so they are left out.
func (p *Problems) Error() string {
	return lines(slices.DeleteFunc(slices.Clone(p.List), func(one Problem) bool { return one.Severity == Warning }))
}

// OfFlags says that nothing but flags is wrong.
func (p *Problems) OfFlags() bool {
	return !slices.ContainsFunc(p.List, func(one Problem) bool {
		return one.Severity == Error && !strings.HasPrefix(one.File, "--")
	})
}

func lines(list []Problem) string {
	text := make([]string, len(list))
	for i, one := range list {
		text[i] = one.String()
	}
	return strings.Join(text, "\n")
}

// fault is what is wrong with a thing and what to do about it, without where it
// stands: a place turns it into a Problem, and to Login it is an error.
type fault struct {
	message string
	remedy  string
}

func faultf(remedy, format string, args ...any) *fault {
	return &fault{message: fmt.Sprintf(format, args...), remedy: remedy}
}

func (f *fault) Error() string { return fmt.Sprintf("%s (%s)", f.message, f.remedy) }

// report collects problems while everything is read to its end.
type report struct {
	list []Problem
}

func (r *report) failed() bool {
	return slices.ContainsFunc(r.list, func(p Problem) bool { return p.Severity == Error })
}

// sorted is the list by file, in the order of files, then by line. What stands
// in none of them (flags, the environment, the directory) comes first.
func (r *report) sorted(files []string) []Problem {
	list := slices.Clone(r.list)
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(files, a.File), slices.Index(files, b.File)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
	return list
}

// place is where a thing stands: in a file, or a flag or a variable, under a
// path such as hosts[2].port.
type place struct {
	report       *report
	file, path   string
	line, column int
}

func (p place) fail(f *fault) { p.add(Error, f) }
func (p place) warn(f *fault) { p.add(Warning, f) }

func (p place) add(s Severity, f *fault) { p.report.list = append(p.report.list, p.problem(s, f)) }

func (p place) problem(s Severity, f *fault) Problem {
	message := f.message
	if p.path != "" {
		message = p.path + ": " + message
	}
	return Problem{
		File: p.file, Line: p.line, Column: p.column,
		Severity: s, Message: message, Remedy: f.remedy,
	}
}
