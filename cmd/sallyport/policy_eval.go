package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/policy/kit"
	"github.com/sallyport/sallyport/pkg/tool"
)

type policyEvalFlags struct {
	inputs  []string
	site    string
	explain bool
}

func policyEvalCommand() *cobra.Command {
	var f policyEvalFlags
	c := &cobra.Command{
		Use:   "eval [BUNDLE...] --input FILE",
		Short: "Judge an input, or what is in the decision log, and say why",
		Long: `Judge inputs with bundles beside the shipped policies. An input file holds one
or more of these: an input document, a record of the decision log (of
logs.record: full), or what "sallyport plan --output json" prints. A record is
compared with what was decided then.

The hosts and grants come from --config, from --site, or from the site.json of
the first bundle that has one; without any, every host is refused.

--explain shows which rules spoke (file and line), which conditions of the
nearest permits failed and with what values, and the smallest changes to the
call that would be allowed; only what was judged and is allowed is shown.

Stock opa decides the same with
  opa eval --strict-builtin-errors --bundle . --bundle sallyport.tar.gz \
    --data site:site.json --input FILE data.sallyport.decision

Exit codes: 0 everything allowed, 2 something denied, 1 an error.`,
		Example: `  sallyport policy eval ./night --input ./night/fixtures/restart.json --explain
  tail -1 decisions.jsonl | sallyport policy eval --config /etc/sallyport --input - --explain
  sallyport plan --config ./sallyport --host web1 --command 'ls -Z' --output json |
    sallyport policy eval --config ./sallyport --input -`,
		Annotations: marked(readsConfig),
		RunE:        func(c *cobra.Command, bundles []string) error { return f.eval(c, bundles) },
	}
	f.addTo(c)
	c.Flags().BoolVar(&f.explain, "explain", false, "say why, and what would be allowed")
	return c
}

// addTo adds what eval and bench have in common.
func (f *policyEvalFlags) addTo(c *cobra.Command) {
	flags := c.Flags()
	flags.StringSliceVarP(&f.inputs, "input", "i", nil, "file of inputs; - is standard input; may be repeated")
	flags.StringVar(&f.site, "site", "", "file with data.site, the hosts and grants")
}

// documents are the inputs that the flags name.
func (f *policyEvalFlags) documents(c *cobra.Command) ([]kit.NamedDocument, error) {
	switch {
	case len(f.inputs) == 0:
		return nil, usageError(errors.New("--input is missing; see " + c.CommandPath() + " --help"))
	case f.site != "" && c.Flags().Changed("config"):
		return nil, usageError(errors.New("give --site or --config, not both: each says which hosts there are"))
	}
	return readDocuments(c.InOrStdin(), f.inputs)
}

func (f *policyEvalFlags) eval(c *cobra.Command, bundles []string) error {
	documents, err := f.documents(c)
	if err != nil {
		return err
	}
	j, err := f.judge(c, bundles)
	if err != nil {
		return err
	}
	defer j.close(c.Context())
	denied := false
	for _, d := range documents {
		e, err := j.evaluated(c.Context(), d, f.explain)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
		if err := print(c, e, e.write); err != nil {
			return err
		}
		denied = denied || !e.Allow
	}
	if denied {
		return &exitError{code: exitDenied}
	}
	return nil
}

// judge is what inputs are put before: an engine, and with a configuration the
// gateway around it, which knows other hosts to propose.
type judge struct {
	engine *policy.Engine
	stack  *stack
}

func (f *policyEvalFlags) judge(c *cobra.Command, bundles []string) (*judge, error) {
	if !c.Flags().Changed("config") {
		e, err := engineOf(c, bundles, f.site)
		return &judge{engine: e}, err
	}
	s, err := assemble(c.Context(), stackOptions{
		load: func() (*config.Config, error) {
			conf, err := loadConfig(c, config.Options{WithoutSecrets: true})
			if err == nil {
				conf.Settings.Policy.Custom = slices.Concat(conf.Settings.Policy.Custom, bundles)
			}
			return conf, err
		},
		stderr: c.ErrOrStderr(), dry: true,
	})
	if err != nil {
		return nil, err
	}
	return &judge{engine: s.engine, stack: s}, nil
}

func (j *judge) close(ctx context.Context) {
	if j.stack != nil {
		_ = j.stack.close(ctx)
	} else {
		_ = j.engine.Close(ctx)
	}
}

// evaluated is an answer as it is printed.
type evaluated struct {
	Name string `json:"name"`
	policy.Answer
	Logged      *loggedAnswer     `json:"logged,omitempty"`
	Odd         []string          `json:"odd,omitempty"`
	Explanation *tool.Explanation `json:"explanation,omitempty"`
}

// loggedAnswer is what a record says was decided.
type loggedAnswer struct {
	ID    string   `json:"decision_id"`
	Allow bool     `json:"allow"`
	Codes []string `json:"codes"`
	Same  bool     `json:"same"`
}

func (j *judge) evaluated(ctx context.Context, d kit.NamedDocument, explain bool) (evaluated, error) {
	e := evaluated{Name: d.Name, Odd: d.Document.Odd}
	var err error
	if e.Answer, err = j.engine.Ask(ctx, d.Document); err != nil {
		return e, err
	}
	if was := d.Document.Decided; was != nil {
		e.Logged = &loggedAnswer{ID: d.Document.ID, Allow: was.Allow, Codes: was.Codes(), Same: e.Same(*was)}
	}
	if explain {
		x, err := j.engine.Explain(ctx, d.Document, j.elsewhere(ctx, d.Document))
		if err != nil {
			return e, err
		}
		e.Explanation = &x
	}
	return e, nil
}

// elsewhere are other hosts that the caller could use, where a configuration says
// which there are.
func (j *judge) elsewhere(ctx context.Context, d policy.Document) []tool.Target {
	if j.stack == nil || d.Alias() == "" {
		return nil
	}
	return j.stack.gateway.Elsewhere(ctx, d.Caller(), d.Alias())
}

func (e evaluated) write(w io.Writer) {
	fmt.Fprintf(w, "%s: %s%s\n", e.Name, verdictOf(e.Allow), e.asLogged())
	for _, o := range e.Odd {
		fmt.Fprintf(w, "  note: a gateway would not send this: %s\n", o)
	}
	for _, r := range e.Reasons {
		fmt.Fprintf(w, "  %s  %s\n", r.Code, strings.TrimSuffix(r.Title+": "+r.Detail, ": "))
		fmt.Fprintf(w, "      remedy: %s\n", r.Remedy)
	}
	if e.Problem != "" {
		fmt.Fprintf(w, "  %s\n", e.Problem)
	}
	if e.Allow {
		fmt.Fprintf(w, "  limits: %d seconds, %d bytes of each stream, %d at once (0 is none)\n",
			e.Limits.Seconds, e.Limits.OutputBytes, e.Limits.Concurrent)
	}
	if e.Explanation != nil {
		writeExplanation(w, *e.Explanation)
	}
	if e.Explanation != nil && !e.Allow && len(e.Explanation.Changes) == 0 {
		fmt.Fprintln(w, "\n  of the small changes to the call that were tried none would be allowed")
	}
}

func verdictOf(allow bool) string {
	if allow {
		return "allowed"
	}
	return "denied"
}

func (e evaluated) asLogged() string {
	switch l := e.Logged; {
	case l == nil:
		return ""
	case l.Same:
		return ", as decision " + l.ID + " was"
	default:
		return fmt.Sprintf(", but decision %s was %s", l.ID, strings.TrimSpace(verdictOf(l.Allow)+" "+strings.Join(l.Codes, " ")))
	}
}

func writeExplanation(w io.Writer, x tool.Explanation) {
	fmt.Fprintln(w, "\n  rules that spoke")
	for _, s := range x.Spoke {
		fmt.Fprintf(w, "    %s:%d  %s\n", s.File, s.Line, s.Rule)
		if words := strings.TrimSpace(strings.Join([]string{s.Code, s.Title}, "  ")); words != "" {
			fmt.Fprintf(w, "        %s\n", words)
		}
	}
	if len(x.Failed) > 0 {
		fmt.Fprintln(w, "\n  conditions of the nearest permits that failed")
	}
	for _, c := range x.Failed {
		indent := strings.Repeat("  ", c.Depth+2)
		held := ""
		if c.Held {
			held = " holds, and should not"
		}
		fmt.Fprintf(w, "%s%s%s  %s:%d\n", indent, c.Rule, held, c.File, c.Line)
		fmt.Fprintf(w, "%s    %s\n", indent, c.Text)
		for _, v := range c.Values {
			fmt.Fprintf(w, "%s      %s\n", indent, v)
		}
	}
	writeChanges(w, x)
}

func writeChanges(w io.Writer, x tool.Explanation) {
	if len(x.Changes) > 0 {
		fmt.Fprintln(w, "\n  smallest changes that would be allowed")
	}
	for _, c := range x.Changes {
		fmt.Fprintf(w, "    %s\n", c.What)
		if c.Command != "" {
			fmt.Fprintf(w, "        %s\n", c.Command)
		}
	}
}

var errNoInput = errors.New("holds no input")

// readDocuments reads all inputs in files.
func readDocuments(stdin io.Reader, files []string) ([]kit.NamedDocument, error) {
	var all []kit.NamedDocument
	for _, file := range files {
		documents, err := readDocumentFile(stdin, file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, documents...)
	}
	return all, nil
}

func readDocumentFile(stdin io.Reader, file string) ([]kit.NamedDocument, error) {
	r := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	var all []kit.NamedDocument
	for d := json.NewDecoder(r); ; {
		var text json.RawMessage
		if err := d.Decode(&text); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("input %d: %w", len(all)+1, err)
		}
		document, err := policy.ReadDocument(text)
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", len(all)+1, err)
		}
		all = append(all, kit.NamedDocument{Name: filepath.Base(file), Document: document})
	}
	if len(all) == 0 {
		return nil, errNoInput
	}
	for i := range all {
		if len(all) > 1 {
			all[i].Name += fmt.Sprintf(" #%d", i+1)
		}
	}
	return all, nil
}
