package policy

import (
	"bytes"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ruled is a site with a rule for everybody, one for a group and one for a
// subject, one that denies, and one that nobody can use.
func ruled() Site {
	limits := SiteLimits{Seconds: 60, OutputBytes: 1 << 20, Concurrent: 4}
	rule := func(profile, name string, line int) map[string]SiteGrant {
		return map[string]SiteGrant{profile: {name, line}}
	}
	return Site{
		Version: SiteVersion, Limits: limits,
		Hosts: map[string]SiteHost{"web1": {"c0", limits}, "db1": {"c1", limits}, "hop": {"c2", limits}},
		Classes: map[string]SiteClass{
			"c0": {Allow: SiteGrants{
				Any:      rule("readonly", "rules[0]", 2),
				Groups:   map[string]map[string]SiteGrant{"sallyport-canary": rule("ops", "restarts", 5)},
				Subjects: map[string]map[string]SiteGrant{"nobody": rule("ops", "rules[2]", 9)},
			}},
			"c1": {Allow: SiteGrants{Any: rule("readonly", "rules[0]", 2)}, Deny: SiteGrants{Any: rule("readonly", "not here", 12)}},
			"c2": {Allow: SiteGrants{Any: rule("diagnose", "on the way", 14)}},
		},
	}
}

const speaking = `
# METADATA
# title: Nobody sleeps
deny contains "sleep" if input.ops[0].command.text == "sleep 1"

deny contains "never" if input.host.alias == "moon"

redact contains "secret" if input.host.alias == "web1"

limits := {"seconds": 5} if input.host.alias == "db1"

helper if true
`

// What is at work in a decision is told: rules of policy.yml, rules of custom
// packages, reasons.
func TestReplayUses(t *testing.T) {
	log := &memory{}
	custom := customBundle(t, "package custom.team\n"+speaking)
	e := start(t, Options{Site: ruled(), Custom: []string{custom}, Log: log, FullRecords: true})
	r, err := e.Replay(t.Context(), ReplayOptions{Uses: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		in   Input
		want []string
	}{
		{"by the rule for all", on("web1", "df -h"), []string{"rules[0]", "data.custom.team.redact", "restarts"}},
		{"by that for the group", on("web1", "sudo -n systemctl restart app-web"), []string{"restarts", "data.custom.team.redact"}},
		{"refused", on("web1", "moo --x"), []string{"command_program"}},
		{"refused by a rule", on("db1", "df -h"), []string{"not here", "data.custom.team.limits", "command_denied"}},
		{"refused by a package", on("web1", "sleep 1"), []string{"data.custom.team.deny", "custom_denied", "command_program"}},
		{"unknown", on("moon", "df -h"), []string{"data.custom.team.deny", "custom_denied", "host_unknown", "limit_undefined"}},
	} {
		log.lines = nil
		e.Decide(t.Context(), tc.in, Mark{})
		for range 2 { // asked, then remembered
			out, err := r.Judge(t.Context(), log.lines[0])
			if err != nil || out.Change != "" || out.Status != Judged {
				t.Fatalf("%s: %v %+v", tc.name, err, out)
			}
			if got := names(r, out.Used); !maps.Equal(got, set(tc.want)) {
				t.Errorf("%s: used %v, want %v", tc.name, slices.Sorted(maps.Keys(got)), tc.want)
			}
		}
	}
	var site, spoken []Rule
	for _, rule := range r.Rules() {
		switch rule.Kind {
		case KindSite:
			site = append(site, rule)
		case KindCustom:
			spoken = append(spoken, Rule{rule.Kind, rule.Name, rule.Where[strings.LastIndex(rule.Where, "/")+1:], rule.Title})
		}
	}
	if diff := cmp.Diff([]Rule{
		{KindSite, "rules[0]", "policy.yml:2", "allow readonly for everybody"},
		{KindSite, "restarts", "policy.yml:5", "allow ops for group sallyport-canary"},
		{KindSite, "rules[2]", "policy.yml:9", "allow ops for subject nobody"},
		{KindSite, "not here", "policy.yml:12", "deny readonly for everybody"},
		{KindSite, "on the way", "policy.yml:14", "allow diagnose for everybody"},
	}, site); diff != "" {
		t.Errorf("rules of policy.yml (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Rule{
		{KindCustom, "data.custom.team.deny", "team.rego:5", "Nobody sleeps"},
		{KindCustom, "data.custom.team.deny", "team.rego:7", ""},
		{KindCustom, "data.custom.team.redact", "team.rego:9", ""},
		{KindCustom, "data.custom.team.limits", "team.rego:11", ""},
	}, spoken); diff != "" {
		t.Errorf("rules of packages (-want +got):\n%s", diff)
	}
}

func names(r *Replay, used []int) map[string]bool {
	all := map[string]bool{}
	for _, i := range used {
		all[r.Rules()[i].Name] = true
	}
	return all
}

func set(names []string) map[string]bool {
	all := map[string]bool{}
	for _, name := range names {
		all[name] = true
	}
	return all
}

// Whoever watches changes nothing.
func TestWatchingChangesNothing(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: ruled(), Custom: []string{customBundle(t, "package custom.team\n"+speaking)}, Log: log, FullRecords: true})
	rnd := rand.New(rand.NewSource(5))
	for range 60 {
		e.Decide(t.Context(), alike(rnd), Mark{})
	}
	watched, err := e.Replay(t.Context(), ReplayOptions{Uses: true})
	if err != nil {
		t.Fatal(err)
	}
	plain := replayOf(t, e)
	for _, line := range log.lines {
		rec, err := readRecorded(line)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := answered(t, watched, rec), answered(t, plain, rec); !bytes.Equal(got.full, want.full) {
			t.Errorf("watched %s\nplain   %s", got.full, want.full)
		}
	}
}

// A bundle that does not tell what it makes use of says nothing of policy.yml.
func TestUsesUntold(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: ruled(), Bundle: mainBundle(t, fickle), Log: log, FullRecords: true})
	r, err := e.Replay(t.Context(), ReplayOptions{Uses: true})
	if err != nil {
		t.Fatal(err)
	}
	e.Decide(t.Context(), on("web1", "uptime"), Mark{})
	if out, err := r.Judge(t.Context(), log.lines[0]); err != nil || len(out.Used) > 0 || len(r.Rules()) > 0 {
		t.Errorf("%v: used %v of %v", err, out.Used, r.Rules())
	}
}

// A record that cannot be judged again still tells the reasons that were given.
func TestUsesOfWithheld(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: ruled(), Log: log})
	r, err := e.Replay(t.Context(), ReplayOptions{Uses: true})
	if err != nil {
		t.Fatal(err)
	}
	e.Decide(t.Context(), on("web1", "moo"), Mark{})
	out, err := r.Judge(t.Context(), log.lines[0])
	if err != nil || out.Status != Withheld || !maps.Equal(names(r, out.Used), set([]string{"command_program"})) {
		t.Errorf("%v: %s, used %v", err, out.Status, names(r, out.Used))
	}
}
