package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy/kit"
)

type policyInitFlags struct {
	name, recipe, from, site string
}

func policyInitCommand() *cobra.Command {
	var f policyInitFlags
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Begin a repository of policies that works at once; never overwrites",
		Long: `Write a repository: a package with its tests, schemas, the list of permitted
built-ins, fixtures with what is to be decided on them, Sallyport's own policies
to test against, and ci.sh, which checks all of it with stock opa alone. When any
of the files exists, nothing is written.

The package begins as one of these recipes:
  ` + strings.Join(kit.Recipes(), "\n  ") + `

The fixtures are samples, or with --from real calls: records of a decision log
that was written with logs.record: full. Their hosts and grants are then those of
--config or --site. What is expected of them is what is decided on them now; where
that is not what the record says, init tells.`,
		Example: `  sallyport policy init ./night --name night
  sallyport policy init ./reports --recipe database_read_only
  sallyport policy init ./team --name team --config /etc/sallyport --from decisions.jsonl`,
		Annotations: marked(readsConfig),
		Args:        cobra.ExactArgs(1),
		RunE:        func(c *cobra.Command, args []string) error { return f.init(c, args[0]) },
	}
	flags := c.Flags()
	flags.StringVar(&f.name, "name", "", "name of the package below custom (default: that of the recipe)")
	flags.StringVar(&f.recipe, "recipe", kit.DefaultRecipe, "what the package begins as")
	flags.StringVar(&f.from, "from", "", "make fixtures of the records in a decision log; - is standard input")
	flags.StringVar(&f.site, "site", "", "file with data.site, the hosts and grants, for --from")
	return c
}

var errSiteAlone = errors.New("--site and --config say by which hosts and grants records are judged, so they go with --from")

func (f policyInitFlags) init(c *cobra.Command, dir string) error {
	if f.from == "" && (f.site != "" || c.Flags().Changed("config")) {
		return usageError(errSiteAlone)
	}
	r := kit.Repository{Dir: dir, Name: f.name, Recipe: f.recipe}
	if f.from != "" {
		if err := f.records(c, &r); err != nil {
			return err
		}
	}
	created, err := kit.Init(c.Context(), r)
	if err != nil {
		return err
	}
	return print(c, created, func(w io.Writer) { writeCreated(w, created) })
}

// records are the fixtures to be, and the site that they are judged with.
func (f policyInitFlags) records(c *cobra.Command, r *kit.Repository) (err error) {
	if r.Records, err = readDocuments(c.InOrStdin(), []string{f.from}); err != nil {
		return err
	}
	if f.site != "" {
		text, err := os.ReadFile(f.site)
		r.Site = json.RawMessage(text)
		return err
	}
	conf, err := loadConfig(c, config.Options{WithoutSecrets: true})
	if err == nil {
		r.Site = conf.Site()
	}
	return err
}

func writeCreated(w io.Writer, c kit.Created) {
	fmt.Fprintf(w, "wrote %s in %s: %s\n", counted(len(c.Files), "file"), c.Dir, c.Package)
	for _, f := range c.Fixtures {
		if f.Was != "" {
			fmt.Fprintf(w, "note: fixtures/%s.json is %s now and was %s\n", f.Name,
				strings.TrimSpace(verdictOf(f.Allow)+" "+strings.Join(f.Codes, " ")), f.Was)
		}
	}
	name := strings.TrimPrefix(c.Package, "custom.")
	fmt.Fprintf(w, `
Edit custom/%s/%s.rego, then:
  sallyport policy test %s --coverage
  sallyport policy check %s
  sh %s/ci.sh        # the same with stock opa
`, name, name, c.Dir, c.Dir, c.Dir)
}
