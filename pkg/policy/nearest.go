package policy

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// nearest looks for the smallest changes to a call that would be allowed. It
// tries small edits, one after the other, and has each result judged: what it
// finds is allowed, and what it does not find may be allowed all the same.
type nearest struct {
	engine   *Engine
	question question
	allowed  allowances
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
	kindPath
	kindLogin
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
	if err := n.question.read(ctx, "data.sallyport.explain.allowances", d, &n.allowed); err != nil {
		return nil
	}
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
	all := slices.Concat(n.commands(from), n.paths(from), n.logins(from), wishes(from))
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

// mostOf is how many changes of each kind are named.
var mostOf = map[kind]int{kindCommand: 4, kindPath: 3, kindLogin: 3, kindHost: 3, kindSeconds: 1, kindBytes: 1}

// alternatives are the first few of each kind, those before the others that take
// the least away.
func alternatives(was Input, found []variant) []tool.Alternative {
	slices.SortStableFunc(found, func(a, b variant) int { return cmp.Compare(a.lost, b.lost) })
	named := map[kind]int{}
	var all []tool.Alternative
	for _, v := range found {
		a := alternative(was, v)
		again := slices.ContainsFunc(all, func(b tool.Alternative) bool {
			b.What = a.What
			return a == b && v.kind != kindLogin
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
	if at := fileAt(was.Ops); at >= 0 && !slices.Equal(v.input.Ops[at].Under, was.Ops[at].Under) {
		a.Path = v.input.Ops[at].Path
	}
	if v.input.Host.Alias == was.Host.Alias {
		a.Username = ifOther(v.input.Host.User, was.Host.User)
		a.Port = ifOther(v.input.Host.Port, was.Host.Port)
	}
	if wish := v.input.Limits.Requested; wish != was.Limits.Requested {
		a.MaxSeconds, a.MaxOutputBytes = wish.Seconds, wish.OutputBytes
	}
	return a
}

func ifOther[T comparable](v, was T) (other T) {
	if v != was {
		return v
	}
	return other
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

// fileAt is the op on a file of the host that the caller named; -1 without one.
func fileAt(ops []tool.Op) int {
	return slices.IndexFunc(ops, func(op tool.Op) bool { return op.Place == "host" && !op.Derived })
}
