package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tools"
	"github.com/sallyport/sallyport/policies"
)

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "A policy-as-code SSH gateway for AI agents",
		Long: `Sallyport is an MCP server through which agents run commands on hosts over SSH.
Every call becomes a plan, every plan is judged by Rego policy, and exactly
what was judged is what runs. Decisions and outcomes are on record.

Exit codes of every command:
  0   done; of a plan, allowed
  1   an error
  2   denied
  64  wrong usage

With --output json, standard output holds JSON whatever happens. An error is
  {"error": {"code": "failed", "message": "...", "problems": [...]}}
where code is failed or usage, and problems, if there are any, has file, line,
message and remedy of each.`,
		Example: `  sallyport demo                            # the whole thing at work, on this machine alone
  sallyport init ./sallyport                # a commented configuration
  sallyport validate --config ./sallyport   # what is wrong with it, all at once
  sallyport plan --config ./sallyport --host local --command uptime
  sallyport serve --config ./sallyport      # MCP over stdio`,
		Args:              cobra.NoArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.PersistentFlags().String("config", "", "configuration directory `DIR` (default: SALLYPORT_CONFIG_DIR or MCP_SSH_CONFIG_DIR)")
	root.PersistentFlags().String("output", "text", "`FORM` of the result, text or json")
	root.SetFlagErrorFunc(flagProblem)
	root.AddCommand(
		serveCommand(), demoCommand(), initCommand(), validateCommand(),
		planCommand(), policyCommand(), replayCommand(), auditCommand(), healthcheckCommand(), versionCommand(),
	)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	checkUsage(root)
	onlyOwnFlags(root)
	return root
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "help [COMMAND]...",
		Short:       "Help about any command",
		Example:     "  sallyport help plan",
		Annotations: marked(noOutput),
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageOf(about, wrongArguments(about, rest))
			}
			return about.Help()
		},
	}
}

func outputOf(c *cobra.Command) string {
	o, _ := c.Flags().GetString("output")
	return o
}

// print writes a result in the form that --output asks for.
func print(c *cobra.Command, v any, text func(io.Writer)) error {
	if outputOf(c) == "json" {
		return printJSON(c, v)
	}
	text(c.OutOrStdout())
	return nil
}

func printJSON(c *cobra.Command, v any) error {
	enc := json.NewEncoder(c.OutOrStdout())
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// loadOnly reads the configuration directory that flags or environment name.
func loadOnly(c *cobra.Command, o config.Options) (*config.Config, error) {
	o.Dir, _ = c.Flags().GetString("config")
	o.Flags, o.Profiles, o.Toolsets = c.Flags(), policies.Profiles(), tools.Sets()
	conf, err := config.Load(o)
	var problems *config.Problems
	if errors.As(err, &problems) && problems.OfFlags() {
		return nil, usageError(err)
	}
	return conf, err
}

// loadConfig is loadOnly that tells of the warnings.
func loadConfig(c *cobra.Command, o config.Options) (*config.Config, error) {
	conf, err := loadOnly(c, o)
	if err != nil {
		return nil, err
	}
	for _, w := range conf.Warnings {
		fmt.Fprintln(c.ErrOrStderr(), "sallyport: "+w.String())
	}
	return conf, nil
}

func newLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}
