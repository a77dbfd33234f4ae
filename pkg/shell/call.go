package shell

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// call is a simple command: words with what surrounds them. Assignments or
// redirections alone are a call without a program.
func (b *builder) call(c *syntax.CallExpr, s *syntax.Stmt, p place) {
	b.tally(len(c.Args) + len(c.Assigns) + len(s.Redirs))
	if len(b.doc.Commands) == maxCommands {
		b.tooComplex("there are more than %d commands", maxCommands)
	}
	if b.stopped() {
		return
	}
	id := len(b.doc.Commands)
	cmd := Command{
		ID: id, Wrappers: []Wrapper{}, Assigns: []Assign{}, Redirects: []Redirect{},
		Stdin: p.stdin, Scope: p.scope,
	}
	b.doc.Commands = append(b.doc.Commands, cmd) // before those that its words hide
	b.assigns(&cmd, c, p)
	words := make([]word, len(c.Args))
	for i, w := range c.Args {
		words[i] = b.word(w, p)
	}
	b.reserved(c, words)
	u := unwrap(words)
	if u.refusal != nil && b.opaque == nil {
		b.opaque = u.refusal
	}
	cmd.Wrappers = append(cmd.Wrappers, u.wrappers...)
	cmd.Assigns = append(cmd.Assigns, u.assigns...)
	cmd.User = u.user
	b.fill(&cmd, u.rest)
	var inner Document
	if u.script != nil {
		inner = b.script(u.script)
	}
	b.render(words)
	b.redirects(&cmd, s.Redirs, len(c.Assigns)+len(words) > 0, p)
	b.doc.Commands[id] = cmd
	switch {
	case len(inner.Commands) > 0:
		b.adopt(id, inner)
	case u.script != nil: // not looked through after all
		last := &b.doc.Commands[id].Wrappers
		*last = (*last)[:len(*last)-1]
	}
}

// reserved refuses first words that shells do not take for a program: reserved
// words where they find a syntax error and the parser a command, and %job.
func (b *builder) reserved(c *syntax.CallExpr, words []word) {
	if len(words) == 0 || b.opaque != nil {
		return
	}
	switch first := words[0].text; {
	case strings.HasPrefix(first, "%"):
		b.odd("a command that begins with %, which bash takes for a job,", "call the program by its path")
	case first == "in" || first == "else":
		if _, bare := c.Args[0].Parts[0].(*syntax.Lit); bare && len(c.Args[0].Parts) == 1 {
			b.opaque = refuse(Syntax, "%s is a reserved word and no command; quote it if it is meant", first)
		}
	}
}

// fill puts the words of the program that is run into the command.
func (b *builder) fill(cmd *Command, words []word) {
	if len(words) == 0 {
		if len(cmd.Assigns) > 0 {
			b.notStatic(FeatureAssignment, "")
		} else {
			b.notStatic(FeatureRedirect, "")
		}
		return
	}
	static, sendable := true, words[0].literal()
	for i := range words {
		w := &words[i]
		if w.literal() {
			continue
		}
		static = false
		if !w.pattern() {
			sendable = false
		}
		if i == 0 || !w.pattern() {
			b.unsent(w.kinds, w.text)
		}
	}
	if words[0].literal() {
		cmd.Dir, cmd.Program = splitProgram(words[0].text)
		if cmd.Program == "" && b.opaque == nil {
			b.opaque = refuse(Syntax, "'%s' names no program; give one", excerpt(cmd.Dir))
		}
	}
	if static {
		cmd.Static, cmd.Argv = true, texts(words)
	} else {
		cmd.Words = wordFacts(words)
	}
	if sendable {
		b.pattern = b.pattern || !static
		b.args(cmd, words[1:])
	}
}

func (b *builder) args(cmd *Command, words []word) {
	args, size := lexArgs(words)
	if b.facts += size; b.facts > maxFacts {
		b.tooComplex("an option or path of %s is too long to be taken apart", excerpt(cmd.Program))
		return
	}
	cmd.Args = args
}

func texts(words []word) []string {
	t := make([]string, len(words))
	for i := range words {
		t[i] = words[i].text
	}
	return t
}

func wordFacts(words []word) []Word {
	facts := make([]Word, len(words))
	for i := range words {
		facts[i] = Word{Text: words[i].text, Kinds: words[i].kinds.list()}
	}
	return facts
}

func (b *builder) assigns(cmd *Command, c *syntax.CallExpr, p place) {
	if len(c.Assigns) == 0 {
		return
	}
	if len(c.Args) > 0 {
		b.add(hasAssignmentPrefix)
	} else {
		b.add(hasAssignment)
	}
	for _, a := range c.Assigns {
		if a.Append || a.Index != nil || a.Array != nil {
			b.add(hasArray)
			b.look(a, p)
		}
		var value word
		if a.Value != nil {
			value = b.word(a.Value, p)
		}
		if !value.literal() {
			b.unsent(value.kinds, value.text)
		}
		cmd.Assigns = append(cmd.Assigns, Assign{Name: a.Name.Value, Value: value.text, Static: value.literal()})
		b.put(a.Name.Value)
		b.put("=")
		b.canonical = appendQuoted(b.canonical, value.text)
		b.put(" ")
	}
}

// render writes the words of a call, every one quoted.
func (b *builder) render(words []word) {
	for i := range words {
		if i > 0 {
			b.put(" ")
		}
		if w := &words[i]; w.literal() {
			b.canonical = appendQuoted(b.canonical, w.text)
		} else {
			b.canonical = appendPattern(b.canonical, w.text, w.globs)
		}
	}
}

// script parses the string of sh -c, and puts its canonical form in its place:
// what was judged is what runs, inside too.
func (b *builder) script(w *word) Document {
	if b.level == maxScripts {
		b.tooComplex("sh -c is nested deeper than %d", maxScripts)
		return Document{}
	}
	inner := parse(w.text, b.level+1)
	switch {
	case inner.Certainty == Opaque && b.opaque == nil:
		b.opaque = refuse(inner.Error.Code, "in the text of sh -c: %s", inner.Error.Message)
	case inner.Certainty == Dynamic && b.dynamic == nil:
		b.dynamic = refuse(inner.Error.Code, "in the text of sh -c: %s", inner.Error.Message)
	case inner.Certainty == Pattern:
		b.pattern = true
	}
	for _, f := range inner.Features {
		b.features |= 1 << slices.Index(features[:], f)
	}
	w.text = inner.Canonical
	return inner
}

// adopt puts the commands of a script in the place of the shell that runs it.
func (b *builder) adopt(id int, inner Document) {
	outer := b.doc.Commands[id]
	for _, c := range inner.Commands {
		c.Wrappers = append(slices.Clip(outer.Wrappers), c.Wrappers...)
		c.Assigns = append(slices.Clip(outer.Assigns), c.Assigns...)
		c.Redirects = append(slices.Clip(outer.Redirects), c.Redirects...)
		c.Scope = slices.Concat(outer.Scope, []string{"shell"}, c.Scope)
		if c.User == "" {
			c.User = outer.User
		}
		if c.Stdin == "inherit" {
			c.Stdin = outer.Stdin
		}
		b.doc.Commands = append(b.doc.Commands, c)
	}
	b.doc.Commands = slices.Delete(b.doc.Commands, id, id+1)
	for i := range b.doc.Commands {
		b.doc.Commands[i].ID = i
	}
	b.doc.Writes = append(b.doc.Writes, inner.Writes...)
	b.doc.Reads = append(b.doc.Reads, inner.Reads...)
	if len(b.doc.Commands) > maxCommands {
		b.tooComplex("there are more than %d commands", maxCommands)
	}
}
