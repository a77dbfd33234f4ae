package shell

import (
	"encoding/binary"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// outline is a syntax tree as bytes, for comparing what two grammars made of
// one text: what stands where, and the literal text. Adjoining literals run
// together, because the grammars cut them at different characters.
type outline struct {
	b       []byte
	marks   []mark
	comment bool // a comment ends in a backslash
}

// mark is where in the outline a node of the text begins.
type mark struct{ at, offset int }

// What a node is, as far as two grammars could take one for the other.
const (
	aNode = 0xF8 + iota // no byte of valid UTF-8
	aCall
	aWord
	aQuote
	aStmt
	aRedirect
)

func (o *outline) draw(f *syntax.File) {
	o.b, o.marks, o.comment = o.b[:0], o.marks[:0], false
	syntax.Walk(f, o.visit)
}

func (o *outline) visit(n syntax.Node) bool {
	switch n := n.(type) {
	case nil, *syntax.File:
	case *syntax.Comment:
		o.comment = o.comment || strings.HasSuffix(n.Text, "\\") || strings.Contains(n.Text, "\n")
	case *syntax.Lit:
		o.b = append(o.b, n.Value...)
	case *syntax.SglQuoted:
		o.node(aQuote, n, flag(n.Dollar))
		o.b = append(o.b, n.Value...)
	case *syntax.DblQuoted:
		o.node(aQuote, n, flag(n.Dollar)|2)
	case *syntax.Word:
		o.node(aWord, n, 0)
	case *syntax.CallExpr:
		o.node(aCall, n, len(n.Assigns))
	case *syntax.Stmt:
		o.comments(n.Comments)
		o.node(aStmt, n, flag(n.Negated)|flag(n.Background)<<1|flag(n.Coprocess)<<2|flag(n.Disown)<<3)
	case *syntax.Redirect:
		o.node(aRedirect, n, int(n.Op))
	case *syntax.BinaryCmd:
		o.node(aNode, n, int(n.Op))
	default:
		o.node(aNode, n, 0)
	}
	return true
}

// comments looks at those that Walk leaves out.
func (o *outline) comments(list []syntax.Comment) {
	for i := range list {
		o.visit(&list[i])
	}
}

func (o *outline) node(kind byte, n syntax.Node, detail int) {
	offset := int(n.Pos().Offset())
	o.marks = append(o.marks, mark{len(o.b), offset})
	o.b = append(o.b, kind, byte(detail))
	o.b = binary.LittleEndian.AppendUint16(o.b, uint16(offset))
}

// differs is the offset in the text where two outlines part.
func (o *outline) differs(other *outline) int {
	same := 0
	for same < len(o.b) && same < len(other.b) && o.b[same] == other.b[same] {
		same++
	}
	offset := 0
	for _, m := range o.marks {
		if m.at > same {
			break
		}
		offset = m.offset
	}
	return offset
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
