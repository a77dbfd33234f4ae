package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/replay"
)

type replayFlags struct {
	logs, custom, failOn []string
	rotated              bool
	bundle, html         string
	examples, top        int
	workers, unused      int
}

func replayCommand() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay --log FILE [FILE...]",
		Short: "Judge recorded decisions again and tell what would change",
		Long: `Judge the decisions of a decision log again, by the policy of the configuration
or by other bundles, and tell what would change: by rule, host, subject and tool,
with examples. Nothing is logged and no host is contacted.

A log has the input of each decision, and the revisions by which it was made, but
not servers.yml and policy.yml. Decisions are judged by those of --config as they
are now, with --bundle in place of the bundle that decides, and with --custom in
place of the bundles beside it; --custom '' is none of them. The report says by
which revisions was judged then and now. To try other rules of policy.yml, name a
changed copy of the configuration with --config.

A decision can be judged again when its record is whole where rules look. By
default records have no words of commands (logs.record: meta in sallyport.yml);
with logs.record: full they have. Decisions whose records lack what rules look at,
because it was withheld, masked or erased, are counted apart. So are refusals that
came from the moment and not from a rule (policy_timeout), and lines that cannot
be read.

With --unused DAYS the report lists what was of no use in the last days of the logs:
rules of policy.yml that no call made use of, rules of custom packages that never
spoke, reasons that were never given.

Logs may be compressed with gzip; - is standard input. The report has what the log
has, the words of commands with it.

It exits with 0 if nothing changed, 2 if anything did that --fail-on names, and 1
on an error or if no decision could be judged again.`,
		Example: `  sallyport replay --config ./sallyport --log decisions.jsonl --bundle new/
  sallyport replay --config ./changed --log decisions.jsonl --rotated --html report.html
  sallyport replay --config ./sallyport --log decisions.jsonl --unused 30
  zcat logs/*.gz | sallyport replay --log - --fail-on newly-allowed --output json`,
		Args:        cobra.ArbitraryArgs,
		Annotations: marked(readsConfig),
		RunE:        func(c *cobra.Command, args []string) error { return f.run(c, args) },
	}
	flags := c.Flags()
	flags.StringArrayVar(&f.logs, "log", nil, "decision log; may be repeated, or followed by more files")
	flags.BoolVar(&f.rotated, "rotated", false, "read also what each log was rotated to: LOG.2.gz, LOG.1, LOG-20261120")
	flags.StringVar(&f.bundle, "bundle", "", "bundle to judge by, a directory or .tar.gz, in place of the one that decides")
	flags.StringArrayVar(&f.custom, "custom", nil, "bundle beside it, in place of those of the configuration; may be repeated")
	flags.StringSliceVar(&f.failOn, "fail-on", []string{"any"}, "changes to exit with 2 for: any, newly-allowed, newly-denied, limits, reasons, other")
	flags.StringVar(&f.html, "html", "", "write the report as one HTML file, too")
	flags.IntVar(&f.examples, "examples", 3, "examples of each kind of change, rule, host, subject and tool")
	flags.IntVar(&f.top, "top", 10, "how much of each list to show; JSON has all")
	flags.IntVar(&f.unused, "unused", 0, "tell the rules that were of no use in the last so many days of the logs")
	flags.IntVar(&f.workers, "workers", 0, "how many judge side by side (default: one for each core)")
	return c
}

func (f replayFlags) run(c *cobra.Command, args []string) error {
	logs, err := f.named(args)
	if err != nil {
		return err
	}
	began := time.Now()
	r, err := f.replay(c, logs)
	if err != nil {
		return err
	}
	took := time.Since(began)
	if err := f.show(c, r); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "sallyport: %d decisions in %s, %.0f a second\n",
		r.Decisions, took.Round(time.Millisecond), float64(r.Decisions)/took.Seconds())
	return f.outcome(r)
}

// named are the logs to read.
func (f replayFlags) named(args []string) ([]string, error) {
	for _, change := range f.failOn {
		if _, ok := failures[change]; !ok && change != "any" {
			return nil, usageError(fmt.Errorf("--fail-on %q is none of any, newly-allowed, newly-denied, limits, reasons, other", change))
		}
	}
	given := slices.Concat(f.logs, args)
	if len(f.logs) == 0 {
		return nil, usageError(errors.New("--log is missing: name a decision log, or - for standard input"))
	}
	if !f.rotated {
		return given, nil
	}
	var all []string
	for _, log := range given {
		names, err := replay.Rotated(log)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return all, nil
}

// failures are the changes by the names that --fail-on has for them.
var failures = func() map[string]policy.Change {
	names := map[string]policy.Change{}
	for _, c := range replay.Changes {
		names[strings.ReplaceAll(string(c), "_", "-")] = c
	}
	return names
}()

// replayMemory is where collecting garbage comes before speed.
const replayMemory = 512 << 20

func (f replayFlags) replay(c *cobra.Command, logs []string) (*replay.Report, error) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(replayMemory)
	}
	s, err := assemble(c.Context(), stackOptions{
		load: func() (*config.Config, error) {
			conf, err := loadConfig(c, config.Options{WithoutSecrets: true})
			if err == nil {
				f.override(c, conf)
			}
			return conf, err
		},
		stderr: c.ErrOrStderr(), dry: true,
	})
	if err != nil {
		return nil, err
	}
	defer s.close(c.Context()) //nolint:errcheck // it has written nothing
	judge, err := s.engine.Replay(c.Context(), policy.ReplayOptions{Uses: f.unused > 0})
	if err != nil {
		return nil, err
	}
	return replay.Run(c.Context(), judge, replay.Options{
		Logs: logs, Stdin: c.InOrStdin(), Examples: max(f.examples, 0), Workers: f.workers, UnusedDays: f.unused,
	})
}

// override puts the bundles of the flags in place of the configuration's, wherever
// those come from.
func (f replayFlags) override(c *cobra.Command, conf *config.Config) {
	set := &conf.Settings.Policy
	decides := func(b config.BundleSource) bool { return b.Name == config.MainBundle }
	beside := func(b config.BundleSource) bool { return b.Name != config.MainBundle }
	if f.bundle != "" {
		set.Bundle, set.Bundles = f.bundle, slices.DeleteFunc(slices.Clone(set.Bundles), decides)
		conf.Origins.Flag("policy.bundle", "bundle")
	}
	if c.Flags().Changed("custom") {
		set.Bundles = slices.DeleteFunc(slices.Clone(set.Bundles), beside)
		conf.Origins.Flag("policy.custom", "custom")
		set.Custom = slices.DeleteFunc(slices.Clone(f.custom), func(path string) bool { return path == "" })
	}
}

// show writes the report to standard output and, if that is asked for, as a page.
func (f replayFlags) show(c *cobra.Command, r *replay.Report) (err error) {
	if f.html != "" {
		if err := writePage(f.html, func(w io.Writer) error { return r.WriteHTML(w, f.top) }); err != nil {
			return fmt.Errorf("--html: %w", err)
		}
	}
	printed := print(c, r, func(w io.Writer) { err = r.WriteText(w, f.top) })
	return errors.Join(printed, err)
}

// writePage writes a file that only its owner may read: it shows commands.
func writePage(path string, write func(io.Writer) error) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(write(out), out.Close())
}

// outcome is the exit code.
func (f replayFlags) outcome(r *replay.Report) error {
	if r.Judged == 0 && r.Decisions > 0 {
		return fmt.Errorf("%s: words are in records with logs.record: full in sallyport.yml", r.Headline())
	}
	for _, name := range f.failOn {
		if name == "any" && r.Changed.All > 0 || name != "any" && r.Changed.Of(failures[name]) > 0 {
			return &exitError{code: exitDenied}
		}
	}
	return nil
}
