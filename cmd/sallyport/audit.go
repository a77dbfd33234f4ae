package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/tool"
)

func auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Check the audit stream",
		Long: `The audit stream is the record of what happened: every call, run, refusal and
reload, each line chained to the one before it.`,
		Example: "  sallyport audit verify audit.jsonl",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use:   "verify FILE...",
		Short: "Check that no line was changed, removed, added or moved",
		Long: `Follow the chain through the files, oldest first, and name the first line that
does not fit. Rotated files are given in their order: audit.jsonl.1 audit.jsonl.

A chain cannot show that lines are missing at its end. Keep the last chain hash
that this prints where the gateway cannot write, and compare.`,
		Example: "  sallyport audit verify audit.jsonl\n  sallyport audit verify audit.jsonl.1 audit.jsonl --output json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, file := range args {
				if info, err := os.Stat(file); err == nil && info.IsDir() {
					return fmt.Errorf("%s is a directory; give the files in it, oldest first, such as %s", file, filepath.Join(file, "audit.jsonl"))
				}
			}
			report, err := audit.VerifyFiles(args...)
			if err != nil {
				return ofFile(err)
			}
			return print(c, report, func(w io.Writer) {
				fmt.Fprintf(w, "%s, chain intact\n", tool.Count(report.Lines, "line"))
				fmt.Fprintf(w, "last line %d, chain %s\n", report.Last, report.Chain)
				for _, note := range report.Notes {
					fmt.Fprintln(w, "note: "+note)
				}
			})
		},
	})
	return c
}
