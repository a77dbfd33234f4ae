package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/policy/kit"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Write, test and ship policies of your own",
		Long: `Everything that a team needs to write policies in Rego: begin a repository,
check, format, test, try, build, sign and measure. The answers are those of the
stock opa binary, which works on the same files; what this adds is Sallyport's
schemas, its list of permitted built-ins and its own policies beside yours.

A bundle is a directory with a .manifest, or the file that build makes of it.`,
		Example: `  sallyport policy init ./night          a repository that works at once
  sallyport policy test ./night --coverage
  sallyport policy eval ./night --input ./night/fixtures/restart.json --explain
  sallyport policy build ./night -o night.tar.gz`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		policyInitCommand(), policyCheckCommand(), policyFmtCommand(), policyTestCommand(), policyEvalCommand(),
		policyBuildCommand(), policySignCommand(), policyVerifyCommand(), policyBenchCommand(),
	)
	return c
}

// siteFile is where a repository keeps the site that its fixtures are judged
// with.
const siteFile = "site.json"

// errNoSite is told, not returned: a policy can be asked about a site without
// hosts, too.
var errNoSite = errors.New("no site is given, so that no host is known and every one is refused; --site or --config gives one")

// engineOf is an engine with some bundles and a site: that of a configuration, of
// a file, or of the first bundle that has one.
func engineOf(c *cobra.Command, bundles []string, site string) (*policy.Engine, error) {
	o, err := optionsOf(c, bundles, site)
	if err != nil {
		return nil, err
	}
	return policy.New(c.Context(), o)
}

func optionsOf(c *cobra.Command, bundles []string, site string) (policy.Options, error) {
	o, err := kit.Options(bundles)
	if err != nil {
		return o, err
	}
	o.Timeout = dryTimeout
	for _, b := range bundles {
		if file := filepath.Join(b, siteFile); site == "" && isFile(file) {
			site = file
		}
	}
	if site == "" {
		fmt.Fprintln(c.ErrOrStderr(), "sallyport: "+errNoSite.Error())
		return o, nil
	}
	text, err := os.ReadFile(site)
	if err == nil {
		o.Site = json.RawMessage(text)
	}
	return o, err
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
