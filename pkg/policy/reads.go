package policy

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// reads are the parts of an input that rules look at, as a tree of field names.
// Whatever else an input holds makes no difference to these rules: with the same
// data, two inputs that agree in these parts are judged alike. The tree errs on
// one side only. A place that rules find by computing, or by going through a
// list, counts with all that is around it.
type reads struct {
	whole  bool // this place with all that is below it
	fields map[string]*reads
}

// readsOf collects what a document and all that it depends on look at.
func readsOf(c *ast.Compiler, document ast.Ref) *reads {
	r, seen := &reads{}, map[*ast.Rule]bool{}
	r.follow(c, document, seen)
	return r
}

// follow adds what the rules look at that a reference may lead to.
func (r *reads) follow(c *ast.Compiler, ref ast.Ref, seen map[*ast.Rule]bool) {
	for _, rule := range rulesBehind(c, ref) {
		if seen[rule] {
			continue
		}
		seen[rule] = true
		ast.WalkRefs(rule, func(ref ast.Ref) bool {
			if ref[0].Equal(ast.DefaultRootDocument) {
				r.follow(c, ref, seen)
			} else {
				r.look(ref)
			}
			return false
		})
	}
}

// rulesBehind are all rules that a reference may lead to.
func rulesBehind(c *ast.Compiler, ref ast.Ref) []*ast.Rule {
	return c.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true})
}

// look takes in what a reference that leads to no data looks at.
func (r *reads) look(ref ast.Ref) {
	switch {
	case ref[0].Equal(ast.InputRootDocument):
		r.add(ref)
	case impure()[ref.String()]:
		r.whole = true
	}
}

// impure are the permitted built-ins whose value depends on more than their
// arguments: on the time of the decision. Rules that use one look at everything.
var impure = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{}
	permitted, err := capabilities()
	if err != nil {
		panic("policies: the embedded capabilities cannot be read: " + err.Error())
	}
	for _, b := range permitted.Builtins {
		names[b.Name] = b.Nondeterministic
	}
	return names
})

// add takes in the place that a reference into the input leads to, as far as it
// is known before the rule is asked.
func (r *reads) add(ref ast.Ref) {
	for _, step := range ref[1:] {
		name, known := step.Value.(ast.String)
		if !known || r.whole {
			break
		}
		r = r.field(string(name))
	}
	r.whole = true
}

func (r *reads) field(name string) *reads {
	if r.fields == nil {
		r.fields = map[string]*reads{}
	}
	if r.fields[name] == nil {
		r.fields[name] = &reads{}
	}
	return r.fields[name]
}

// touches says whether anything at, above or below a place is looked at.
func (r *reads) touches(place []string) bool {
	for _, name := range place {
		if r.whole {
			return true
		}
		if r = r.fields[name]; r == nil {
			return false
		}
	}
	return true
}

func (r *reads) none() bool { return !r.whole && len(r.fields) == 0 }

// String lists the places, for people and tests.
func (r *reads) String() string {
	places := r.places("input")
	slices.Sort(places)
	return strings.Join(places, " ")
}

func (r *reads) places(at string) []string {
	if r.whole {
		return []string{at}
	}
	var all []string
	for name, below := range r.fields {
		all = append(all, below.places(at+"."+name)...)
	}
	return all
}

// prune appends to dst the JSON object text without what is not looked at.
func (r *reads) prune(dst, text []byte) []byte {
	if r.whole || text[0] != '{' {
		return append(dst, text...)
	}
	dst = append(dst, '{')
	begin := len(dst)
	for m := range members(text) {
		below := r.fields[string(m.name)]
		if below == nil {
			continue
		}
		if len(dst) > begin {
			dst = append(dst, ',')
		}
		dst = append(append(dst, m.quoted...), ':')
		dst = below.prune(dst, m.value)
	}
	return append(dst, '}')
}
