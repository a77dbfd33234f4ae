package kit

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// sample is a call that is put before policy the way a gateway does.
type sample struct {
	name    string
	command string
	at      time.Time
}

var (
	fridayNoon  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	fridayNight = time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)
)

var sampleCalls = []sample{
	{"look", "df -h | tail -1", fridayNoon},
	{"restart", "sudo -n systemctl restart app", fridayNoon},
	{"restart_at_night", "sudo -n systemctl restart app", fridayNight},
	{"unknown_program", "id", fridayNoon},
	{"unknown_option", "systemctl status nginx --host other", fridayNoon},
	{"substitution", "echo $(id)", fridayNoon},
	{"capture", "sudo -n tcpdump -nn -c 100 -i eth0", fridayNoon},
	{"report", "psql -XAt -d shop -c 'SELECT count(*) FROM orders'", fridayNoon},
	{"write", "tee /srv/data/x", fridayNoon},
}

// samples are fixtures for a repository without records, and a site with the one
// host that they are about.
func samples() ([]NamedDocument, policy.Site) {
	limits := policy.SiteLimits{Seconds: 60, OutputBytes: 1 << 20, Concurrent: 4}
	site := policy.Site{
		Version: policy.SiteVersion,
		Hosts:   map[string]policy.SiteHost{"web1": {Class: "c0", Limits: limits}},
		Classes: map[string]policy.SiteClass{"c0": {Allow: policy.SiteGrants{
			Any:    map[string]policy.SiteGrant{"readonly": {Rule: "rules[0]", Line: 1}},
			Groups: map[string]map[string]policy.SiteGrant{"sre": {"ops": {Rule: "rules[1]", Line: 2}}},
		}}},
		Limits: limits,
	}
	var documents []NamedDocument
	for _, s := range sampleCalls {
		documents = append(documents, NamedDocument{s.name, s.input().Document()})
	}
	return documents, site
}

func (s sample) input() policy.Input {
	address := netip.MustParseAddr("10.0.0.11")
	return policy.NewInput(policy.Facts{
		CallID: "01JD0000000000000000000000", Digest: "0000", Now: s.at,
		Tool: &tool.Tool{Name: "ssh_run", Set: "fleet", Effect: tool.Execute},
		Caller: tool.Caller{
			Subject: "agent-7", Groups: []string{"sre"}, Auth: "token", Transport: "http",
			Client: tool.Client{Name: "sample", Version: "1"},
		},
		Plan: tool.Plan{Scope: tool.Scope{Alias: "web1"}, Steps: []tool.Step{tool.RunLine(s.command)}},
		Target: tool.Target{
			Alias: "web1", Hostname: "web1.internal", Port: 22, User: "ops", Kind: "posix", Source: "inventory",
			Auth: "key", Tags: []string{"production", "web"}, Addresses: []netip.Addr{address}, Address: address,
		},
	})
}
