package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sallyport/sallyport/pkg/config"
)

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
// nothing to the command, errors of usage, for a command and those below it. A
// command that only has others below it needs one of them.
func checkUsage(c *cobra.Command) {
	if c.HasSubCommands() && c.HasParent() {
		c.Args, c.RunE = cobra.NoArgs, func(c *cobra.Command, _ []string) error {
			return usageOf(c, fmt.Errorf("%s needs a command: %s", nameOf(c), strings.Join(commandsOf(c), ", ")))
		}
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageOf(c, wrongArguments(c, args))
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

func commandsOf(c *cobra.Command) []string {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// nameOf is a command as one types it behind the name of the program.
func nameOf(c *cobra.Command) string {
	return strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
}

// wrongArguments says what a command takes in the place of what was given.
func wrongArguments(c *cobra.Command, args []string) error {
	if c.HasSubCommands() {
		return fmt.Errorf("%s has no command %q; %s", nameOf(c), args[0], instead(args[0], commandsOf(c)))
	}
	_, takes, _ := strings.Cut(c.Use, " ")
	switch {
	case takes == "":
		return fmt.Errorf("%s takes no arguments; leave out %q", nameOf(c), args)
	case len(args) == 0:
		return fmt.Errorf("%s needs %s", nameOf(c), takes)
	}
	return fmt.Errorf("%s takes %s, not %q", nameOf(c), takes, args)
}

// instead says what there is in the place of a word that is unknown.
func instead(word string, known []string) string {
	list := "it can be " + strings.Join(known, ", ")
	if near := config.Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q? %s", near, list)
	}
	return list
}

// flagProblem says what is wrong with a flag, and which one was probably meant.
func flagProblem(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := config.Nearest(unknown.GetSpecifiedName(), flagsOf(c)); near != "" {
			err = fmt.Errorf("%w; did you mean --%s?", err, near)
		}
	}
	return usageOf(c, err)
}

func flagsOf(c *cobra.Command) []string {
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// checkFlags looks at the flags that all commands have.
func checkFlags(c *cobra.Command) error {
	switch o := outputOf(c); {
	case o != "text" && o != "json":
		return fmt.Errorf("--output %q is neither text nor json; write one of them", o)
	case o == "json" && c.Annotations[noOutput] != "":
		return fmt.Errorf("%s has no output in JSON; leave --output out", nameOf(c))
	case c.Flags().Changed("config") && c.Annotations[readsConfig] == "":
		return fmt.Errorf("%s reads no configuration; leave --config out", nameOf(c))
	}
	return nil
}

// onlyOwnFlags has the help of a command leave out the flags of all commands
// that mean nothing to it.
func onlyOwnFlags(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(c *cobra.Command, args []string) {
		flags := root.PersistentFlags()
		flags.Lookup("config").Hidden = c != root && c.Annotations[readsConfig] == ""
		flags.Lookup("output").Hidden = c.Annotations[noOutput] != ""
		help(c, args)
	})
}
