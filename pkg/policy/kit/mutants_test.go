package kit

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

var (
	mutants    = flag.Int("mutants", 100, "how many mutants of the shipped rules to try; 0 is all of them, which takes some ten minutes")
	mutantSeed = flag.Uint64("mutants.seed", 1, "which of them")
	mutantsIn  = flag.String("mutants.in", "", "only those in files that match a regular expression")
)

// A mutant is a shipped rule with one small fault. Tests that are worth their
// names notice it.
type mutant struct {
	file string // in the bundle: /sallyport/host/host.rego
	line int
	rule string
	kind string
	text string // of the condition, or the head of the rule
	make func(*ast.Module)
}

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", m.file[1:], m.line, m.kind, m.text)
}

// key is what a mutant is known by when lines have moved.
func (m mutant) key() string {
	return strings.Join([]string{m.file[1:], m.rule, m.kind, m.text}, ": ")
}

// What is done to a condition.
const (
	leftOut     = "left out"      // a condition that always holds
	turned      = "turned round"  // == for !=, < for >=, no not
	shifted     = "shifted"       // < for <=
	withoutRule = "rule left out" //
)

var (
	opposites = map[string]*ast.Builtin{
		ast.Equal.Name: ast.NotEqual, ast.NotEqual.Name: ast.Equal,
		ast.LessThan.Name: ast.GreaterThanEq, ast.GreaterThanEq.Name: ast.LessThan,
		ast.GreaterThan.Name: ast.LessThanEq, ast.LessThanEq.Name: ast.GreaterThan,
	}
	edges = map[string]*ast.Builtin{
		ast.LessThan.Name: ast.LessThanEq, ast.LessThanEq.Name: ast.LessThan,
		ast.GreaterThan.Name: ast.GreaterThanEq, ast.GreaterThanEq.Name: ast.GreaterThan,
	}
)

// mutantsOf are all mutants of a module. What is to be changed is found by its
// position in the walk, as each mutant is made of a copy.
func mutantsOf(file string, m *ast.Module) []mutant {
	var all []mutant
	add := func(r *ast.Rule, l *ast.Location, kind, text string, change func(*ast.Module)) {
		name := r.Head.Ref().GroundPrefix().String()
		all = append(all, mutant{file, l.Row, name, kind, strings.Join(strings.Fields(text), " "), change})
	}
	for i, c := range conditions(m) {
		at := func(change func(*ast.Expr)) func(*ast.Module) {
			return func(m *ast.Module) { change(conditions(m)[i].expr) }
		}
		e, text := c.expr, string(c.expr.Loc().Text)
		add(c.rule, e.Loc(), leftOut, text, at(func(e *ast.Expr) { e.Terms, e.Negated = ast.BooleanTerm(true), false }))
		operator := operatorOf(e)
		switch {
		case e.Negated, operator == ast.Member.Name:
			add(c.rule, e.Loc(), turned, text, at(func(e *ast.Expr) { e.Negated = !e.Negated }))
		case opposites[operator] != nil:
			add(c.rule, e.Loc(), turned, text, at(operate(opposites[operator])))
		}
		if edges[operator] != nil {
			add(c.rule, e.Loc(), shifted, text, at(operate(edges[operator])))
		}
	}
	for i, r := range m.Rules {
		add(r, r.Loc(), withoutRule, headLine(r), func(m *ast.Module) { m.Rules = slices.Delete(m.Rules, i, i+1) })
	}
	return all
}

func headLine(r *ast.Rule) string {
	first, _, _ := strings.Cut(string(r.Loc().Text), "\n")
	return first
}

func operatorOf(e *ast.Expr) string {
	if !e.IsCall() {
		return ""
	}
	return e.Operator().String()
}

func operate(b *ast.Builtin) func(*ast.Expr) {
	return func(e *ast.Expr) { e.Terms.([]*ast.Term)[0] = ast.NewTerm(b.Ref()) }
}

// condition is an expression that can fail, of a rule.
type condition struct {
	rule *ast.Rule
	expr *ast.Expr
}

// conditions are those of a module, in a steady order. What declares a variable
// cannot be left out.
func conditions(m *ast.Module) []condition {
	var all []condition
	for _, r := range m.Rules {
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			_, declares := e.Terms.(*ast.SomeDecl)
			holds, _ := e.Terms.(*ast.Term)
			trivial := holds != nil && holds.Equal(ast.BooleanTerm(true))
			if !declares && !trivial && !e.IsAssignment() && e.Loc() != nil {
				all = append(all, condition{r, e})
			}
			return false
		})
	}
	return all
}

// shippedSources is the bundle with its tests, as it is in the repository.
func shippedSources(t *testing.T) (modules map[string]*ast.Module, data map[string]any) {
	t.Helper()
	b, err := bundle.NewCustomReader(bundle.NewFSLoaderWithRoot(os.DirFS("../../../policies"), ".")).
		WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).WithLazyLoadingMode(false).Read()
	if err != nil {
		t.Fatal(err)
	}
	modules = map[string]*ast.Module{}
	for _, m := range b.Modules {
		modules[m.Path] = m.Parsed
	}
	return modules, b.Data
}

// Outcomes of a mutant.
const (
	caught   = "caught"
	survived = "survived"
	unviable = "unviable" // does not compile
)

// suite is the shipped rules with their tests, and what each test says when
// nothing is wrong: of a table of cases, which of them pass. To hold the values
// against each other is quicker than to have the tester look at a trace.
type suite struct {
	modules map[string]*ast.Module
	store   storage.Store
	tests   []test
}

type test struct {
	file string
	name ast.Ref
	want ast.Value
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	modules, data := shippedSources(t)
	s := &suite{modules: modules, store: inmem.NewFromObjectWithOpts(data, inmem.OptReturnASTValuesOnRead(true))}
	c := ast.NewCompiler()
	if c.Compile(s.copies()); c.Failed() {
		t.Fatal(c.Errors)
	}
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		s.addTests(t, c, file)
	}
	return s
}

func (s *suite) addTests(t *testing.T, c *ast.Compiler, file string) {
	t.Helper()
	m := s.modules[file]
	seen := map[string]bool{}
	for _, r := range m.Rules {
		name := string(r.Head.Ref()[0].Value.(ast.Var))
		if !isTest(file, nil, 0) || !strings.HasPrefix(name, "test_") || seen[name] {
			continue
		}
		seen[name] = true
		one := test{file: file, name: m.Package.Path.Append(ast.StringTerm(name))}
		if one.want = s.ask(t.Context(), c, one.name); one.want == nil {
			t.Fatalf("%s fails as it is", one.name)
		}
		s.tests = append(s.tests, one)
	}
}

func (s *suite) copies() map[string]*ast.Module {
	all := make(map[string]*ast.Module, len(s.modules))
	for file, m := range s.modules {
		all[file] = m.Copy()
	}
	return all
}

// ask is the value of a rule; nil if it has none or breaks.
func (s *suite) ask(ctx context.Context, c *ast.Compiler, rule ast.Ref) ast.Value {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	asTerm := func(t *ast.Term, _ *rego.EvalContext) (any, error) { return t, nil }
	results, err := rego.New(
		rego.ParsedQuery(ast.NewBody(ast.NewExpr(ast.NewTerm(rule)))), rego.Compiler(c), rego.Store(s.store), rego.GenerateJSON(asTerm),
	).Eval(ctx)
	if err != nil || len(results) == 0 {
		return nil
	}
	return results[0].Expressions[0].Value.(*ast.Term).Value
}

// try runs the tests against a mutant until one says something else: first those
// beside it, then those of its package.
func (s *suite) try(ctx context.Context, m mutant) string {
	changed := s.copies()
	m.make(changed[m.file])
	c := ast.NewCompiler()
	if c.Compile(changed); c.Failed() {
		return unviable
	}
	for _, one := range slices.SortedStableFunc(slices.Values(s.tests), func(a, b test) int {
		return cmp.Compare(m.far(a.file), m.far(b.file))
	}) {
		if got := s.ask(ctx, c, one.name); got == nil || got.Compare(one.want) != 0 {
			return caught
		}
	}
	return survived
}

// far is how far a file of tests is from the mutant.
func (m mutant) far(file string) int {
	switch {
	case file == strings.TrimSuffix(m.file, ".rego")+"_test.rego":
		return 0
	case path.Dir(file) == path.Dir(m.file):
		return 1
	}
	return 2
}

// The tests of the shipped rules notice when a rule is wrong. Those mutants that
// none has to notice are listed, with the reason.
func TestMutantsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	s := newSuite(t)
	known, unused := unnoticed(t)
	chosen, total := choose(t, s.modules)
	outcomes := make([]string, len(chosen))
	var next sync.WaitGroup
	turn := make(chan int)
	for range min(runtime.GOMAXPROCS(0), 4) {
		next.Go(func() {
			for i := range turn {
				outcomes[i] = s.try(t.Context(), chosen[i])
			}
		})
	}
	for i := range chosen {
		turn <- i
	}
	close(turn)
	next.Wait()
	count := map[string]int{}
	for i, m := range chosen {
		count[outcomes[i]]++
		switch listed := known[m.key()]; {
		case outcomes[i] == survived && listed:
			count["listed"]++
		case outcomes[i] == survived:
			t.Errorf("no test notices it: %s", m)
		}
		if outcomes[i] == survived {
			delete(unused, m.key())
		}
	}
	tried := count[caught] + count[survived]
	t.Logf("of %d mutants %d were tried", total, len(chosen))
	t.Logf("%d of %d mutants are caught, %.1f %%; of %d more it is known why no test has to notice them, and %d do not compile",
		count[caught], tried-count["listed"], 100*float64(count[caught])/float64(max(1, tried-count["listed"])), count["listed"], count[unviable])
	if *mutants == 0 && *mutantsIn == "" {
		for key := range unused {
			t.Errorf("testdata/unnoticed.txt lists what no mutant is, or a test notices: %s", key)
		}
	}
}

// choose picks the mutants to try.
func choose(t *testing.T, modules map[string]*ast.Module) (chosen []mutant, total int) {
	t.Helper()
	in, err := regexp.Compile(*mutantsIn)
	if err != nil {
		t.Fatal(err)
	}
	var all []mutant
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		if !isTest(path.Base(file), nil, 0) && in.MatchString(file) {
			all = append(all, mutantsOf(file, modules[file])...)
		}
	}
	total = len(all)
	if *mutants > 0 && *mutants < total {
		r := rand.New(rand.NewPCG(*mutantSeed, 0))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:*mutants]
	}
	return all, total
}

// unnoticed are the mutants that are listed: lines of their keys, below comments
// that say why.
func unnoticed(t *testing.T) (listed, unused map[string]bool) {
	t.Helper()
	f, err := os.Open("testdata/unnoticed.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	listed = map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			listed[line] = true
		}
	}
	return listed, maps.Clone(listed)
}
