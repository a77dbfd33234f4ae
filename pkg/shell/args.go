package shell

import (
	"strings"
	"unicode/utf8"
)

// lexArgs reads the words after a program the way getopt reads them. The second
// result is how many bytes the tails and directories come to.
func lexArgs(words []word) ([]Arg, int) {
	args := make([]Arg, len(words))
	size, ended := 0, false
	for i := range words {
		w, a := &words[i], &args[i]
		a.Text, a.Kind = w.text, Operand
		switch {
		case ended || len(w.text) < 2 || w.text[0] != '-':
			a.Pattern = w.kinds != 0
			size += a.locate(w.text, w.globs)
		case w.text == "--":
			a.Kind, ended = End, true
		case w.text[1] == '-':
			size += a.long(w.text[2:])
		default:
			size += a.cluster(w.text[1:])
		}
		if size > maxFacts {
			return nil, size
		}
	}
	return args, size
}

func (a *Arg) long(s string) int {
	a.Kind = Long
	name, value, ok := strings.Cut(s, "=")
	a.Name = name
	if !ok {
		return 0
	}
	a.Value = &value
	return a.locate(value, nil)
}

func (a *Arg) cluster(s string) int {
	a.Kind, a.Number = Letters, isDigits(s)
	n := utf8.RuneCountInString(s)
	if n*n/2 > maxFacts {
		return n * n / 2
	}
	both := make([]string, 2*n)
	a.Letters, a.Tails = both[:n:n], both[n:]
	size := 0
	for i := range n {
		_, w := utf8.DecodeRuneInString(s)
		a.Letters[i], a.Tails[i] = s[:w], s[w:]
		s = s[w:]
		size += len(s)
	}
	return size
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// locate adds the facts of an absolute path; globs are the offsets of its
// pattern characters.
func (a *Arg) locate(path string, globs []int) int {
	if path == "" || path[0] != '/' {
		return 0
	}
	p := &Path{Name: path, Clean: true, Under: []string{}}
	a.Path = p
	if len(path) > 1 && path[len(path)-1] == '/' {
		p.Name = path[:len(path)-1]
	}
	if p.Name == "/" {
		p.Clean = path == "/"
		if p.Clean {
			p.Under = []string{"/"}
		}
		return 1
	}
	return p.components(globs)
}

// components walks over a path that is not the root alone: whether it is clean,
// and, if so, what it lies below.
func (p *Path) components(globs []int) int {
	literal := len(p.Name) // where the first component with a pattern begins, or the end
	for start := 1; start <= len(p.Name); {
		end := len(p.Name)
		if i := strings.IndexByte(p.Name[start:], '/'); i >= 0 {
			end = start + i
		}
		part := p.Name[start:end]
		for len(globs) > 0 && globs[0] < start {
			globs = globs[1:]
		}
		isPattern := len(globs) > 0 && globs[0] < end
		if isPattern {
			literal = min(literal, start-1)
		}
		if part == "" || part == "." || part == ".." || isPattern && part[0] == '.' {
			p.Clean = false
			return 0
		}
		start = end + 1
	}
	return p.above(literal)
}

// above lists the directories of the first n bytes of the path, the root first.
func (p *Path) above(n int) int {
	count := strings.Count(p.Name[:n], "/")
	p.Under = make([]string, 1, count+1)
	p.Under[0] = "/"
	if n == 0 || count*n > 2*maxFacts {
		return 1 + count*n
	}
	size := 1
	for i := 1; i <= n; i++ {
		if i == n || p.Name[i] == '/' {
			p.Under = append(p.Under, p.Name[:i])
			size += i
		}
	}
	return size
}
