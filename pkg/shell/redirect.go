package shell

import (
	"strconv"

	"mvdan.cc/sh/v3/syntax"
)

// direction is what a redirection operator does.
type direction struct {
	op string
	fd int // without a digit before it
}

var directions = map[syntax.RedirOperator]direction{
	syntax.RdrOut:   {"write", 1},
	syntax.RdrClob:  {"write", 1},
	syntax.AppOut:   {"append", 1},
	syntax.RdrIn:    {"read", 0},
	syntax.RdrInOut: {"readwrite", 0},
	syntax.DplIn:    {"dup", 0},
	syntax.DplOut:   {"dup", 1},
	syntax.Hdoc:     {"heredoc", 0},
	syntax.DashHdoc: {"heredoc", 0},
	syntax.WordHdoc: {"herestring", 0},
	syntax.RdrAll:   {"write", 1},
	syntax.AppAll:   {"append", 1},
}

// redirects adds the redirections of a call to it.
func (b *builder) redirects(cmd *Command, list []*syntax.Redirect, follows bool, p place) {
	for _, r := range list {
		if follows {
			b.put(" ")
		}
		follows = true
		got := b.redirect(r, p)
		cmd.Redirects = append(cmd.Redirects, got)
		if got.FD == 0 {
			cmd.Stdin = stdinOf(got)
		}
	}
}

func stdinOf(r Redirect) string {
	switch {
	case r.Op == "heredoc", r.Op == "herestring":
		return r.Op
	case r.Op == "close", r.Static && r.Path == "/dev/null":
		return "null"
	}
	return "file"
}

// detached are the redirections of a compound command, which belong to no call.
func (b *builder) detached(list []*syntax.Redirect, p place) {
	for _, r := range list {
		got := b.redirect(r, p)
		b.notStatic(FeatureRedirect, "")
		switch got.Op {
		case "write", "append":
			b.doc.Writes = append(b.doc.Writes, got)
		case "read":
			b.doc.Reads = append(b.doc.Reads, got)
		case "readwrite":
			b.doc.Writes = append(b.doc.Writes, got)
			b.doc.Reads = append(b.doc.Reads, got)
		}
	}
}

// redirect reads one redirection and renders it.
func (b *builder) redirect(r *syntax.Redirect, p place) Redirect {
	d := directions[r.Op]
	got := Redirect{Op: d.op, FD: d.fd}
	if d.op == "" {
		b.unsent(hasUnknown, r.Op.String())
	}
	if r.N != nil {
		got.FD = b.descriptor(r.N.Value)
		b.put(r.N.Value)
	}
	target := b.word(r.Word, p)
	got.Path, got.Static = target.text, target.literal()
	if !got.Static {
		b.unsent(target.kinds, target.text)
	}
	switch {
	case d.op == "heredoc":
		b.heredoc(r, &got, p)
	case d.op == "dup":
		b.duplicate(r, &got)
	case r.Op == syntax.RdrAll || r.Op == syntax.AppAll:
		b.add(hasRedirectBoth)
	case d.op == "herestring":
		b.add(hasHerestring)
	case r.Op == syntax.RdrOut && (got.FD == 1 || got.FD == 2) && got.Static && got.Path == "/dev/null":
		b.add(hasRedirectNull)
	default:
		b.add(hasRedirect)
	}
	b.adjoins(r.Word)
	b.put(r.Op.String())
	if d.op == "dup" {
		b.put(target.text)
	} else {
		b.canonical = appendQuoted(b.canonical, target.text)
	}
	return got
}

// descriptor is the number before a redirection: one digit, as not every shell
// has more.
func (b *builder) descriptor(s string) int {
	if len(s) != 1 {
		b.odd("the descriptor "+excerpt(s), "use one digit")
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// duplicate is >&WORD or <&WORD. With a word that is neither a digit nor a dash
// bash writes both streams to a file of that name; others refuse it.
func (b *builder) duplicate(r *syntax.Redirect, got *Redirect) {
	switch word := got.Path; {
	case !got.Static:
		b.add(hasRedirect)
	case word == "-":
		got.Op, got.Path = "close", ""
		b.add(hasRedirect)
	case len(word) == 1 && isDigits(word):
		if r.Op == syntax.DplOut && got.FD == 2 && word == "1" {
			b.add(hasRedirectDup)
		} else {
			b.add(hasRedirect)
		}
	case r.Op == syntax.DplOut && !isDigits(word):
		got.Op = "write"
		b.add(hasRedirectBoth)
	default:
		b.add(hasRedirect)
		b.odd(r.Op.String()+excerpt(word), "use one digit or a dash")
	}
}

func (b *builder) heredoc(r *syntax.Redirect, got *Redirect, p place) {
	b.unsent(hasHeredoc, "")
	got.Static, got.Path = false, ""
	if r.Hdoc != nil {
		b.look(r.Hdoc, p)
	}
}

// adjoins refuses >1>file: the parser takes the digit for the first target,
// shells take it for the descriptor of the second redirection, and give up.
func (b *builder) adjoins(w *syntax.Word) {
	end := int(w.End().Offset())
	if b.opaque == nil && end < len(b.src) && (b.src[end] == '<' || b.src[end] == '>') && isDigits(w.Lit()) {
		b.opaque = refuse(Syntax, "at byte %d: a file called %s right before a redirection; put a space after it", end, w.Lit())
	}
}
