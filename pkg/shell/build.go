package shell

import (
	"slices"
	"strconv"

	"mvdan.cc/sh/v3/syntax"
)

// builder turns a syntax tree into a document and renders it on the way.
type builder struct {
	src       string
	doc       *Document
	level     int // how many sh -c are around src
	words     wordReader
	features  featureSet
	canonical []byte
	count     int // words so far
	facts     int // bytes of arguments spelled out so far
	pattern   bool
	dynamic   *Error // the first reason why the line is not static
	opaque    *Error // the first reason why it is not understood
}

// place is where a statement stands.
type place struct {
	scope []string
	stdin string
	depth int
}

func (p place) inside(scope string) place {
	p.scope = append(slices.Clip(p.scope), scope)
	p.depth++
	return p
}

func (b *builder) build(f *syntax.File) {
	b.doc.Shape = shapeOf(f.Stmts)
	b.stmts(f.Stmts, place{scope: []string{}, stdin: "inherit"})
}

// close puts what was found into the document.
func (b *builder) close() {
	d := b.doc
	d.Features = b.features.list()
	switch {
	case b.opaque != nil:
		d.Certainty, d.Error = Opaque, b.opaque
	case b.dynamic != nil:
		d.Certainty, d.Error = Dynamic, b.dynamic
	case b.pattern:
		d.Certainty, d.Canonical = Pattern, string(b.canonical)
	default:
		d.Certainty, d.Canonical = Static, string(b.canonical)
	}
}

func shapeOf(list []*syntax.Stmt) Shape {
	if len(list) != 1 {
		shape := ShapeList
		for _, s := range list {
			if shapeOf([]*syntax.Stmt{s}) == ShapeCompound {
				shape = ShapeCompound
			}
		}
		return shape
	}
	shape := ShapeSimple
	for s := list[0]; ; {
		if s.Negated || s.Background {
			return ShapeCompound
		}
		chain, ok := s.Cmd.(*syntax.BinaryCmd)
		if !ok {
			if !isSimple(s) {
				return ShapeCompound
			}
			return shape
		}
		if chain.Op == syntax.AndStmt || chain.Op == syntax.OrStmt {
			shape = ShapeList
		} else if shape == ShapeSimple {
			shape = ShapePipeline
		}
		if shapeOf([]*syntax.Stmt{chain.Y}) == ShapeCompound {
			return ShapeCompound
		}
		s = chain.X
	}
}

func isSimple(s *syntax.Stmt) bool {
	_, ok := s.Cmd.(*syntax.CallExpr)
	return ok || s.Cmd == nil
}

func itoa(n uint) string { return strconv.FormatUint(uint64(n), 10) }

// add notes constructs. Those that only bash has make the line opaque.
func (b *builder) add(set featureSet) {
	b.features |= set
	if dependent := set & onlyBash; dependent != 0 {
		c := bashOnly[dependent.first()]
		b.odd(c.what, c.remedy)
	}
}

// odd refuses what shells do not agree on.
func (b *builder) odd(what, remedy string) {
	if b.opaque == nil {
		b.opaque = refuse(ShellDependent, "%s does not mean the same in every shell; %s", what, remedy)
	}
}

// unsent notes constructs that keep the line from being static.
func (b *builder) unsent(set featureSet, text string) {
	b.add(set)
	b.notStatic(set.first(), text)
}

// notStatic gives the reason why the line is not static, if it is the first.
func (b *builder) notStatic(f Feature, text string) {
	if b.dynamic != nil {
		return
	}
	c := unsendable[f]
	if text != "" {
		text = excerpt(text) + ": "
	}
	b.dynamic = refuse(NotLiteral, "%s%s; %s", text, c.what, c.remedy)
}

func (b *builder) tooComplex(format string, args ...any) {
	if b.opaque == nil || b.opaque.Code != TooComplex {
		b.opaque = refuse(TooComplex, format+"; split the text into several calls", args...)
	}
}

// stopped reports whether there is no use in going on.
func (b *builder) stopped() bool { return b.opaque != nil && b.opaque.Code == TooComplex }

func (b *builder) put(s string) { b.canonical = append(b.canonical, s...) }

func (b *builder) stmts(list []*syntax.Stmt, p place) {
	if p.depth > maxDepth {
		b.tooComplex("statements are nested deeper than %d", maxDepth)
		return
	}
	for i, s := range list {
		if i > 0 {
			if list[i-1].Background {
				b.put(" ")
			} else {
				b.add(hasSequence)
				b.put("; ")
			}
		}
		if b.stopped() {
			return
		}
		b.stmt(s, p)
	}
}

func (b *builder) stmt(s *syntax.Stmt, p place) {
	if s.Negated {
		b.add(hasNegation)
		b.put("! ")
	}
	switch cmd := s.Cmd.(type) {
	case nil:
		b.call(&syntax.CallExpr{}, s, p)
	case *syntax.CallExpr:
		b.call(cmd, s, p)
	case *syntax.BinaryCmd:
		b.chain(cmd, p)
	default:
		b.compound(cmd, p)
		b.detached(s.Redirs, p)
	}
	if s.Coprocess || s.Disown {
		b.unsent(hasUnknown, "")
	}
	if s.Background {
		b.add(hasBackground)
		b.put(" &")
	}
}

// link is one operator of a chain with what follows it.
type link struct {
	op syntax.BinCmdOperator
	to *syntax.Stmt
}

// chain is commands joined by | && ||. The tree leans to the left, so its left
// side is followed in a loop: it can be as long as the text.
func (b *builder) chain(c *syntax.BinaryCmd, p place) {
	var links []link
	first := c.X
	for {
		links = append(links, link{c.Op, c.Y})
		next, ok := first.Cmd.(*syntax.BinaryCmd)
		if len(links) == maxCommands {
			b.tooComplex("there are more than %d commands", maxCommands)
			return
		}
		if !ok || first.Negated {
			break
		}
		first, c = next.X, next
	}
	b.stmt(first, p)
	for _, l := range slices.Backward(links) {
		b.operator(l.op)
		to := p
		if l.op == syntax.Pipe || l.op == syntax.PipeAll {
			to.stdin = "pipe"
		}
		b.stmt(l.to, to)
	}
}

func (b *builder) operator(op syntax.BinCmdOperator) {
	switch op {
	case syntax.AndStmt:
		b.add(hasAnd)
	case syntax.OrStmt:
		b.add(hasOr)
	case syntax.Pipe:
		b.add(hasPipe)
	case syntax.PipeAll:
		b.add(hasPipeStderr)
	default:
		b.unsent(hasUnknown, op.String())
	}
	b.put(" ")
	b.put(op.String())
	b.put(" ")
}

// compound is every command that is not a simple one. Subshells, groups and if
// are rendered; a line with any other is never static.
func (b *builder) compound(cmd syntax.Command, p place) {
	switch cmd := cmd.(type) {
	case *syntax.Subshell:
		b.add(hasSubshell)
		b.block("( ", cmd.Stmts, " )", p.inside("subshell"))
	case *syntax.Block:
		b.add(hasGroup)
		b.block("{ ", cmd.Stmts, terminator(cmd.Stmts)+" }", p.inside("group"))
	case *syntax.IfClause:
		b.add(hasIf)
		b.ifClause("if ", cmd, p.inside("if"))
		b.put(" fi")
	case *syntax.WhileClause:
		b.unsent(hasLoop, "")
		b.stmts(cmd.Cond, p.inside("loop"))
		b.stmts(cmd.Do, p.inside("loop"))
	case *syntax.ForClause:
		b.forClause(cmd, p)
	case *syntax.CaseClause:
		b.caseClause(cmd, p)
	case *syntax.FuncDecl:
		b.unsent(hasFunction, "")
		if cmd.RsrvWord {
			b.odd("the word function", "leave it out")
		}
		b.stmt(cmd.Body, p.inside("function"))
	default:
		b.bashCommand(cmd, p)
	}
}

// terminator is what must stand between a list and a reserved word.
func terminator(list []*syntax.Stmt) string {
	if len(list) > 0 && list[len(list)-1].Background {
		return ""
	}
	return ";"
}

func (b *builder) block(before string, list []*syntax.Stmt, after string, p place) {
	b.put(before)
	b.stmts(list, p)
	b.put(after)
}

func (b *builder) ifClause(word string, c *syntax.IfClause, p place) {
	if len(c.Cond) > 0 {
		b.block(word, c.Cond, terminator(c.Cond)+" then ", p)
	} else {
		b.put("else ")
	}
	b.block("", c.Then, terminator(c.Then), p)
	if c.Else != nil {
		b.put(" ")
		b.ifClause("elif ", c.Else, p)
	}
}

func (b *builder) forClause(c *syntax.ForClause, p place) {
	b.unsent(hasLoop, "")
	if c.Select {
		b.odd("select", "leave it out")
	}
	if _, ok := c.Loop.(*syntax.CStyleLoop); ok {
		b.odd("for (( ))", "leave it out")
	}
	b.look(c.Loop, p)
	b.stmts(c.Do, p.inside("loop"))
}

func (b *builder) caseClause(c *syntax.CaseClause, p place) {
	b.unsent(hasCase, "")
	b.look(c.Word, p)
	for _, item := range c.Items {
		for _, w := range item.Patterns {
			b.look(w, p)
		}
		b.stmts(item.Stmts, p.inside("case"))
	}
}

// bashCommand is a command that only bash has.
func (b *builder) bashCommand(cmd syntax.Command, p place) {
	switch cmd := cmd.(type) {
	case *syntax.ArithmCmd:
		b.add(hasArithmeticCommand)
		b.look(cmd, p)
	case *syntax.TestClause:
		b.add(hasTestCommand)
		b.look(cmd, p)
	case *syntax.DeclClause:
		b.add(hasDeclaration)
		b.look(cmd, p)
	case *syntax.LetClause:
		b.add(hasLet)
		b.look(cmd, p)
	case *syntax.TimeClause:
		b.add(hasTime)
		if cmd.Stmt != nil {
			b.stmts([]*syntax.Stmt{cmd.Stmt}, p.inside("time"))
		}
	case *syntax.CoprocClause:
		b.add(hasCoproc)
		b.stmts([]*syntax.Stmt{cmd.Stmt}, p.inside("coproc"))
	default:
		b.unsent(hasUnknown, "")
	}
}

// look finds the commands that hide in expansions, and what the expansions are.
func (b *builder) look(n syntax.Node, p place) {
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Word:
			b.tally(1)
		case *syntax.CmdSubst:
			b.unsent(hasCommandSubstitution, "")
			b.stmts(n.Stmts, p.inside("substitution"))
			return false
		case *syntax.ProcSubst:
			b.add(hasProcessSubstitution)
			b.stmts(n.Stmts, p.inside("process_substitution"))
			return false
		case *syntax.ParamExp:
			b.unsent(hasParameter, "")
		case *syntax.ArithmExp:
			b.unsent(hasArithmetic, "")
			if n.Bracket {
				b.odd("$[ ]", "use $(( )), or write the value itself")
			}
		case *syntax.ExtGlob:
			b.add(hasExtglob)
		case *syntax.SglQuoted:
			b.add(onlyIf(n.Dollar, hasANSICQuote))
		case *syntax.DblQuoted:
			b.add(onlyIf(n.Dollar, hasLocaleQuote))
		case *syntax.ArrayExpr:
			b.add(hasArray)
		}
		return !b.stopped()
	})
}

func onlyIf(cond bool, set featureSet) featureSet {
	if cond {
		return set
	}
	return 0
}

// tally counts words.
func (b *builder) tally(n int) {
	if b.count += n; b.count > maxWords {
		b.tooComplex("there are more than %d words", maxWords)
	}
}

// word reads a word and looks into its expansions.
func (b *builder) word(w *syntax.Word, p place) word {
	got := b.words.read(b.src, w)
	if b.words.odd != "" {
		b.odd(b.words.odd, "leave it out")
		b.words.odd = ""
	}
	if got.kinds&hasNested != 0 {
		b.unsent(got.kinds&^hasGlob, got.text)
		b.look(w, p)
	} else if got.kinds != 0 {
		b.add(got.kinds)
	}
	return got
}
