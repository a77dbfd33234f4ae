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
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

It exits with 0 when the call would be allowed, on every host that it names,
and with 2 when not.

A batch is a file of JSON lines, each of them a call:
  {"id": 1, "command": "uptime", "policy_context": "readonly"}
  {"id": 2, "tool": "ssh_run", "arguments": {"alias": "web1", "command": "uptime"}}
The first is judged under a profile alone, the second under the configuration.
For each line comes one line of JSON, in the same order, with id, allow and
reasons. A line that is no call is answered so, too, and makes the exit code 1.`,
		Example: `  sallyport plan --profile readonly --command 'systemctl status nginx'
  sallyport plan --config ./sallyport --host local --command 'df -h | tail -1'
  sallyport plan --config ./sallyport --tool ssh_run --args '{"alias":"local","command":"uptime"}'
  sallyport plan --batch cases.jsonl`,
		Args:        cobra.NoArgs,
		Annotations: marked(readsConfig),
		PreRunE:     func(c *cobra.Command, _ []string) error { return f.check(c.Flags()) },
		RunE:        func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	flags := c.Flags()
	flags.StringVar(&f.host, "host", "", "`ALIAS` of the host to plan --command on")
	flags.StringVar(&f.command, "command", "", "`LINE` for a shell, to plan with the tool ssh_run")
	flags.StringVar(&f.profile, "profile", "", "judge --command under the profile `NAME` alone, without a configuration: "+strings.Join(policies.Profiles(), ", "))
	flags.StringVar(&f.tool, "tool", "", "`NAME` of the tool to plan")
	flags.StringVar(&f.args, "args", "{}", "`JSON` object of the tool's arguments")
	flags.StringVar(&f.batch, "batch", "", "`FILE` of JSON lines, one call each; - is standard input")
	flags.StringVar(&f.subject, "subject", "", "`NAME` of who calls (default: the OS user)")
	flags.StringSliceVar(&f.groups, "group", nil, "`NAME` of a group of the caller; may be repeated")
	return c
}

// planApart are flags of which only one can be meant, and why.
var planApart = []struct {
	flags []string
	why   string
}{
	{[]string{"command", "tool", "batch"}, "each says what to plan"},
	{[]string{"host", "profile"}, "a command is judged on a host, or under a profile alone"},
	{[]string{"profile", "config"}, "a profile is judged without a configuration"},
}

// planNeeds are flags that mean nothing without another one.
var planNeeds = []struct{ flag, needs string }{{"host", "command"}, {"profile", "command"}, {"args", "tool"}}

// check refuses flags that contradict each other, that say nothing, or of which
// one would be ignored.
func (f planFlags) check(flags *pflag.FlagSet) error {
	given := flags.Changed
	for _, apart := range planApart {
		if both := slices.DeleteFunc(slices.Clone(apart.flags), func(name string) bool { return !given(name) }); len(both) > 1 {
			return fmt.Errorf("--%s: %s; give one of them", strings.Join(both, " and --"), apart.why)
		}
	}
	for _, one := range planNeeds {
		if given(one.flag) && !given(one.needs) {
			return fmt.Errorf("--%s means nothing without --%s", one.flag, one.needs)
		}
	}
	for _, name := range []string{"host", "profile", "tool", "args", "batch"} {
		if given(name) && flags.Lookup(name).Value.String() == "" {
			return fmt.Errorf("--%s is empty; give it a value, or leave it out", name)
		}
	}
	for _, name := range []string{"command", "host", "subject", "group"} {
		if !utf8.ValidString(flags.Lookup(name).Value.String()) {
			return fmt.Errorf("--%s is not valid UTF-8; write it in UTF-8", name)
		}
	}
	switch {
	case !given("command") && !given("tool") && !given("batch"):
		return errors.New("nothing to plan: give --command with --host or --profile, --tool with --args, or --batch")
	case given("command") && !given("host") && !given("profile"):
		return errors.New("--command needs --host, or --profile to judge it without a host")
	case given("batch") && given("output") && flags.Lookup("output").Value.String() == "text":
		return errors.New("--batch gives a line of JSON for each; leave --output text out")
	case given("profile"):
		return checkProfile(f.profile)
	case !isObject(f.args):
		return fmt.Errorf(`--args %q is not a JSON object; write it as in --args '{"alias": "web1"}'`, f.args)
	}
	return nil
}

func isObject(text string) bool {
	var members map[string]json.RawMessage
	return json.Unmarshal([]byte(text), &members) == nil && members != nil
}

// checkProfile says what there is in the place of a profile that there is not.
func checkProfile(name string) error {
	known := policies.Profiles()
	if slices.Contains(known, name) {
		return nil
	}
	return fmt.Errorf("there is no profile %q; %s", name, instead(name, known))
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
	ID        any
	Command   json.RawMessage // as it was written, so that nothing is mended before it is judged
	Profile   string
	Tool      string
	Arguments json.RawMessage
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

var errNoCall = errors.New(`a call has either "tool" and "arguments", or "command" and "policy_context"`)

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
	configured planner
	profiles   planner
}

// planner is a gateway that plans, or why there is none.
type planner struct {
	stack *stack
	err   error
}

func (p *planners) close() {
	for _, one := range []planner{p.configured, p.profiles} {
		if one.stack != nil {
			_ = one.stack.close(p.cmd.Context())
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
		return nil, "", nil, err
	}
	if g, err = p.need(&p.profiles, p.assembleProfiles); err != nil {
		return nil, "", nil, err
	}
	args, err = json.Marshal(map[string]any{"alias": c.Profile, "command": c.Command})
	return g, "ssh_run", args, err
}

// need puts a gateway together at its first use, and tries only once.
func (p *planners) need(one *planner, assemble func() (*stack, error)) (*gateway.Gateway, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.stack == nil && one.err == nil {
		one.stack, one.err = assemble()
	}
	if one.err != nil {
		return nil, one.err
	}
	return one.stack.gateway, nil
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
