package syntax

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// eachLine asks of each line what is wrong with it.
func eachLine(text string, wrong func(line string) string) []Problem {
	var problems []Problem
	n := 0
	for line := range strings.Lines(text) {
		n++
		if message := wrong(strings.TrimRight(line, "\r\n")); message != "" {
			problems = append(problems, Problem{n, message})
		}
	}
	return problems
}

// checkINI takes comments, [sections], keys with a value behind = or :, bare
// keys, and lines that go on with what the one before began.
func checkINI(text string) []Problem {
	return eachLine(text, func(line string) string {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";"):
		case strings.HasPrefix(trimmed, "["):
			if name, closed := iniSection(trimmed); !closed || name == "" {
				return "a section is [name]"
			}
		case trimmed[0] == '=' || trimmed[0] == ':':
			return "a value without a key"
		case line != trimmed && line[0] != trimmed[0]:
			return "" // indented: the value before goes on
		case !strings.ContainsAny(trimmed, "=:"):
			return "neither a comment, a [section] nor key = value"
		}
		return ""
	})
}

func iniSection(line string) (name string, closed bool) {
	name, rest, closed := strings.Cut(line[1:], "]")
	rest = strings.TrimSpace(rest)
	return strings.TrimSpace(name), closed && (rest == "" || rest[0] == '#' || rest[0] == ';')
}

var envKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

func checkEnv(text string) []Problem {
	quote := byte(0) // that a value over several lines began with
	return eachLine(text, func(line string) string {
		if quote != 0 {
			if endsIn(line, quote) {
				quote = 0
			}
			return ""
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			return ""
		}
		key, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		key = strings.TrimSpace(key)
		switch {
		case !ok:
			return "not KEY=VALUE"
		case !envKey.MatchString(key):
			return fmt.Sprintf("%q is no name of a variable", key)
		}
		if value = strings.TrimSpace(value); value != "" && strings.ContainsRune(`"'`, rune(value[0])) && !endsIn(value[1:], value[0]) {
			quote = value[0]
		}
		return ""
	})
}

// endsIn says that a quote is closed in a line.
func endsIn(line string, quote byte) bool {
	for i := range len(line) {
		if line[i] == quote && (i == 0 || line[i-1] != '\\') {
			return true
		}
	}
	return false
}

var dockerWords = strings.Fields("ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR")

var heredoc = regexp.MustCompile(`<<-?["']?([A-Za-z_][A-Za-z0-9_]*)["']?`)

// dockerReader goes over the lines of a Dockerfile.
type dockerReader struct {
	goesOn bool     // the line before ended in a backslash
	until  []string // ends of here-documents that are open
	from   bool
}

func checkDockerfile(text string) []Problem {
	var r dockerReader
	problems := eachLine(text, r.wrong)
	if !r.from && len(problems) == 0 {
		return one(0, "there is no FROM")
	}
	return problems
}

func (r *dockerReader) wrong(line string) string {
	trimmed := strings.TrimSpace(line)
	switch {
	case len(r.until) > 0:
		if trimmed == r.until[0] {
			r.until = r.until[1:]
		}
		return ""
	case trimmed == "" || trimmed[0] == '#':
		return "" // in the middle of an instruction, too
	}
	first := !r.goesOn
	r.goesOn = strings.HasSuffix(trimmed, `\`)
	for _, m := range heredoc.FindAllStringSubmatch(trimmed, -1) {
		r.until = append(r.until, m[1])
	}
	if !first {
		return ""
	}
	word, rest, _ := strings.Cut(trimmed, " ")
	word = strings.ToUpper(strings.TrimSuffix(word, `\`))
	switch {
	case !slices.Contains(dockerWords, word):
		return fmt.Sprintf("%q is no instruction", word)
	case word != "FROM" && word != "ARG" && !r.from:
		return word + " before FROM"
	case strings.TrimSpace(rest) == "" && !r.goesOn:
		return word + " says nothing"
	}
	r.from = r.from || word == "FROM"
	return ""
}
