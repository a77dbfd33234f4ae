package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// nearest looks for the smallest changes to a call that would be allowed. It
// tries small edits, one after the other, and has each result judged: what it
// finds is allowed, and what it does not find may be allowed all the same.
type nearest struct {
	engine   *Engine
	question question
	judged   int
}

// How far the search goes.
const (
	maxJudged  = 400 // inputs in all
	maxSearch  = 2 * time.Second
	maxChanges = 3 // to one call
	maxOpen    = 8 // calls that are changed further
	maxOthers  = 8 // hosts that are tried
)

// kind is which argument of the call was changed first.
type kind int

const (
	kindNone kind = iota
	kindCommand
	kindHost
	kindSeconds
	kindBytes
)

// variant is a call with some changes.
type variant struct {
	input   Input
	kind    kind
	what    []string
	reasons int // why it is still refused
	lost    int // what the edits of the command cost
}

func (v variant) with(k kind, what string) variant {
	if v.kind == kindNone {
		v.kind = k
	}
	v.what = append(slices.Clip(v.what), what)
	return v
}

// search goes from the call as it is to those with one change, two changes and
// so on, and stops at the first number of changes that something is allowed with.
func (n *nearest) search(ctx context.Context, d Document, refused Answer, others []tool.Target) []tool.Alternative {
	if d.input.Version != InputVersion || refused.Problem != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxSearch)
	defer cancel()
	open := []variant{{input: d.input}}
	for range maxChanges {
		found, refused := n.try(ctx, open, others)
		if len(found) > 0 {
			return alternatives(d.input, found)
		}
		open = promising(refused)
	}
	return nil
}

// try has all that one more change makes of some calls judged.
func (n *nearest) try(ctx context.Context, open []variant, others []tool.Target) (found, refused []variant) {
	for _, from := range open {
		for _, v := range n.changed(from, others) {
			a, ok := n.judge(ctx, v.input)
			switch v.reasons = len(a.Reasons); {
			case !ok:
			case a.Allow:
				found = append(found, v)
			default:
				refused = append(refused, v)
			}
		}
	}
	return found, refused
}

// changed are the calls that one more change makes of a call. Another host is a
// change that is made alone.
func (n *nearest) changed(from variant, others []tool.Target) []variant {
	all := slices.Concat(n.commands(from), wishes(from))
	if from.kind == kindNone {
		all = append(all, onOthers(from, others)...)
	}
	return all
}

// promising are the variants with the fewest reasons left to refuse them.
func promising(all []variant) []variant {
	slices.SortStableFunc(all, func(a, b variant) int {
		return cmp.Or(cmp.Compare(a.reasons, b.reasons), cmp.Compare(a.lost, b.lost))
	})
	return all[:min(len(all), maxOpen)]
}

func (n *nearest) judge(ctx context.Context, in Input) (a Answer, ok bool) {
	if n.judged >= maxJudged || ctx.Err() != nil {
		return a, false
	}
	n.judged++
	return n.engine.ask(ctx, n.question, in.Document()), true
}

// commands are the edits of the command line, if the call has one.
func (n *nearest) commands(from variant) []variant {
	at := commandAt(from.input.Ops)
	if at < 0 {
		return nil
	}
	was := from.input.Ops[at].Command
	var all []variant
	for _, edit := range shell.Edits(was.Text, additions(n.question.revision.data.root, was.Commands)) {
		doc := shell.Parse(edit.Text)
		if was.Cwd != "" {
			doc = doc.In(was.Cwd)
		}
		if doc.Canonical == "" && was.Canonical != "" {
			continue
		}
		v := from.with(kindCommand, edit.What)
		v.input.Ops = withCommand(from.input.Ops, at, doc)
		v.lost = from.lost + edit.Cost
		all = append(all, v)
	}
	return all
}

// withCommand has another command line in the place of one, and what follows
// from it in the place of what followed.
func withCommand(ops []tool.Op, at int, doc shell.Document) []tool.Op {
	op := ops[at]
	op.Command = &doc
	rest := ops[at+1:]
	for len(rest) > 0 && rest[0].Derived {
		rest = rest[1:]
	}
	return slices.Concat(ops[:at], []tool.Op{op}, tool.Derive(doc), rest)
}

// additions are words that may be missing: options that a profile's table
// requires of a program, and those that wrappers are permitted with only.
func additions(root ast.Value, commands []shell.Command) []shell.Addition {
	all := []shell.Addition{{Program: "sudo", Word: "-n", First: true}}
	tables, _ := valueAt(root, "sallyport", "profiles", "commands").(ast.Object)
	if tables == nil {
		return all
	}
	tables.Foreach(func(_, table *ast.Term) {
		for _, c := range commands {
			for _, name := range requiredBy(valueAt(table.Value, c.Program)) {
				all = append(all, shell.Addition{Program: c.Program, Word: name})
			}
		}
	})
	return all
}

// requiredBy are the options without a value that a table requires, of a program
// or of one of its verbs.
func requiredBy(spec ast.Value) []string {
	object, _ := spec.(ast.Object)
	if object == nil {
		return nil
	}
	var names []string
	object.Foreach(func(k, v *ast.Term) {
		if key, _ := k.Value.(ast.String); key != "require" {
			names = append(names, requiredBy(v.Value)...)
		}
	})
	ast.WalkTerms(ast.NewTerm(orEmpty(valueAt(spec, "require"))), func(t *ast.Term) bool {
		name, isName := t.Value.(ast.String)
		switch {
		case !isName:
		case len(name) == 1 && strings.Contains(stringAt(spec, "flags"), string(name)):
			names = append(names, "-"+string(name))
		case len(name) > 1 && valueAt(spec, "long_valued", string(name)) == nil:
			names = append(names, "--"+string(name))
		}
		return false
	})
	return names
}

func orEmpty(v ast.Value) ast.Value {
	if v == nil {
		return ast.NewArray()
	}
	return v
}

// Wishes to try instead of a larger one, the largest first; 0 is no wish.
var (
	fewerSeconds = []int{3600, 600, 300, 60, 30, 10, 0}
	fewerBytes   = []int64{16 << 20, 1 << 20, 64 << 10, 0}
)

// wishes have the caller ask for less.
func wishes(from variant) []variant {
	var all []variant
	wish := from.input.Limits.Requested
	for _, n := range fewerSeconds {
		if n < wish.Seconds {
			v := from.with(kindSeconds, asking("max_seconds", int64(n)))
			v.input.Limits.Requested.Seconds = n
			all = append(all, v)
		}
	}
	for _, n := range fewerBytes {
		if n < wish.OutputBytes {
			v := from.with(kindBytes, asking("max_output_bytes", n))
			v.input.Limits.Requested.OutputBytes = n
			all = append(all, v)
		}
	}
	return all
}

func asking(name string, n int64) string {
	if n == 0 {
		return "without " + name
	}
	return fmt.Sprintf("with %s %d", name, n)
}

// onOthers make the call on other hosts.
func onOthers(from variant, others []tool.Target) []variant {
	var all []variant
	for _, t := range others[:min(len(others), maxOthers)] {
		v := from.with(kindHost, "on "+t.Alias)
		v.input.Host = newHost(t)
		v.input.Network = Network{Address: addressText(t.Address), Addresses: newAddresses(t.Addresses)}
		all = append(all, v)
	}
	return all
}

// mostOf is how many changes of each kind are named.
var mostOf = map[kind]int{kindCommand: 4, kindHost: 3, kindSeconds: 1, kindBytes: 1}

// alternatives are the first few of each kind, those before the others that take
// the least away.
func alternatives(was Input, found []variant) []tool.Alternative {
	slices.SortStableFunc(found, func(a, b variant) int { return cmp.Compare(a.lost, b.lost) })
	named := map[kind]int{}
	var all []tool.Alternative
	for _, v := range found {
		a := alternative(was, v)
		again := slices.ContainsFunc(all, func(b tool.Alternative) bool {
			return a.Command == b.Command && a.Alias == b.Alias && v.kind == kindCommand
		})
		if named[v.kind] < mostOf[v.kind] && !again {
			named[v.kind]++
			all = append(all, a)
		}
	}
	return all
}

// alternative are the arguments that are other than they were.
func alternative(was Input, v variant) tool.Alternative {
	a := tool.Alternative{What: strings.Join(v.what, ", ")}
	if v.input.Host.Alias != was.Host.Alias {
		a.Alias = v.input.Host.Alias
	}
	if line := commandIn(v.input); line != commandIn(was) {
		a.Command = line
	}
	if wish := v.input.Limits.Requested; wish != was.Limits.Requested {
		a.MaxSeconds, a.MaxOutputBytes = wish.Seconds, wish.OutputBytes
	}
	return a
}

func commandIn(in Input) string {
	if at := commandAt(in.Ops); at >= 0 {
		return in.Ops[at].Command.Text
	}
	return ""
}

// commandAt is the op with the command line that the caller gave; -1 without one.
func commandAt(ops []tool.Op) int {
	return slices.IndexFunc(ops, func(op tool.Op) bool { return op.Command != nil && !op.Derived })
}
