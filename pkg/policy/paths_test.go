package policy_test

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// What a grammar takes for a path is a file op, so that the rules on files see
// it: for all lines of the corpus that are permitted, and many more.
func TestPathOperandsAreFiles(t *testing.T) {
	o := readOracle(t)
	seen := map[string]bool{}
	check := func(context, line string) {
		doc := shell.Parse(line)
		ops := tool.Derive(doc)
		for _, c := range doc.Commands {
			for _, w := range o.pathsOf(context, c) {
				seen[c.Program] = true
				is := func(op tool.Op) bool {
					return op.Place == "host" && op.Call == c.ID && op.Path == path.Clean(w.text) && op.Pattern == w.pattern && op.Under != nil
				}
				if !slices.ContainsFunc(ops, is) {
					t.Errorf("%q: no file op for %q", line, w.text)
				}
			}
		}
	}
	for _, file := range corpora {
		for _, c := range readCorpus(t, file) {
			if c.Expect == "allow" {
				check(c.Context, c.Command)
			}
		}
	}
	g := newGenerator(o, rand.New(rand.NewPCG(3, 4)))
	for range 20_000 {
		context := g.pick("readonly", "diagnose", "ops")
		if line := g.command(context); o.permits(context, line) {
			check(context, line)
		}
	}
	for context := range o.Contexts {
		for _, program := range g.programs[context] {
			if o.takesPaths(o.grammar(context, program)) && !seen[program] {
				t.Errorf("%s takes paths and was not tried", program)
			}
		}
	}
}

// takesPaths says that some operand of a grammar is a path.
func (o *oracle) takesPaths(g *grammar) bool {
	isPath := func(kind string) bool { _, ok := o.Paths[strings.TrimSuffix(kind, "*")]; return ok }
	return g.FileTest || g.Git || g.Find != nil || slices.ContainsFunc(g.Operands, isPath)
}

// pathsOf are the words of a permitted command that its grammar takes for paths.
func (o *oracle) pathsOf(context string, c shell.Command) []word {
	g, words := o.grammar(context, c.Program), wordsOf(c)
	switch {
	case g == nil || !o.takesPaths(g):
		return nil
	case g.FileTest || g.Git:
		return words[1:2]
	case g.Find != nil:
		n := slices.IndexFunc(words, func(w word) bool { return strings.HasPrefix(w.text, "-") })
		if n < 0 {
			n = len(words)
		}
		return words[:n]
	}
	given, operands, _ := o.getopt(g, words)
	kinds := g.Operands
	for _, w := range g.When {
		if given.any(w.Option) {
			kinds = w.Operands
		}
	}
	var paths []word
	for i, w := range operands {
		kind := kinds[min(i, len(kinds)-1)]
		if _, isPath := o.Paths[strings.TrimSuffix(kind, "*")]; isPath {
			paths = append(paths, w)
		}
	}
	return paths
}
