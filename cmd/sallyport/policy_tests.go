package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/policy/kit"
)

type policyTestFlags struct {
	run       string
	coverage  bool
	threshold float64
	verbose   bool
	timeout   time.Duration
}

func policyTestCommand() *cobra.Command {
	var f policyTestFlags
	c := &cobra.Command{
		Use:   "test BUNDLE...",
		Short: "Run the tests of policies, and say what they do not reach",
		Long: `Run the tests in bundles: rules called test_..., in files called ..._test.rego.
Where one fails, the condition that did not hold is shown with its values.

--coverage shows the lines of your rules that no test reached; files of tests and
the shipped rules do not count. A line may be reached and not be needed: that is
shown as index_excluded or early_exit, in the words of stock opa.

Stock opa runs the same with: opa test --bundle . sallyport.tar.gz`,
		Example: `  sallyport policy test ./night
  sallyport policy test ./night --coverage --threshold 100
  sallyport policy test ./night --run 'night_test\.test_day'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, bundles []string) error { return f.test(c, bundles) },
	}
	flags := c.Flags()
	flags.StringVarP(&f.run, "run", "r", "", "run only tests whose full name (data.custom.x_test.test_y) matches a regular expression")
	flags.BoolVarP(&f.coverage, "coverage", "c", false, "show the lines that no test reached")
	flags.Float64Var(&f.threshold, "threshold", 0, "fail below this coverage in percent; means --coverage")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show the tests that pass, too")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Second, "of each test")
	return c
}

func (f policyTestFlags) test(c *cobra.Command, bundles []string) error {
	if _, err := regexp.Compile(f.run); err != nil {
		return usageError(fmt.Errorf("--run: %w", err))
	}
	if f.threshold < 0 || f.threshold > 100 {
		return usageError(fmt.Errorf("--threshold %g is no percentage", f.threshold))
	}
	r, err := kit.RunTests(c.Context(), bundles, kit.TestOptions{
		Run: f.run, Coverage: f.coverage || f.threshold > 0, Timeout: f.timeout,
	})
	if err != nil {
		return err
	}
	if err := print(c, r, func(w io.Writer) { f.write(w, r) }); err != nil {
		return err
	}
	return failedIf(!r.OK() || r.Coverage != nil && r.Coverage.Percent < f.threshold)
}

func (f policyTestFlags) write(w io.Writer, r kit.TestReport) {
	for _, t := range r.Tests {
		if f.verbose || t.Outcome != kit.Passed {
			writeTest(w, t)
		}
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d errors, %d skipped\n", r.Passed, r.Failed, r.Broken, r.Skipped)
	if len(r.Tests) == 0 {
		fmt.Fprintln(w, "no tests were found: they are rules called test_... in files called ..._test.rego")
	}
	if r.Coverage != nil {
		f.writeCoverage(w, r.Coverage)
	}
}

func writeTest(w io.Writer, t kit.Test) {
	fmt.Fprintf(w, "%s:%d: %s: %s\n", t.File, t.Line, t.Name, strings.ToUpper(t.Outcome))
	for _, c := range t.Cases {
		if !c.Pass {
			fmt.Fprintf(w, "    case %s: FAIL\n", c.Name)
		}
	}
	if t.At != nil {
		fmt.Fprintf(w, "    %s:%d: %s\n", t.At.File, t.At.Line, t.At.Text)
		for _, v := range t.At.Values {
			fmt.Fprintf(w, "        %s\n", v)
		}
	}
	for _, more := range []string{t.Error, t.Printed} {
		if more != "" {
			fmt.Fprintf(w, "    %s\n", strings.ReplaceAll(more, "\n", "\n    "))
		}
	}
}

func (f policyTestFlags) writeCoverage(w io.Writer, c *kit.Coverage) {
	for _, file := range c.Files {
		for _, m := range file.Missed {
			where := fmt.Sprintf("%s:%d", file.File, m.From)
			if m.To > m.From {
				where += fmt.Sprintf("-%d", m.To)
			}
			why := ""
			if m.Why != "" {
				why = " (" + m.Why + ")"
			}
			fmt.Fprintf(w, "%s: not reached%s: %s\n", where, why, m.Text)
		}
	}
	verdict := ""
	if c.Percent < f.threshold {
		verdict = fmt.Sprintf(", but %g %% are wanted", f.threshold)
	}
	fmt.Fprintf(w, "%.1f %% of the rules' lines are reached%s\n", c.Percent, verdict)
}
