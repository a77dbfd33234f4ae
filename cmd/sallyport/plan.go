package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/tool"
	"github.com/sallyport/sallyport/policies"
)

type planFlags struct {
	host, command, profile string
	tool, args             string
	batch                  string
	subject                string
	groups                 []string
}

func planCommand() *cobra.Command {
	var f planFlags
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show the input document and the decision of a call; runs nothing",
		Long: `Take a call as far as its decision: the input document that policy would see,
and what it says. Nothing is logged and no host is contacted; names are
resolved as they would be.

A batch is a file of JSON lines. A line holds either "command" and
"policy_context" (the profile to judge it under) or "tool" and "arguments".
One JSON result a line comes back in the same order, with id, allow, reasons.`,
		Example: `  sallyport plan --profile readonly --command 'systemctl status nginx'
  sallyport plan --config ./sallyport --host web1 --command 'df -h | tail -1'
  sallyport plan --config ./sallyport --tool ssh_run --args '{"alias":"web1","command":"uptime"}'
  sallyport plan --batch cases.jsonl`,
		Args:        cobra.NoArgs,
		Annotations: marked(readsConfig),
		PreRunE:     func(c *cobra.Command, _ []string) error { return f.check(c.Flags().Changed) },
		RunE:        func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	flags := c.Flags()
	flags.StringVar(&f.host, "host", "", "alias of the host")
	flags.StringVar(&f.command, "command", "", "command line to plan with ssh_run")
	flags.StringVar(&f.profile, "profile", "", "judge the command under this profile alone, without a configuration")
	flags.StringVar(&f.tool, "tool", "", "tool to plan")
	flags.StringVar(&f.args, "args", "{}", "its arguments, a JSON object")
	flags.StringVar(&f.batch, "batch", "", "file of JSON lines; - is standard input")
	flags.StringVar(&f.subject, "subject", "", "who calls (default: the OS user)")
	flags.StringSliceVar(&f.groups, "group", nil, "a group of the caller; may be repeated")
	return c
}

// planWays are the ways to say what is planned, each by a flag, with the flags
// that go with it beside --subject and --group.
var planWays = []struct {
	flag string
	with []string
}{
	{"command", []string{"host", "profile", "config"}},
	{"tool", []string{"args", "config"}},
	{"batch", []string{"config"}},
}

// check refuses flags that contradict each other, or of which one would be
// ignored.
func (f planFlags) check(given func(flag string) bool) error {
	var ways, others []string
	var with []string
	for _, way := range planWays {
		if given(way.flag) {
			ways, with = append(ways, "--"+way.flag), way.with
		}
	}
	for _, flag := range []string{"host", "profile", "args"} {
		if given(flag) && !slices.Contains(with, flag) {
			others = append(others, "--"+flag)
		}
	}
	switch {
	case len(ways) == 0:
		return errors.New("nothing to plan: give --command, --tool or --batch")
	case len(ways) > 1:
		return fmt.Errorf("%s: give one of them", strings.Join(ways, " and "))
	case len(others) > 0:
		return fmt.Errorf("%s means nothing with %s", strings.Join(others, ", "), ways[0])
	case given("host") && given("profile"):
		return errors.New("--host and --profile: a command is judged on a host, or under a profile alone; give one of them")
	case given("command") && !given("host") && !given("profile"):
		return errors.New("--command needs --host, or --profile to judge it without a host")
	case given("profile") && given("config"):
		return errors.New("--profile judges without a configuration; leave --config out")
	}
	return checkProfile(f.profile)
}

// checkProfile says what there is in the place of a profile that there is not.
func checkProfile(name string) error {
	known := policies.Profiles()
	if name == "" || slices.Contains(known, name) {
		return nil
	}
	return fmt.Errorf("there is no profile %q; there are %s", name, strings.Join(known, ", "))
}

func (f planFlags) run(c *cobra.Command) error {
	p := &planners{cmd: c, caller: localCaller(f.subject)}
	p.caller.Groups = f.groups
	defer p.close()
	if f.batch != "" {
		return runBatch(c, p, f.batch)
	}
	call, err := f.call()
	if err != nil {
		return err
	}
	answers, err := p.plan(call)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if err := print(c, a, a.write); err != nil {
			return err
		}
	}
	for _, a := range answers {
		if !a.Allow {
			return &exitError{code: exitDenied}
		}
	}
	return nil
}

// planCall is what a line of a batch, or the flags, ask for.
type planCall struct {
	ID        any             `json:"id"`
	Command   json.RawMessage `json:"command"` // as it was written, so that nothing is mended before it is judged
	Profile   string          `json:"policy_context"`
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`
}

func (f planFlags) call() (planCall, error) {
	switch {
	case f.tool != "":
		return planCall{Tool: f.tool, Arguments: json.RawMessage(f.args)}, nil
	case f.profile != "":
		command, err := json.Marshal(f.command)
		return planCall{Command: command, Profile: f.profile}, err
	}
	args, err := json.Marshal(map[string]string{"alias": f.host, "command": f.command})
	return planCall{Tool: "ssh_run", Arguments: args}, err
}

// badCall is a call that cannot be planned, whatever the configuration.
type badCall struct{ error }

var errNoCall = &badCall{errors.New(`a call needs "tool" and "arguments", or "command" and "policy_context"`)}

// planAnswer is one plan on one host as the command prints it.
type planAnswer struct {
	ID        any           `json:"id,omitempty"`
	Allow     bool          `json:"allow"`
	Reasons   []tool.Reason `json:"reasons"`
	Alias     string        `json:"alias,omitempty"`
	Digest    string        `json:"plan,omitempty"`
	Canonical string        `json:"canonical,omitempty"`
	Decision  any           `json:"decision,omitempty"`
	Input     any           `json:"input,omitempty"`
}

// planners are the gateways that plan: that of the configuration, and one with
// a host for each profile, each put together when it is first needed.
type planners struct {
	cmd    *cobra.Command
	caller tool.Caller

	mu         sync.Mutex
	configured *stack
	profiles   *stack
}

func (p *planners) close() {
	for _, s := range []*stack{p.configured, p.profiles} {
		if s != nil {
			_ = s.close(p.cmd.Context())
		}
	}
}

// of finds the gateway for a call, and the call as that gateway takes it.
func (p *planners) of(c planCall) (g *gateway.Gateway, name string, args json.RawMessage, err error) {
	switch {
	case c.Tool != "":
		g, err = p.need(&p.configured, p.assembleConfigured)
		return g, c.Tool, c.Arguments, err
	case c.Command == nil || c.Profile == "":
		return nil, "", nil, errNoCall
	}
	if err := checkProfile(c.Profile); err != nil {
		return nil, "", nil, &badCall{err}
	}
	if g, err = p.need(&p.profiles, p.assembleProfiles); err != nil {
		return nil, "", nil, err
	}
	args, err = json.Marshal(map[string]any{"alias": c.Profile, "command": c.Command})
	return g, "ssh_run", args, err
}

// need puts a stack together at its first use.
func (p *planners) need(s **stack, assemble func() (*stack, error)) (*gateway.Gateway, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *s == nil {
		made, err := assemble()
		if err != nil {
			return nil, err
		}
		*s = made
	}
	return (*s).gateway, nil
}

func (p *planners) assembleConfigured() (*stack, error) {
	return assemble(p.cmd.Context(), stackOptions{
		load: func() (*config.Config, error) { return loadConfig(p.cmd, config.Options{WithoutSecrets: true}) }, stderr: p.cmd.ErrOrStderr(), dry: true,
	})
}

func (p *planners) plan(c planCall) ([]planAnswer, error) {
	g, name, args, err := p.of(c)
	if err != nil {
		return nil, err
	}
	judged, problem := g.Plan(p.cmd.Context(), p.caller, name, args)
	if problem != nil {
		return nil, errors.New(problem.Message + "; " + problem.Remedy)
	}
	answers := make([]planAnswer, len(judged))
	for i, j := range judged {
		answers[i] = answerOf(c.ID, j)
		answers[i].Decision, answers[i].Input = j.Run.Decision, j.Input
	}
	return answers, nil
}

func answerOf(id any, j gateway.Judged) planAnswer {
	a := planAnswer{
		ID: id, Allow: j.Run.Decision.Allow, Reasons: j.Run.Decision.Reasons,
		Alias: j.Run.Target.Alias, Digest: j.Run.Digest,
	}
	if doc := j.Run.Plan.Steps[0].Op.Command; doc != nil {
		a.Canonical = doc.Canonical
	}
	return a
}

func (a planAnswer) write(w io.Writer) {
	verdict, label := "denied", "understood as"
	if a.Allow {
		verdict, label = "allowed", "would send"
	}
	fmt.Fprintf(w, "%s on %s\n", verdict, a.Alias)
	if a.Canonical != "" {
		fmt.Fprintf(w, "  %s  %s\n", label, a.Canonical)
	}
	for _, r := range a.Reasons {
		fmt.Fprintf(w, "  %s  %s\n", r.Code, strings.TrimSpace(r.Title+": "+r.Detail))
		fmt.Fprintf(w, "      remedy: %s\n", r.Remedy)
	}
	input, err := json.MarshalIndent(a.Input, "  ", "  ")
	if err == nil {
		fmt.Fprintf(w, "  input  %s\n", input)
	}
}

// assembleProfiles puts a gateway together that has one host for each shipped
// profile, under the profile's name, so that a command can be judged under a
// profile through the same door as any other call.
func (p *planners) assembleProfiles() (*stack, error) {
	dir, err := os.MkdirTemp("", "sallyport-plan-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := writeProfileConfig(dir); err != nil {
		return nil, err
	}
	return assemble(p.cmd.Context(), stackOptions{
		load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: dir, Env: noEnv}) },
		stderr: p.cmd.ErrOrStderr(), dry: true,
	})
}

// noEnv keeps the environment out of a configuration that this program wrote.
func noEnv(string) (string, bool) { return "", false }

func writeProfileConfig(dir string) error {
	var servers, rules strings.Builder
	servers.WriteString("hosts:\n")
	rules.WriteString("limits: {max_concurrent: 1000}\nrules:\n")
	for _, name := range policies.Profiles() {
		fmt.Fprintf(&servers, "  - {alias: %q, host: 127.0.0.1, credentials: plan}\n", name)
		fmt.Fprintf(&rules, "  - {action: allow, aliases: [%q], profile: %q}\n", name, name)
	}
	for file, content := range map[string]string{
		"sallyport.yml":   "toolsets: [fleet]\n",
		"servers.yml":     servers.String(),
		"credentials.yml": "entries:\n  - {name: plan, username: plan, agent: true}\n",
		"policy.yml":      rules.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}
