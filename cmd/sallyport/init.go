package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
)

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Write a commented, working configuration; never overwrites",
		Long: `Write sallyport.yml, servers.yml, credentials.yml and policy.yml with comments,
and the folders keys and secrets. When any of the files exists, nothing is
written.`,
		Example: "  sallyport init ./sallyport\n  sallyport validate --config ./sallyport",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			written, err := config.Init(args[0])
			if err != nil {
				return err
			}
			return print(c, map[string]any{"dir": args[0], "written": written}, func(w io.Writer) {
				for _, path := range written {
					fmt.Fprintln(w, "wrote "+path)
				}
				fmt.Fprintf(w, "\nEdit servers.yml and credentials.yml, then:\n  sallyport validate --config %s\n", args[0])
			})
		},
	}
}
