package gateway

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
	"github.com/sallyport/sallyport/policies"
)

func TestRead(t *testing.T) {
	g, w := judged(t, inventory, rules, customRules)
	w.names["web1.internal"] = []string{"10.0.0.1"}
	const web1 = `{"alias":"web1","host":"web1.internal","port":22,"tags":["web","docker"],"description":"First.","has_credentials_ref":true}`
	for uri, want := range map[string]string{
		"ssh://hosts":          `{"count":1,"hosts":[` + web1 + `]}`,
		"ssh://host/web1":      web1,
		"ssh://host/web1/tags": `{"alias":"web1","tags":["web","docker"]}`,
		"ssh://host/web1/capabilities": `{"alias":"web1","tags":["web","docker"],"profiles":["readonly"],
			"limits":{"max_seconds":30,"max_output_bytes":4096,"max_concurrent":32,"require_known_host":true,
				"host_key_auto_add":false,"task_result_ttl":77,"task_progress_interval":5,"deny_patterns_enabled":false},
			"policy_probes":[
				{"probe":"basic_diagnostics","command":"uptime","allowed":true},
				{"probe":"filesystem_overview","command":"df -h","allowed":true},
				{"probe":"memory_overview","command":"free -m","allowed":true},
				{"probe":"process_overview","command":"ps aux","allowed":true},
				{"probe":"service_status","command":"systemctl status ssh","allowed":true},
				{"probe":"log_search","command":"grep -c error /var/log/syslog","allowed":true},
				{"probe":"file_search","command":"find /var/log -name '*.log'","allowed":false},
				{"probe":"service_status_as_root","command":"sudo -n systemctl status ssh","allowed":false},
				{"probe":"docker_status","command":"docker ps","allowed":true}],
			"network":{"require_known_host":true,"allowlist_enabled":false,"blocklist_enabled":true},
			"features":{"supports_async":` + asyncIs(g) + `,"supports_cancellation":true}}`,
	} {
		t.Run(uri, func(t *testing.T) {
			r := g.Read(t.Context(), caller("dev"), uri)
			if r.Contents == nil || r.Missing || len(r.DecisionIDs) != 1 {
				t.Fatalf("%+v", r)
			}
			if d := cmp.Diff(plain(t, json.RawMessage(want)), plain(t, r.Contents)); d != "" {
				t.Error(d)
			}
		})
	}
}

// asyncIs says whether commands can run in the background: if there is a tool.
func asyncIs(g *Gateway) string {
	b, _ := json.Marshal(slices.Contains(g.names, "ssh_run_async"))
	return string(b)
}

func plain(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var native any
	if err := json.Unmarshal(b, &native); err != nil {
		t.Fatal(err)
	}
	return native
}

// What is not there and what the caller may not know of are missing alike, and
// both are on record.
func TestReadMissing(t *testing.T) {
	g, w := judged(t, inventory, rules, customRules)
	for uri, record := range map[string]audit.Type{
		"ssh://host/moon":                        audit.Invalid,
		"ssh://host/db1":                         audit.Refused,
		"ssh://host/db1/tags":                    audit.Refused,
		"ssh://host/db1/capabilities":            audit.Refused,
		"ssh://host/web2":                        audit.Refused, // a custom rule
		"ssh://host/web3":                        audit.Refused, // its jump host
		"ssh://host/router":                      audit.Refused, // its kind
		"ssh://host/old1":                        audit.Refused, // denied
		"ssh://host/":                            audit.Invalid,
		"ssh://host/web1/keys":                   audit.Invalid,
		"ssh://host/web1/tags/":                  audit.Invalid,
		"ssh://host/%77eb1":                      audit.Invalid,
		"ssh://hosts/":                           audit.Invalid,
		"SSH://hosts":                            audit.Invalid,
		"":                                       audit.Invalid,
		"ssh://host/" + strings.Repeat("x", 101): audit.Invalid,
	} {
		w.events = nil
		r := g.Read(t.Context(), caller("dev"), uri)
		if !r.Missing || r.Contents != nil || r.Text != noResource(uri).Message {
			t.Errorf("%q: %+v", uri, r)
		}
		if len(w.events) != 1 || w.events[0].Type != record || w.events[0].Subject != "dev" {
			t.Errorf("%q: on record is %+v", uri, w.events)
		}
	}
}

// A read that is refused for another reason says so.
func TestReadRefused(t *testing.T) {
	w, g := newWorld(t)
	w.decide = func(in policy.Input) tool.Decision {
		if in.Call.Tool == "read_host" {
			return deny("limit_rate")(in)
		}
		return allow(in)
	}
	r := g.Read(t.Context(), agent, "ssh://host/web1")
	if r.Missing || r.Contents != nil || !strings.Contains(r.Text, "limit_rate") {
		t.Errorf("%+v", r)
	}
}

// Reading about a host costs nobody a call: probes do not count, and a name that
// does not resolve is no reason not to describe the host.
func TestProbesAreDryRuns(t *testing.T) {
	w, g := newWorld(t)
	r := g.Read(t.Context(), agent, "ssh://host/two/capabilities")
	if r.Contents == nil {
		t.Fatalf("%+v", r)
	}
	runs, plans := 0, 0
	for _, step := range w.trail {
		switch {
		case strings.HasPrefix(step, "run "):
			runs++
		case strings.HasPrefix(step, "decide plan "):
			plans++
		}
	}
	if runs != 0 || plans != len(probes)-1 { // not docker's
		t.Errorf("%d runs, %d dry runs: %v", runs, plans, w.trail)
	}
	if usage, _ := g.usage.begin(agent.Subject, "two", g.now()); usage.CallsLastMinute.Subject != 1 {
		t.Errorf("reading counts as %d calls", usage.CallsLastMinute.Subject)
	}
	if r := g.Read(t.Context(), agent, "ssh://host/gone"); r.Contents == nil {
		t.Errorf("a host whose name does not resolve: %+v", r)
	}
}

// Each shipped profile permits a probe that the others do not, or all that the
// others do; a probe that none permits would say nothing.
func TestProbesFitTheProfiles(t *testing.T) {
	permitted := map[string]int{}
	for _, profile := range policies.Profiles() {
		g, w := judged(t, inventory, "rules:\n  - {action: allow, tags: [docker], profile: "+profile+"}\n", "")
		w.names["web1.internal"] = []string{"10.0.0.1"}
		n := 0
		for _, p := range probes {
			if g.dryRun(t.Context(), agent, "web1", p.command) {
				permitted[p.name]++
				n++
			}
		}
		if n < 4 {
			t.Errorf("%s permits %d probes", profile, n)
		}
	}
	some := false
	for _, p := range probes {
		if permitted[p.name] == 0 {
			t.Errorf("no profile permits %s: %s", p.name, p.command)
		}
		some = some || permitted[p.name] == 1
	}
	if !some {
		t.Error("no probe tells the profiles apart")
	}
}
