package gateway

import (
	"context"
	"slices"
	"strings"
	"text/template"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Prompt is a guide that an agent can ask for.
type Prompt struct {
	Name  string
	Title string
	Doc   string // one sentence
	text  string // a template over [guide]
}

// prompts is the table of guides. Words between backquotes are names that exist:
// tools, resources, files, keys, codes, arguments; a test looks each of them up.
// YAML stands below a line that names its file, and is loaded by a test.
var prompts = []Prompt{
	{
		Name: "ssh_orchestrator_usage", Title: "Working with hosts through this gateway",
		Doc: "Which tools there are and in which order to use them.",
		text: `You reach hosts by alias, through a gateway that asks a policy about every call.

Tools that you have:
{{range .Tools}}- ` + "`{{.Name}}`" + `: {{.Doc}}
{{end}}
How to go about it:
1. Find the alias in ` + "`ssh://hosts`" + ` or with ` + "`ssh_list_hosts`" + `. What is not listed is not yours to use.
{{- if .Has "ssh_plan"}}
2. Plan before you run: ` + "`ssh_plan`" + ` shows the decision about a command on a host, its limits and the address, and runs nothing.
   Read ` + "`ssh://host/{alias}/capabilities`" + ` for what is typically allowed there.
3. Never run what the plan denies, in this or in other words. Read the reasons and change the command, or ask the user.
{{- end}}
4. Prefer commands that only look. Before one that changes something, tell the user what it changes.
5. One simple command does better than a line of shell: variables, substitutions and patterns are mostly refused, and so is
   what the gateway cannot take apart.
{{- if .Has "ssh_run_async"}}
6. Use ` + "`ssh_run_async`" + ` only for what takes long, and look after it; everything else belongs to ` + "`ssh_run`" + `.
{{- end}}

Limits of one call, unless a host has its own: {{.Seconds}}, {{.Limits.OutputBytes}} bytes of each output stream,
{{.Limits.Concurrent}} at the same time on one host. An exit status other than 0 is the command's own answer, not a refusal.
`,
	},
	{
		Name: "ssh_policy_denied_guidance", Title: "When policy denies a command",
		Doc: "What to do after a denial, and how to propose a rule.",
		text: `Policy has denied a call. That is an answer, not an obstacle: do not look for other words, another tool or
another host that gets the same thing done.

1. Tell the user what was denied and why: the reasons name the rule (` + "`code`" + `), the word at fault (` + "`detail`" + `) and what would
   be permitted (` + "`remedy`" + `). Give the ` + "`decision_id`" + `; with it the operator finds the decision in the log.
2. Ask which of two ways the user wants: another command that policy permits, or a change of policy.
{{- if .Has "ssh_plan"}}
3. For the first, try the changed command with ` + "`ssh_plan`" + ` before you run it.
{{- end}}
4. For the second, propose the smallest rule that would do, for a person to review and apply. A rule grants a profile of
   commands ({{.ProfileList}}) on hosts, to somebody:

policy.yml:
rules:
  - name: example-grant
    action: allow
    aliases: [{{.Example}}]
    subjects: [{{.Subject}}]
    profile: {{.Profile}}

   ` + "`aliases`" + `, ` + "`tags`" + `, ` + "`groups`" + ` and ` + "`subjects`" + ` narrow a rule down; without the last two it is for everybody. A rule with
   ` + "`action: deny`" + ` goes over all that allow. Never propose a wider rule than the task needs.
`,
	},
	{
		Name: "ssh_network_denied_guidance", Title: "When an address is denied",
		Doc: "What to do when a host's address may not be dialled.",
		text: `The host's address may not be dialled. The code says why: ` + "`network_blocked`" + ` and ` + "`network_not_allowed`" + ` are rules of
the operator, ` + "`network_unresolved`" + ` means that the name has no address, ` + "`network_unusable`" + ` that it has none of a machine's.

1. Tell the user the alias, the address and the network from the reason's ` + "`detail`" + `.
2. Check with the user that the host is the right one. A name that suddenly leads to another address may be an attack.
3. If the address is right, the operator can admit exactly it:

policy.yml:
network:
  allow_ips: [192.0.2.10]

   Once there is a list of allowed addresses, no other may be dialled: the entry has to stand beside those that are needed.
   Never suggest wide networks such as 0.0.0.0/0 in ` + "`allow_cidrs`" + `, never the removal of entries of ` + "`block_ips`" + ` or
   ` + "`block_cidrs`" + `, and never to do without the verification of host keys: it cannot be switched off.
{{- if .Closed}}
   On this gateway there is a list of allowed addresses.
{{- end}}
`,
	},
	{
		Name: "ssh_missing_host_guidance", Title: "When a host is not there",
		Doc: "What to do when an alias is unknown.",
		text: `There is no host of that alias for you. Either the inventory does not have it, or policy grants you nothing on it; you
are not told which.

1. Look for a slip: ` + "`ssh_list_hosts`" + ` and ` + "`ssh://hosts`" + ` have all aliases that you may use. They are case-sensitive.
2. Do not use another host instead without asking, and do not try addresses: only aliases are taken.
3. Ask the user for the host's name, port, login and purpose, and propose an entry for the operator:

servers.yml:
hosts:
  - alias: {{.Example}}
    host: {{.Example}}.example.com
    port: 22
    credentials: example-login
    tags: [example]
    description: What it is for.

   ` + "`credentials`" + ` is the name of an entry in ` + "`credentials.yml`" + `. A host behind others names them in ` + "`via`" + `. The host's key has to be
   in ` + "`known_hosts`" + ` after somebody compared its fingerprint, and a rule in ` + "`policy.yml`" + ` has to grant a profile on it.
`,
	},
	{
		Name: "ssh_missing_credentials_guidance", Title: "When the login does not work",
		Doc: "What to do when credentials are missing or refused.",
		text: `The gateway could not log in: ` + "`credentials_unusable`" + ` means that it does not have what the entry names,
` + "`authentication`" + ` that the host did not accept it.

1. Never ask the user for a password, a passphrase or a key, and never put one into a command, a file or a chat: the gateway
   holds them, you do not need them.
2. Tell the user the alias and the error, and propose what the operator should look at:

credentials.yml:
entries:
  - name: example-login
    username: example
    key_path: id_ed25519
    key_passphrase_secret: example_passphrase

   ` + "`key_path`" + ` is a file below ` + "`keys/`" + ` that only its owner can read. With ` + "`agent`" + ` set to true, a running SSH agent has the key.
   Secrets are named, not written: the file ` + "`secrets/`" + ` and the name, or a variable ` + "`SALLYPORT_SECRET_`" + ` and the name in capitals.
   ` + "`password_secret`" + ` names a password in the same way; prefer keys.
`,
	},
	{
		Name: "ssh_config_change_workflow", Title: "Changing the configuration",
		Doc: "How a change of hosts, credentials or policy gets done.",
		text: `The configuration is changed by people. You suggest; you do not edit it, and least of all through this gateway.

1. Say in a sentence what the change is for and what it permits that was not permitted before.
2. Show the smallest change, as YAML with its file: ` + "`servers.yml`" + ` for hosts, ` + "`credentials.yml`" + ` for logins, ` + "`policy.yml`" + ` for rules,
   networks and limits, ` + "`sallyport.yml`" + ` for the gateway itself.
3. Limits can be set for a host or for a tag, for instance:

policy.yml:
overrides:
  aliases:
    {{.Example}}: {max_seconds: 120}

   In general they are ` + "`max_seconds`" + ` {{.Limits.Seconds}}, ` + "`max_output_bytes`" + ` {{.Limits.OutputBytes}}, ` + "`max_concurrent`" + ` {{.Limits.Concurrent}} and
   ` + "`calls_per_minute`" + ` {{.Limits.CallsPerMinute}} (0 is no limit).
4. The operator checks it: ` + "`sallyport validate`" + ` lists every problem with file and line, ` + "`sallyport plan`" + ` shows what would be decided.
5. Files are loaded again when they change.{{if .Has "ssh_reload_config"}} You may also call ` + "`ssh_reload_config`" + ` once the user says that the change is made.{{end}}
   What does not load changes nothing. A change of ` + "`sallyport.yml`" + ` needs a restart.
{{- if .Has "ssh_plan"}}
6. Check with ` + "`ssh_plan`" + ` that it does what it is for, and no more.
{{- end}}
`,
	},
}

// Prompts lists the guides.
func (g *Gateway) Prompts() []Prompt { return prompts }

// Prompt is the text of a guide for a caller, as things stand now.
func (g *Gateway) Prompt(ctx context.Context, caller tool.Caller, name string) (text string, ok bool) {
	for _, p := range prompts {
		if p.Name == name {
			return p.write(g.guide(ctx, caller)), true
		}
	}
	return "", false
}

func (p Prompt) write(about guide) string {
	var b strings.Builder
	if err := template.Must(template.New(p.Name).Parse(p.text)).Execute(&b, about); err != nil {
		panic("gateway: prompt " + p.Name + ": " + err.Error())
	}
	return b.String()
}

// guide is what the texts are made from: what is in force for the caller.
type guide struct {
	Tools    []*tool.Tool
	Profiles []string
	Limits   limits
	Closed   bool   // only listed addresses may be dialled
	Subject  string // the caller
	Example  string // an alias: of a host of the caller's, if it has one
}

// limits are those of a call where nothing is said about the host.
type limits struct{ Seconds, OutputBytes, Concurrent, CallsPerMinute int }

func (g *Gateway) guide(ctx context.Context, caller tool.Caller) guide {
	site := g.config.Load().Site()
	about := guide{
		Tools: g.Tools(ctx, caller), Profiles: g.profileNames, Closed: site.Network.Closed,
		Limits:  limits{site.Limits.Seconds, site.Limits.OutputBytes, site.Limits.Concurrent, site.Limits.CallsPerMinute},
		Subject: caller.Subject, Example: "web1",
	}
	if hosts := g.view(caller).hosts(); len(hosts) > 0 {
		about.Example = hosts[0].Alias
	}
	return about
}

// Has says that the caller has a tool.
func (a guide) Has(name string) bool {
	return slices.ContainsFunc(a.Tools, func(t *tool.Tool) bool { return t.Name == name })
}

// ProfileList is the profiles in a sentence.
func (a guide) ProfileList() string { return strings.Join(a.Profiles, ", ") }

// Profile is the narrowest profile: the shipped ones are named in no order, but
// readonly is the one that only looks.
func (a guide) Profile() string {
	if len(a.Profiles) == 0 || slices.Contains(a.Profiles, "readonly") {
		return "readonly"
	}
	return a.Profiles[0]
}

// Seconds is the time limit in words.
func (a guide) Seconds() string {
	if a.Limits.Seconds == 0 {
		return "any time"
	}
	return tool.Count(a.Limits.Seconds, "second")
}
