package shell

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Edit is a line changed in one small way, what was done to it, and how much it
// is likely to take from what was meant, in bytes.
type Edit struct {
	Text string
	What string
	Cost int
}

// Addition is a word that may be missing after a program: right after it, or at
// the end of its words.
type Addition struct {
	Program string
	Word    string
	First   bool
}

// Substitution is a word that could stand in the place of another one.
type Substitution struct{ Word, With string }

// maxEdits bounds what becomes of one line.
const maxEdits = 128

// Edits are the small changes that can be made to a line without inventing
// anything: a part of it left out, or one of some additions or substitutions made.
// What they mean is for [Parse] to say; a line that cannot be parsed has none.
func Edits(line string, additions []Addition, substitutions []Substitution) []Edit {
	tree := treeOf(line)
	if tree == nil {
		return nil
	}
	e := &editor{line: line, additions: additions, substitutions: substitutions, seen: map[string]bool{line: true}}
	e.statements(tree.Stmts)
	syntax.Walk(tree, func(n syntax.Node) bool {
		e.visit(n)
		return len(e.edits) < maxEdits
	})
	return e.edits
}

// treeOf is a line as bash reads it; nil if it cannot be parsed.
func treeOf(line string) *syntax.File {
	if gate(line) != nil {
		return nil
	}
	tree, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(line), "")
	if err != nil {
		return nil
	}
	return tree
}

// editor collects edits as the tree is walked.
type editor struct {
	line          string
	additions     []Addition
	substitutions []Substitution
	edits         []Edit
	seen          map[string]bool
}

// span is a piece of the line, by its bytes.
type span struct{ from, to int }

func spanOf(n syntax.Node) span { return span{int(n.Pos().Offset()), int(n.End().Offset())} }

func (e *editor) text(s span) string { return strings.TrimRight(e.line[s.from:s.to], "; \t\n") }

// replace adds the line with a piece of it replaced, if that is a new line.
func (e *editor) replace(s span, with, format string, args ...any) {
	text := strings.TrimSpace(e.line[:s.from] + with + e.line[s.to:])
	if !strings.HasSuffix(text, `\;`) {
		text = strings.TrimRight(text, "; ")
	}
	if text == "" || e.seen[text] || len(e.edits) >= maxEdits {
		return
	}
	e.seen[text] = true
	e.edits = append(e.edits, Edit{text, fmt.Sprintf(format, args...), max(0, len(e.line)-len(text))})
}

// leaveOut removes pieces and the blanks before them.
func (e *editor) leaveOut(what string, pieces ...span) {
	slices.SortFunc(pieces, func(a, b span) int { return cmp.Compare(b.from, a.from) })
	text := e.line
	for _, p := range pieces {
		text = strings.TrimRight(text[:p.from], " \t") + text[p.to:]
	}
	e.replace(span{0, len(e.line)}, text, "leave out %s", what)
}

func (e *editor) visit(n syntax.Node) {
	switch n := n.(type) {
	case *syntax.BinaryCmd:
		e.replace(spanOf(n), e.text(spanOf(n.X)), "leave out %s", quotedExcerpt(n.Op.String()+" "+e.text(spanOf(n.Y))))
		e.replace(spanOf(n), e.text(spanOf(n.Y)), "leave out %s", quotedExcerpt(e.text(spanOf(n.X))+" "+n.Op.String()))
	case *syntax.Subshell:
		e.inner(n, n.Stmts, "run it without a subshell")
	case *syntax.Block:
		e.inner(n, n.Stmts, "run it without braces")
	case *syntax.Stmt:
		e.statement(n)
	case *syntax.CallExpr:
		e.call(n)
	}
}

// inner takes the brackets off.
func (e *editor) inner(n syntax.Node, stmts []*syntax.Stmt, what string) {
	if len(stmts) > 0 {
		within := span{int(stmts[0].Pos().Offset()), int(stmts[len(stmts)-1].End().Offset())}
		e.replace(spanOf(n), e.text(within), "%s", what)
	}
}

// statements leaves out each of several commands in a row.
func (e *editor) statements(stmts []*syntax.Stmt) {
	for i, s := range stmts {
		piece := spanOf(s)
		switch {
		case len(stmts) == 1:
			return
		case i+1 < len(stmts):
			piece.to = int(stmts[i+1].Pos().Offset())
		default:
			piece.from = int(stmts[i-1].End().Offset())
		}
		e.leaveOut(quotedExcerpt(e.text(spanOf(s))), piece)
	}
}

func (e *editor) statement(s *syntax.Stmt) {
	for _, r := range s.Redirs {
		e.leaveOut(quotedExcerpt(e.text(spanOf(r))), spanOf(r))
	}
	if s.Background {
		at := int(s.Semicolon.Offset())
		e.leaveOut("the & at the end", span{at, at + 1})
	}
	if s.Negated {
		at := int(s.Pos().Offset())
		e.leaveOut("the !", span{at, at + 1})
	}
}

// call edits the words of one command.
func (e *editor) call(c *syntax.CallExpr) {
	for _, a := range c.Assigns {
		e.leaveOut(quotedExcerpt(e.text(spanOf(a))), spanOf(a))
	}
	if len(c.Args) == 0 {
		return
	}
	e.program(c)
	for i := range c.Args[1:] {
		e.substitute(c.Args[i+1])
		e.word(c.Args, i+1)
	}
	e.add(c)
}

// program calls the first word by its name alone, or runs what it runs.
func (e *editor) program(c *syntax.CallExpr) {
	name, plain := literalOf(c.Args[0])
	if !plain {
		return
	}
	if dir, base := splitProgram(name); dir != "" && base != "" {
		e.replace(spanOf(c.Args[0]), base, "call %s by its name alone", base)
	}
	_, base := splitProgram(name)
	if wrappers[base] == nil {
		return
	}
	for i := 1; i < len(c.Args) && i <= maxWrapperWords; i++ {
		own := span{spanOf(c.Args[0]).from, spanOf(c.Args[i]).from}
		e.replace(own, "", "run it without %s", base)
	}
	if script, plain := literalOf(c.Args[len(c.Args)-1]); plain && len(c.Args) == 3 {
		e.replace(spanOf(c), script, "run it without %s", base)
	}
}

// maxWrapperWords is how many words of a wrapper are tried as its own.
const maxWrapperWords = 5

// substitute puts other words in the place of one. That takes away all of it.
func (e *editor) substitute(w *syntax.Word) {
	text, plain := literalOf(w)
	for _, s := range e.substitutions {
		if before := len(e.edits); plain && s.Word == text {
			e.replace(spanOf(w), spelled(s.With), "%s instead of %s", quotedExcerpt(s.With), quotedExcerpt(text))
			if len(e.edits) > before {
				e.edits[before].Cost = len(text)
			}
		}
	}
}

// word leaves out a word that is not the only operand, a letter of an option, or
// an option with the word behind it.
func (e *editor) word(args []*syntax.Word, i int) {
	here := spanOf(args[i])
	text := e.line[here.from:here.to]
	if !strings.HasPrefix(text, "-") {
		if operands(e.line, args) > 1 {
			e.leaveOut(quotedExcerpt(text), here)
		}
		return
	}
	e.leaveOut(quotedExcerpt(text), here)
	if i+1 < len(args) && !strings.Contains(text, "=") {
		next := spanOf(args[i+1])
		if value := e.line[next.from:next.to]; !strings.HasPrefix(value, "-") {
			alone := len(e.edits) - 1
			e.leaveOut(quotedExcerpt(text+" "+value), here, next)
			if strings.HasPrefix(text, "--") && alone >= 0 { // more often with its value than without
				e.edits[alone].Cost += len(value) + 2
			}
		}
	}
	if isCluster(text) {
		for j := 1; j < len(text); j++ {
			letter := text[j : j+1]
			e.replace(here, text[:j]+text[j+1:], "leave out the %s of %s", letter, text)
		}
	}
}

// isCluster says that a word is joined one-letter options, not too many to try.
func isCluster(text string) bool {
	const most = 8
	if len(text) < 3 || len(text) > most || text[1] == '-' {
		return false
	}
	return strings.IndexFunc(text[1:], func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) < 0
}

// operands counts the words after the program that are no options.
func operands(line string, args []*syntax.Word) int {
	n := 0
	for _, w := range args[1:] {
		if s := spanOf(w); !strings.HasPrefix(line[s.from:s.to], "-") {
			n++
		}
	}
	return n
}

func (e *editor) add(c *syntax.CallExpr) {
	first, plain := literalOf(c.Args[0])
	if !plain {
		return
	}
	for _, a := range e.additions {
		if _, base := splitProgram(first); a.Program != base || e.has(c, a.Word) {
			continue
		}
		at := spanOf(c).to
		if a.First {
			at = spanOf(c.Args[0]).to
		}
		e.replace(span{at, at}, " "+a.Word, "add %s", a.Word)
	}
}

func (e *editor) has(c *syntax.CallExpr, word string) bool {
	return slices.ContainsFunc(c.Args, func(w *syntax.Word) bool { return e.text(spanOf(w)) == word })
}

// literalOf is a word without expansions, after quote removal.
func literalOf(w *syntax.Word) (text string, plain bool) {
	for _, part := range w.Parts {
		switch part := part.(type) {
		case *syntax.Lit:
			text += part.Value
		case *syntax.SglQuoted:
			text += part.Value
		case *syntax.DblQuoted:
			inner, plain := literalOf(&syntax.Word{Parts: part.Parts})
			if !plain {
				return "", false
			}
			text += inner
		default:
			return "", false
		}
	}
	return text, text != "" && !strings.Contains(text, `\`)
}

// spelled is a word as people write it: quoted only where it has to be.
func spelled(word string) string {
	if bare.MatchString(word) {
		return word
	}
	return Quote(word)
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

func quotedExcerpt(s string) string { return "'" + excerpt(s) + "'" }
