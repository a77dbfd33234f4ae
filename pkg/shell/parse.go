package shell

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"unicode/utf8"

	"mvdan.cc/sh/v3/syntax"
)

// Parse turns a command line into its document. It never fails: what cannot be
// understood is Opaque and says why. Its cost is bounded whatever the text.
//
// The text is parsed as bash and as a POSIX shell. Both readings must agree,
// and all that is known to differ between shells, or between the parser and
// shells, is refused as ShellDependent. What remains is rendered again as
// Canonical, so that what the parser may still have misread is not what is sent.
func Parse(text string) Document { return parse(text, 0) }

// parse is Parse for the text inside a number of sh -c.
func parse(text string, level int) (doc Document) {
	defer func() {
		if r := recover(); r != nil {
			doc = refused(text, refuse(Syntax, "the parser broke off; write the command in a simpler way"))
		}
	}()
	if err := gate(text); err != nil {
		return refused(text, err)
	}
	// A parser that panicked does not go back into the pool.
	p := parsers.Get().(*parser)
	doc = p.document(text, level)
	p.release()
	return doc
}

// refused is the document of text that is not understood at all.
func refused(text string, err *Error) Document {
	doc := newDocument(text)
	doc.Certainty, doc.Error = Opaque, err
	if err.Code == Empty {
		doc.Shape = ShapeEmpty
	}
	return doc
}

func newDocument(text string) Document {
	if !utf8.ValidString(text) {
		text = ""
	}
	return Document{
		Text: text, Shape: ShapeCompound, Features: []Feature{},
		Commands: []Command{}, Writes: []Redirect{}, Reads: []Redirect{},
	}
}

// parser is what one parse needs and the next one can use again.
type parser struct {
	bash, posix *syntax.Parser
	text        strings.Reader
	a, b        outline
	builder     builder
}

var parsers = sync.Pool{New: func() any {
	return &parser{
		bash:  syntax.NewParser(syntax.KeepComments(true), syntax.Variant(syntax.LangBash)),
		posix: syntax.NewParser(syntax.KeepComments(true), syntax.Variant(syntax.LangPOSIX)),
	}
}}

// release gives the parser back, without the text that it has read.
func (p *parser) release() {
	p.text.Reset("")
	p.builder = builder{words: p.builder.words, canonical: p.builder.canonical[:0]}
	parsers.Put(p)
}

func (p *parser) document(text string, level int) Document {
	tree, err := p.read(p.bash, text)
	if err != nil {
		return refused(text, p.syntaxError(text, err))
	}
	if len(tree.Stmts) == 0 {
		return refused(text, refuse(Empty, "there is nothing to run; give a command"))
	}
	doc := newDocument(text)
	b := &p.builder
	b.src, b.doc, b.level = text, &doc, level
	b.build(tree)
	if b.opaque == nil || b.opaque.Code != TooComplex && b.opaque.Code != ShellDependent {
		if err := p.disagreement(text, tree); err != nil {
			b.opaque = err
		}
	}
	b.close()
	return doc
}

func (p *parser) read(with *syntax.Parser, text string) (*syntax.File, error) {
	p.text.Reset(text)
	return with.Parse(&p.text, "")
}

// syntaxError says why bash refuses the text; text that only bash refuses is
// ShellDependent.
func (p *parser) syntaxError(text string, err error) *Error {
	if _, posixErr := p.read(p.posix, text); posixErr == nil {
		return refuse(ShellDependent, "bash does not accept what a POSIX shell does: %s; write it so that both read it alike", parseErrorText(err))
	}
	return refuse(Syntax, "%s; check quotes, brackets and operators", parseErrorText(err))
}

func parseErrorText(err error) string {
	var at syntax.Pos
	var parseErr syntax.ParseError
	var langErr syntax.LangError
	text := err.Error()
	switch {
	case errors.As(err, &parseErr):
		at, text = parseErr.Pos, parseErr.Text
	case errors.As(err, &langErr):
		at, text = langErr.Pos, langErr.Feature
	}
	return "at byte " + itoa(at.Offset()) + ": " + excerpt(text)
}

// disagreement parses the text as a POSIX shell and says where that differs
// from the tree, or what the tree's comments do that the parser gets wrong.
func (p *parser) disagreement(text string, bash *syntax.File) *Error {
	posix, err := p.read(p.posix, text)
	if err != nil {
		return refuse(ShellDependent, "a POSIX shell does not accept what bash does: %s; write it so that both read it alike", parseErrorText(err))
	}
	p.a.draw(bash)
	p.b.draw(posix)
	if p.a.comment {
		return refuse(ShellDependent, "a comment ends in a backslash, which shells and parsers do not agree on; leave the comment out")
	}
	if !bytes.Equal(p.a.b, p.b.b) {
		return refuse(ShellDependent, "bash and a POSIX shell read this differently, from byte %d on; write it so that both read it alike", p.a.differs(&p.b))
	}
	return continuation(text)
}

// continuation refuses a backslash at the end of a line that does not follow a
// blank: the parser and shells differ on several of them.
func continuation(text string) *Error {
	for i := 0; ; {
		next := strings.Index(text[i:], "\\\n")
		if next < 0 {
			return nil
		}
		at := i + next
		if at == 0 || text[at-1] != ' ' && text[at-1] != '\t' {
			return refuse(ShellDependent, "the backslash at the end of the line, at byte %d, does not follow a blank; put a space before it, or join the lines", at)
		}
		i = at + 2
	}
}
