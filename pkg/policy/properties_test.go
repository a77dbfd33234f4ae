package policy_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

var (
	propertyCases = flag.Int("properties", 150, "how many made-up sets of rules to judge calls by")
	propertySeed  = flag.Uint64("properties.seed", 1, "which of them")
)

// said is an entry of policy.yml, and what of it matters here: what it says, of
// what, to whom.
type said struct {
	allows   bool
	profile  string
	program  string
	dir      string // of a rule on files: read and write below it
	audience string // words of policy.yml for whom it is about
}

// about says that a rule is about the caller of [runFacts].
func (r said) about() bool {
	return r.audience == "" || slices.Contains(mine, r.audience)
}

var (
	mine   = []string{"subjects: [agent-7]", "groups: [aiops]"}
	others = []string{"subjects: [agent-8]", "groups: [dba]"}
)

func (r said) yaml(alias string) string {
	entry := []string{"action: deny", "aliases: [" + alias + "]"}
	if r.allows {
		entry[0] = "action: allow"
	}
	switch {
	case r.profile != "":
		entry = append(entry, "profile: "+r.profile)
	case r.program != "":
		entry = append(entry, "simple_binaries: ["+r.program+"]")
	default:
		entry = append(entry, fmt.Sprintf("read: [%s/**], write: [%s/**]", r.dir, r.dir))
	}
	if r.audience != "" {
		entry = append(entry, r.audience)
	}
	return "  - {" + strings.Join(entry, ", ") + "}\n"
}

// asked is a call: of programs in a pipe, or of a tool on a file.
type asked struct {
	line     string
	programs []string
	action   tool.Action
	as       string // the program that does the same, where one may be granted instead
	path     string // that a tool or a program is about
}

var calls = []asked{
	{line: "uptime", programs: []string{"uptime"}},
	{line: "df -h | tail -n 1", programs: []string{"df", "tail"}},
	{line: "cat /var/log/syslog", programs: []string{"cat"}, path: "/var/log/syslog"},
	{line: "cat /srv/app/x", programs: []string{"cat"}, path: "/srv/app/x"},
	{line: "id -u", programs: []string{"id"}},
	{line: "systemctl status nginx", programs: []string{"systemctl"}},
	{action: tool.FileRead, as: "cat", path: "/var/log/syslog"},
	{action: tool.FileList, as: "ls", path: "/srv/app"},
	{action: tool.FileWrite, path: "/srv/app/x"},
}

func (c asked) on(alias string) policy.Input {
	facts := runFacts(alias, c.line)
	if c.action != "" {
		facts.Plan = tool.Plan{Steps: []tool.Step{tool.LocateFile(c.action, c.path)}}
	}
	return policy.NewInput(facts)
}

// concerns says that a rule on programs or files is about what a call does.
func (r said) concerns(c asked) bool {
	return r.program != "" && slices.Contains(c.programs, r.program) || r.dir != "" && strings.HasPrefix(c.path+"/", r.dir+"/")
}

// grants says whether rules have something that a call could be allowed by. That
// is less than what makes policy allow it.
func grants(rules []said, c asked) bool {
	denied := map[string]bool{}
	for _, r := range rules {
		denied[r.profile] = denied[r.profile] || r.profile != "" && !r.allows && r.about()
	}
	has := func(fits func(said) bool) bool {
		return slices.ContainsFunc(rules, func(r said) bool { return r.allows && r.about() && fits(r) })
	}
	byProfile := has(func(r said) bool { return r.profile != "" && !denied[r.profile] })
	if c.action != "" {
		return c.as != "" && (byProfile || has(func(r said) bool { return r.program == c.as })) ||
			has(func(r said) bool { return r.dir != "" && r.concerns(c) })
	}
	for _, program := range c.programs {
		if !byProfile && !has(func(r said) bool { return r.program == program }) {
			return false
		}
	}
	return true
}

// objects says whether one of the rules denies what a call does.
func objects(rules []said, c asked) bool {
	return slices.ContainsFunc(rules, func(r said) bool { return !r.allows && r.about() && r.concerns(c) })
}

// against is a rule that denies a call.
func against(r *rand.Rand, c asked) said {
	deny := said{audience: one(r, append(mine, ""))}
	if c.action != "" || c.path != "" && r.IntN(2) == 0 {
		deny.dir = one(r, []string{c.path, strings.TrimSuffix(c.path, "/syslog"), c.path})
	} else {
		deny.program = one(r, c.programs)
	}
	return deny
}

func one[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func someRule(r *rand.Rand) said {
	rule := said{allows: r.IntN(4) > 0, audience: one(r, slices.Concat(mine, mine, others, []string{"", ""}))}
	switch r.IntN(3) {
	case 0:
		rule.profile = one(r, []string{"readonly", "diagnose", "ops"})
	case 1:
		rule.program = one(r, []string{"uptime", "df", "tail", "cat", "id", "systemctl", "ls"})
	default:
		rule.dir = one(r, []string{"/srv", "/srv/app", "/var/log", "/opt"})
	}
	return rule
}

// unrelated says that a rule cannot be what a call is allowed by.
func unrelated(r said, c asked) bool {
	return !r.allows || !r.about() || r.profile == "" && !r.concerns(c) && (c.as == "" || r.program != c.as)
}

// hostRules are rules that hold on a host of their own, so that one configuration
// has all of them.
type hostRules struct {
	alias string
	rules []said
}

func configured(t *testing.T, all []hostRules) *policy.Engine {
	t.Helper()
	var servers, rules, files strings.Builder
	for _, h := range all {
		fmt.Fprintf(&servers, "- {alias: %s, host: %s.example, credentials: ops}\n", h.alias, h.alias)
		for _, r := range h.rules {
			if r.dir != "" {
				files.WriteString(r.yaml(h.alias))
			} else {
				rules.WriteString(r.yaml(h.alias))
			}
		}
	}
	return newEngine(t, policy.Options{Site: siteWith(t, "hosts:\n"+servers.String(), "version: 3\nrules:\n"+rules.String()+"files:\n"+files.String())})
}

// Whatever the rules: nothing is permitted without a grant, what denies goes over
// all that allows, and a rule that is about something else, or that denies, turns
// no refusal into a permit.
func TestRulesHoldWhateverTheyAre(t *testing.T) {
	r := rand.New(rand.NewPCG(*propertySeed, 0))
	var base, more, denying []hostRules
	var added []said
	for i := range *propertyCases {
		rules := make([]said, r.IntN(5))
		for j := range rules {
			rules[j] = someRule(r)
		}
		added = append(added, someRule(r))
		c := calls[i%len(calls)]
		base = append(base, hostRules{fmt.Sprintf("base%d", i), rules})
		more = append(more, hostRules{fmt.Sprintf("more%d", i), slices.Insert(slices.Clone(rules), r.IntN(len(rules)+1), added[i])})
		denying = append(denying, hostRules{fmt.Sprintf("deny%d", i), slices.Insert(slices.Clone(rules), r.IntN(len(rules)+1), against(r, c))})
	}
	e := configured(t, slices.Concat(base, more, denying))
	decide := func(h hostRules, c asked) bool {
		d := e.Decide(t.Context(), c.on(h.alias), policy.Mark{Mode: "plan"})
		switch {
		case d.Allow && !grants(h.rules, c):
			t.Errorf("%+v is allowed without a grant: %+v", c, h.rules)
		case d.Allow && objects(h.rules, c):
			t.Errorf("%+v is allowed and denied: %+v", c, h.rules)
		}
		return d.Allow
	}
	allowed, turned := 0, 0
	for i, h := range base {
		for _, c := range calls {
			was, is := decide(h, c), decide(more[i], c)
			if !was && is {
				turned++
				if unrelated(added[i], c) {
					t.Errorf("%+v is allowed by %+v beside %+v", c, added[i], h.rules)
				}
			}
			if was {
				allowed++
			}
		}
		if c := calls[i%len(calls)]; decide(denying[i], c) {
			t.Errorf("%+v is allowed in spite of what denies it: %+v", c, denying[i].rules)
		}
	}
	if n := len(base) * len(calls); allowed < n/10 || allowed > n*9/10 || turned == 0 {
		t.Errorf("%d of %d calls are allowed, %d of them by a further rule; that shows little", allowed, n, turned)
	}
	t.Logf("%d sets of rules, %d calls each: %d allowed, %d turned by a further rule", len(base), len(calls), allowed, turned)
}
