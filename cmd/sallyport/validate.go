package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
)

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration and report every problem at once",
		Long: `Read the configuration as serve would, compile the policies, and report every
problem with file, line and remedy. Nothing is started and no host is contacted.`,
		Example:     "  sallyport validate --config ./sallyport\n  sallyport validate --output json",
		Args:        cobra.NoArgs,
		Annotations: marked(readsConfig),
		RunE: func(c *cobra.Command, _ []string) error {
			v, err := validate(c)
			if err != nil {
				return err
			}
			if err := print(c, v, v.write); err != nil {
				return err
			}
			if !v.Valid {
				return &exitError{code: exitError1}
			}
			return nil
		},
	}
}

// verdict is what validate found.
type verdict struct {
	Valid    bool              `json:"valid"`
	Dir      string            `json:"dir,omitempty"`
	Hosts    int               `json:"hosts"`
	Problems []config.Problem  `json:"problems"`
	Bundles  map[string]string `json:"bundles,omitempty"`
}

func validate(c *cobra.Command) (verdict, error) {
	v := verdict{Problems: []config.Problem{}}
	s, err := assemble(c.Context(), stackOptions{
		load: func() (*config.Config, error) {
			conf, err := loadOnly(c, config.Options{})
			if conf != nil {
				v.Dir, v.Hosts = conf.Dir, len(conf.Hosts)
				v.Problems = append(v.Problems, conf.Warnings...)
			}
			return conf, err
		},
		stderr: io.Discard, dry: true,
	})
	var problems *config.Problems
	switch {
	case errors.As(err, &problems):
		v.Problems = problems.List
		if problems.Settings != nil {
			v.compile(c.Context(), problems.Settings.Policy)
		}
		return v, nil
	case err != nil:
		v.Problems = append(v.Problems, config.Problem{File: "bundles", Severity: config.Error, Message: err.Error()})
		return v, nil
	}
	v.Valid, v.Bundles = true, s.engine.Revisions()
	return v, s.close(c.Context())
}

// compile reports what is wrong with the policies, where the rest of the
// configuration does not load.
func (v *verdict) compile(ctx context.Context, set config.PolicySettings) {
	e, err := policy.New(ctx, policy.Options{Bundle: set.Bundle, Custom: set.Custom, Timeout: dryTimeout})
	if err != nil {
		v.Problems = append(v.Problems, config.Problem{File: "bundles", Severity: config.Error, Message: err.Error()})
		return
	}
	_ = e.Close(ctx)
}

func (v verdict) write(w io.Writer) {
	for _, p := range v.Problems {
		fmt.Fprintln(w, p)
	}
	if v.Valid {
		fmt.Fprintf(w, "%s: valid, %s, %s\n", v.Dir, plural(v.Hosts, "host"), plural(len(v.Problems), "warning"))
	} else {
		fmt.Fprintf(w, "%s; nothing would start\n", plural(len(v.Problems), "problem"))
	}
}
