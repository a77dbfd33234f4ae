package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/policies"
)

func initCommand() *cobra.Command {
	var from string
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a commented, working configuration; never overwrites",
		Long: `Write sallyport.yml, servers.yml, credentials.yml and policy.yml with comments,
and the folders keys and secrets. When any of the files exists, nothing is
written.

With --import, servers.yml and credentials.yml are those of a directory of
mcp-ssh-orchestrator, and policy.yml is its policy in version 3, with comments
that say of each rule what is different and why. Keys and secrets stay where
they are.`,
		Example: "  sallyport init ./sallyport\n  sallyport init --import ./config ./sallyport\n  sallyport validate --config ./sallyport",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			done, err := initialise(args[0], from)
			if err != nil {
				return err
			}
			return print(c, done, done.write)
		},
	}
	c.Flags().StringVar(&from, "import", "", "configuration `DIR` of mcp-ssh-orchestrator to convert")
	return c
}

// initialised is what init wrote.
type initialised struct {
	Dir string `json:"dir"`
	config.Imported
}

func initialise(dir, from string) (done initialised, err error) {
	done.Dir = dir
	if from == "" {
		done.Written, err = config.Init(dir)
	} else {
		done.Imported, err = config.Import(dir, config.Options{Dir: from, Profiles: policies.Profiles()})
	}
	return done, err
}

func (d initialised) write(w io.Writer) {
	for _, path := range d.Written {
		fmt.Fprintln(w, "wrote "+path)
	}
	if d.Left == nil {
		fmt.Fprintf(w, "\nEdit servers.yml and credentials.yml, then:\n  sallyport validate --config %s\n", d.Dir)
		return
	}
	fmt.Fprintln(w, "\nLeft to do:")
	for _, left := range d.Left {
		fmt.Fprintln(w, "  "+left)
	}
	fmt.Fprintf(w, "Read policy.yml, then:\n  sallyport validate --config %s\n", d.Dir)
}
