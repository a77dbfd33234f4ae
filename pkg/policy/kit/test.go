package kit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// TestOptions say which tests are run and what is told of them.
type TestOptions struct {
	Run      string // a regular expression for full names: data.custom.night_test.test_x
	Coverage bool
	Timeout  time.Duration // of each test; default 5 s
}

// Outcomes of a test.
const (
	Passed  = "pass"
	Failed  = "fail"
	Skipped = "skip"
	Broken  = "error"
)

// TestReport is what came of the tests.
type TestReport struct {
	Passed   int       `json:"passed"`
	Failed   int       `json:"failed"`
	Skipped  int       `json:"skipped"`
	Broken   int       `json:"errors"`
	Tests    []Test    `json:"tests"`
	Coverage *Coverage `json:"coverage,omitempty"`
}

// OK says that nothing failed, and that there was something to run.
func (r TestReport) OK() bool { return r.Failed+r.Broken == 0 && r.Passed > 0 }

// Test is one test, and for a table of cases each of them.
type Test struct {
	Name    string  `json:"name"`
	File    string  `json:"file"`
	Line    int     `json:"line"`
	Outcome string  `json:"outcome"`
	Millis  float64 `json:"ms"`
	Cases   []Case  `json:"cases,omitempty"`
	Error   string  `json:"error,omitempty"`
	Printed string  `json:"printed,omitempty"` // by print statements
	// At is the condition that did not hold, and with what.
	At *FailedAt `json:"at,omitempty"`
}

// Case is one of several in a test.
type Case struct {
	Name string `json:"name"`
	Pass bool   `json:"pass"`
}

// FailedAt is a condition of a test.
type FailedAt struct {
	File   string   `json:"file"`
	Line   int      `json:"line"`
	Text   string   `json:"text"`
	Values []string `json:"values,omitempty"`
}

// Coverage is what of the team's rules the tests reached. Files of tests do not
// count, and neither do the shipped rules.
type Coverage struct {
	Percent float64        `json:"percent"`
	Files   []FileCoverage `json:"files"`
}

// FileCoverage is the coverage of one file.
type FileCoverage struct {
	File    string   `json:"file"`
	Percent float64  `json:"percent"`
	Missed  []Missed `json:"missed,omitempty"`
}

// Missed is a piece of a file that no test reached. Why is what stock opa calls
// index_excluded or early_exit: the piece would not have changed the result.
type Missed struct {
	From int    `json:"from"`
	To   int    `json:"to"`
	Text string `json:"text"`
	Why  string `json:"why,omitempty"`
}

// RunTests runs the Rego tests in bundles.
func RunTests(ctx context.Context, paths []string, o TestOptions) (TestReport, error) {
	if err := exist(paths); err != nil {
		return TestReport{}, err
	}
	l, err := load(paths)
	if err != nil {
		return TestReport{}, err
	}
	covered := cover.New()
	runner := tester.NewRunner().SetModules(l.modules()).
		// With the tests rewritten, each condition names its values; the ranges
		// that coverage counts would not be those of the files.
		SetCompiler(l.compiler().WithRewriteTestRules(!o.Coverage)).EnableTracing(!o.Coverage).
		CapturePrintOutput(true).SetTimeout(cmp.Or(o.Timeout, 5*time.Second)).Filter(o.Run)
	if o.Coverage {
		runner.SetCoverageQueryTracer(covered).SetCoverageRuns([]cover.Kind{cover.KindIndexExcluded, cover.KindEarlyExit})
	}
	r, err := run(ctx, runner, inmem.NewFromObject(l.all.Data))
	if err == nil && o.Coverage {
		r.Coverage = coverageOf(covered.Report(l.modules()), l.ofTeam())
	}
	return r, err
}

func run(ctx context.Context, runner *tester.Runner, store storage.Store) (TestReport, error) {
	r := TestReport{Tests: []Test{}}
	err := storage.Txn(ctx, store, storage.TransactionParams{}, func(txn storage.Transaction) error {
		results, err := runner.SetStore(store).RunTests(ctx, txn)
		if err != nil {
			return err
		}
		for result := range results {
			r.add(result)
		}
		return nil
	})
	slices.SortFunc(r.Tests, func(a, b Test) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return r, err
}

func (r *TestReport) add(result *tester.Result) {
	t := Test{
		Name: result.Package + "." + result.Name, Outcome: outcomeOf(result),
		Millis: float64(result.Duration.Microseconds()) / 1000, Printed: strings.TrimSpace(string(result.Output)),
	}
	if result.Location != nil {
		t.File, t.Line = result.Location.File, result.Location.Row
	}
	if result.Error != nil {
		t.Error = result.Error.Error()
	}
	for names, sub := range result.SubResults.Iter {
		if len(sub.SubResults) == 0 {
			t.Cases = append(t.Cases, Case{strings.Join(names, " "), !sub.Fail})
		}
	}
	if t.Outcome == Failed {
		t.At = failedAt(result.Trace)
	}
	r.Tests = append(r.Tests, t)
	r.count(t)
}

// count counts the cases of a test as stock opa does, each for itself.
func (r *TestReport) count(t Test) {
	counter := map[string]*int{Passed: &r.Passed, Failed: &r.Failed, Skipped: &r.Skipped, Broken: &r.Broken}
	if len(t.Cases) == 0 || t.Outcome == Broken {
		*counter[t.Outcome]++
	} else {
		for _, c := range t.Cases {
			*counter[map[bool]string{true: Passed, false: Failed}[c.Pass]]++
		}
	}
}

func outcomeOf(r *tester.Result) string {
	switch {
	case r.Skip:
		return Skipped
	case r.Error != nil:
		return Broken
	case r.Fail:
		return Failed
	}
	return Passed
}

// failedAt is the last condition that failed in a test.
func failedAt(trace []*topdown.Event) *FailedAt {
	for _, e := range slices.Backward(trace) {
		expr, isExpr := e.Node.(*ast.Expr)
		if e.Op != topdown.FailOp || !isExpr || e.Location == nil || e.QueryID == 0 {
			continue
		}
		if _, isEvery := expr.Terms.(*ast.Every); isEvery {
			continue // the condition inside it is meant
		}
		return &FailedAt{
			File: e.Location.File, Line: e.Location.Row,
			Text: strings.Join(strings.Fields(string(e.Location.Text)), " "), Values: localsOf(e),
		}
	}
	return nil
}

// localsOf are the variables of a failed condition, by the names in the file.
func localsOf(e *topdown.Event) []string {
	if e.Locals == nil {
		return nil
	}
	var values []string
	expr := e.Node.(*ast.Expr)
	ast.WalkVars(expr, func(v ast.Var) bool {
		value := e.Locals.Get(v)
		if meta, ok := e.LocalMetadata[v]; ok && value != nil && !meta.Name.IsGenerated() {
			values = append(values, fmt.Sprintf("%s = %s", meta.Name, clip(value.String())))
		}
		return false
	})
	slices.Sort(values)
	return slices.Compact(values)
}

func clip(s string) string {
	const most = 200
	if r := []rune(s); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return s
}

// coverageOf is the coverage of the team's own rules.
func coverageOf(report cover.Report, team []bundle.ModuleFile) *Coverage {
	c := &Coverage{Percent: 100, Files: []FileCoverage{}}
	covered, all := 0, 0
	for _, m := range team {
		if isTest(m.Path, nil, 0) {
			continue
		}
		f := report.Files[m.Path]
		if f == nil {
			continue
		}
		covered += f.CoveredLines
		all += f.CoveredLines + f.NotCoveredLines
		c.Files = append(c.Files, fileCoverage(m, f))
	}
	if all > 0 {
		c.Percent = 100 * float64(covered) / float64(all)
	}
	slices.SortFunc(c.Files, func(a, b FileCoverage) int { return cmp.Compare(a.File, b.File) })
	return c
}

func fileCoverage(m bundle.ModuleFile, f *cover.FileReport) FileCoverage {
	c := FileCoverage{File: m.Path, Percent: f.Coverage}
	lines := strings.Split(string(m.Raw), "\n")
	for _, r := range f.NotCovered {
		missed := Missed{From: r.Start.Row, To: r.End.Row, Text: strings.TrimSpace(lines[r.Start.Row-1])}
		for _, kind := range r.Kinds {
			missed.Why = strings.TrimPrefix(missed.Why+" "+string(kind), " ")
		}
		c.Missed = append(c.Missed, missed)
	}
	return c
}
