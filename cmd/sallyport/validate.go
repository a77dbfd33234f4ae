package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/sshexec"
	"github.com/sallyport/sallyport/pkg/tool"
)

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration and report every problem at once",
		Long: `Read the configuration as serve would, compile the policies, and report every
problem with file, line and remedy. Nothing is started and no host is contacted.

A warning is of what would start and may not be meant; it leaves the exit code 0.`,
		Example:     "  sallyport validate --config ./sallyport\n  sallyport validate --config ./sallyport --output json",
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
				return &exitError{code: v.exitCode()}
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
	conf, err := loadOnly(c, config.Options{})
	var problems *config.Problems
	switch {
	case errors.As(err, &problems):
		v.Problems = problems.List
		if problems.Settings != nil {
			return v, v.compile(c.Context(), *problems.Settings, problems.Origins, problems.Secrets, nil)
		}
		return v, nil
	case err != nil:
		return v, err
	}
	v.Dir, v.Hosts, v.Valid = conf.Dir, len(conf.Hosts), true
	v.Problems = append(v.Problems, conf.Warnings...)
	v.hostKeys(conf)
	return v, v.compile(c.Context(), conf.Settings, conf.Origins, conf.Secrets, conf.Site())
}

// hostKeys adds what is wrong with the known_hosts files, and warns of hosts that
// cannot prove by them who they are.
func (v *verdict) hostKeys(conf *config.Config) {
	files := conf.KnownHosts()
	if len(files) == 0 {
		return // has been warned of
	}
	trust, err := sshexec.NewTrust(sshexec.TrustOptions{KnownHosts: files})
	var failure *tool.Failure
	var bad *sshexec.KnownHostsError
	if errors.As(err, &failure) && errors.As(err, &bad) {
		what := "cannot be read: "
		if bad.Line > 0 {
			what = "this revocation cannot be understood: "
		}
		v.Valid = false
		v.Problems = append(v.Problems, config.Problem{File: bad.File, Line: bad.Line, Severity: config.Error, Message: what + bad.Error(), Remedy: failure.Remedy})
		return
	}
	for _, line := range trust.Skipped() {
		v.warn(line.File, line.Line, "this line is skipped: "+line.Error(), "write it as ssh-keyscan does, or remove it")
	}
	for _, h := range conf.Hosts {
		if !trust.Knows(tool.Target{Hostname: h.Hostname, Port: h.Port}, h.HostKeyAlias) {
			v.warn(filepath.Join(conf.Dir, "servers.yml"), h.Line, fmt.Sprintf("no key of %s is in known_hosts, so connections to it will be refused", h.Alias),
				fmt.Sprintf("ssh-keyscan -p %d %s >> %s, after comparing the fingerprint with the host's own", h.Port, h.Hostname, files[0]))
		}
	}
}

func (v *verdict) warn(file string, line int, message, remedy string) {
	v.Problems = append(v.Problems, config.Problem{File: file, Line: line, Severity: config.Warning, Message: message, Remedy: remedy})
}

// compile adds what is wrong with the policies, those that decide and those of the
// shadow. They are looked at even where the rest does not load, without the
// operator's data then.
func (v *verdict) compile(ctx context.Context, set config.Settings, from config.Origins, secrets func() config.Secrets, site any) error {
	o := policyOptions(set, secrets)
	o.Site, o.Timeout, o.Offline = site, dryTimeout, true
	e, err := policy.New(ctx, o)
	if err = v.add(ofBundles(err, set, from)); err != nil {
		return err
	}
	if e != nil {
		v.await(e, from, "policy.bundles")
		v.Bundles = e.Revisions()
		err = e.Close(ctx)
	}
	if err != nil || !set.Shadow.On() {
		return err
	}
	o = shadowOptions(set, secrets)
	o.Site, o.Timeout, o.Offline = site, dryTimeout, true
	shadow, err := policy.New(ctx, o)
	if err = v.add(ofShadow(err, set, from)); err != nil || shadow == nil {
		return err
	}
	v.await(shadow, from, "shadow.bundles")
	return shadow.Close(ctx)
}

// await warns of bundles that only a server has.
func (v *verdict) await(e *policy.Engine, from config.Origins, key string) {
	err := e.Ready()
	if err == nil {
		return
	}
	p := from.Problem(key, err.Error(), "serve asks the server; until then, nothing of it can be checked here")
	p.Severity = config.Warning
	v.Problems = append(v.Problems, p)
}

// add takes problems as such and returns any other error.
func (v *verdict) add(err error) error {
	var problems *config.Problems
	if errors.As(err, &problems) {
		v.Valid, v.Problems = false, append(v.Problems, problems.List...)
		return nil
	}
	return err
}

// exitCode is that of wrong usage where nothing but a flag is wrong.
func (v verdict) exitCode() int {
	if all := (&config.Problems{List: v.Problems}); all.OfFlags() {
		return exitUsage
	}
	return exitError1
}

func (v verdict) write(w io.Writer) {
	warnings := 0
	for _, p := range v.Problems {
		fmt.Fprintln(w, p)
		if p.Severity == config.Warning {
			warnings++
		}
	}
	if v.Valid {
		fmt.Fprintf(w, "%s: valid, %s, %s\n", v.Dir, tool.Count(v.Hosts, "host"), tool.Count(warnings, "warning"))
	} else {
		fmt.Fprintf(w, "%s, %s; nothing would start\n", tool.Count(len(v.Problems)-warnings, "problem"), tool.Count(warnings, "warning"))
	}
}
