package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/policy/kit"
)

func policyCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check BUNDLE...",
		Short: "Say what is wrong with policies: types, built-ins, format, and what the gateway would refuse",
		Long: `Compile policies strictly under the schema of the input and the permitted
built-ins, so that a misspelt path is an error and not a rule that never holds;
look at their format; and, when all that is well, load them as the gateway would.

Stock opa says the same with
  opa check --strict --bundle --schema schemas/input.json --capabilities capabilities.json . sallyport.tar.gz
  opa fmt --list --fail .
but for problems with the code "gate", which only the gateway minds: a deny that
is no set, a rule that nobody asks, no revision, a decision that takes too long.`,
		Example: "  sallyport policy check ./night\n  sallyport policy check ./night ./teams --output json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, bundles []string) error {
			problems, err := kit.Check(c.Context(), bundles)
			if err != nil {
				return err
			}
			report := checkReport{Valid: len(problems) == 0, Problems: append([]kit.Problem{}, problems...)}
			if err := print(c, report, report.write); err != nil {
				return err
			}
			return failedIf(!report.Valid)
		},
	}
}

type checkReport struct {
	Valid    bool          `json:"valid"`
	Problems []kit.Problem `json:"problems"`
}

func (r checkReport) write(w io.Writer) {
	for _, p := range r.Problems {
		fmt.Fprintln(w, p)
	}
	if r.Valid {
		fmt.Fprintln(w, "valid")
	} else {
		fmt.Fprintf(w, "%s\n", counted(len(r.Problems), "problem"))
	}
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// failedIf ends a command whose answer is no, and has been printed.
func failedIf(failed bool) error {
	if failed {
		return &exitError{code: exitError1}
	}
	return nil
}

func policyFmtCommand() *cobra.Command {
	var write bool
	c := &cobra.Command{
		Use:     "fmt PATH...",
		Short:   "List files that are not formatted as opa fmt does, or format them",
		Long:    "List the Rego files below the paths that are not formatted as opa fmt does;\nwith --write, format them.",
		Example: "  sallyport policy fmt ./night\n  sallyport policy fmt --write ./night",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, paths []string) error {
			files, err := kit.Format(paths, write)
			if err != nil {
				return err
			}
			report := map[string]any{"written": write, "files": append([]string{}, files...)}
			err = print(c, report, func(w io.Writer) {
				for _, file := range files {
					fmt.Fprintln(w, file)
				}
			})
			if err != nil {
				return err
			}
			return failedIf(len(files) > 0 && !write)
		},
	}
	c.Flags().BoolVarP(&write, "write", "w", false, "format the files")
	return c
}
