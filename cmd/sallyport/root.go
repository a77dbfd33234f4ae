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

const (
	exitDone   = 0
	exitError1 = 1
	exitDenied = 2
	exitUsage  = 64
)

// exitError is an error with the exit code that it asks for. Without a cause
// everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) error { return &exitError{exitUsage, err} }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "A policy-as-code SSH gateway for AI agents",
		Long: `Sallyport is an MCP server through which agents run commands on hosts over SSH.
Every call becomes a plan, every plan is judged by Rego policy, and exactly
what was judged is what runs. Decisions and outcomes are on record.

Start with:
  sallyport demo                  see the whole thing work, on this machine alone
  sallyport init ./sallyport      write a commented configuration
  sallyport serve --config ./sallyport

Exit codes: 0 done or allowed, 1 an error, 2 denied, 64 wrong usage. With
--output json an error is {"error": {"code", "message", "problems"}} on standard
output, where code is failed or usage, and problems has file and line of each.`,
		Args:              cobra.NoArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.PersistentFlags().String("config", "", "configuration directory (SALLYPORT_CONFIG_DIR, MCP_SSH_CONFIG_DIR)")
	root.PersistentFlags().String("output", "text", "text or json")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
	})
	root.AddCommand(
		serveCommand(), demoCommand(), initCommand(), validateCommand(),
		planCommand(), replayCommand(), auditCommand(), healthcheckCommand(), versionCommand(),
	)
	checkUsage(root)
	return root
}

// Marks of a command that reads a configuration, and of one that has no result
// to give in another form.
const (
	readsConfig = "config"
	noOutput    = "text"
)

func marked(marks ...string) map[string]string {
	m := map[string]string{}
	for _, mark := range marks {
		m[mark] = "yes"
	}
	return m
}

// checkUsage makes a wrong number of arguments, and flags that are wrong or mean
// nothing to the command, errors of usage, for a command and those below it.
func checkUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageOf(c, err)
			}
			return nil
		}
	}
	check := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		err := checkFlags(c)
		if err == nil && check != nil {
			err = check(c, args)
		}
		if err != nil {
			return usageOf(c, err)
		}
		return nil
	}
	for _, sub := range c.Commands() {
		checkUsage(sub)
	}
}

func usageOf(c *cobra.Command, err error) error {
	return usageError(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
}

// checkFlags looks at the flags that all commands have.
func checkFlags(c *cobra.Command) error {
	switch o := outputOf(c); {
	case o != "text" && o != "json":
		return fmt.Errorf("--output %q is neither text nor json", o)
	case o == "json" && c.Annotations[noOutput] != "":
		return fmt.Errorf("%s has no output in JSON", c.CommandPath())
	case c.Flags().Changed("config") && c.Annotations[readsConfig] == "":
		return fmt.Errorf("%s reads no configuration, so --config means nothing to it", c.CommandPath())
	}
	return nil
}

func outputOf(c *cobra.Command) string {
	o, _ := c.Flags().GetString("output")
	return o
}

// print writes a result in the form that --output asks for.
func print(c *cobra.Command, v any, text func(io.Writer)) error {
	if outputOf(c) == "json" {
		enc := json.NewEncoder(c.OutOrStdout())
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	text(c.OutOrStdout())
	return nil
}

// loadOnly reads the configuration directory that flags or environment name.
func loadOnly(c *cobra.Command, o config.Options) (*config.Config, error) {
	o.Dir, _ = c.Flags().GetString("config")
	o.Flags, o.Profiles, o.Toolsets = c.Flags(), policies.Profiles(), tools.Sets()
	conf, err := config.Load(o)
	var problems *config.Problems
	if errors.As(err, &problems) && problems.OfFlags() {
		return nil, usageOf(c, err)
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

// plural is a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// failure is an error as --output json gives it.
type failure struct {
	Code     string           `json:"code"` // usage or failed
	Message  string           `json:"message"`
	Problems []config.Problem `json:"problems,omitempty"`
}

// say tells of an error in the form that --output asks for.
func (e *exitError) say(c *cobra.Command) {
	if outputOf(c) != "json" {
		fmt.Fprintln(c.ErrOrStderr(), "sallyport: "+e.err.Error())
		return
	}
	f := failure{Code: "failed", Message: e.err.Error()}
	if e.code == exitUsage {
		f.Code = "usage"
	}
	var problems *config.Problems
	if errors.As(e.err, &problems) {
		f.Problems = problems.List
	}
	_ = print(c, map[string]failure{"error": f}, nil)
}

func newLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}
