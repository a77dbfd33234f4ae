package gateway

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/tool"
)

// probe is a typical command; with a tag it is of interest only on hosts that
// have it.
type probe struct{ name, command, tag string }

// probes are what agents mostly begin with. Each shipped profile has one that
// the profiles before it do not permit.
var probes = []probe{
	{"basic_diagnostics", "uptime", ""},
	{"filesystem_overview", "df -h", ""},
	{"memory_overview", "free -m", ""},
	{"process_overview", "ps aux", ""},
	{"service_status", "systemctl status ssh", ""},
	{"log_search", "grep -c error /var/log/syslog", ""},
	{"file_search", "find /var/log -name '*.log'", ""},
	{"service_status_as_root", "sudo -n systemctl status ssh", ""},
	{"docker_status", "docker ps", "docker"},
}

// capabilities are made from the policy and the configuration in force: each
// probe is a dry run of the caller's on the host, and on record as one.
func (c *call) capabilities(ctx context.Context, run tool.Run) tool.Capabilities {
	g := c.gateway
	conf := g.config.Load()
	alias := run.Target.Alias
	answer := tool.Capabilities{
		Alias: alias, Tags: append([]string{}, run.Target.Tags...), Profiles: append([]string{}, g.profiles(alias, c.caller)...),
		Limits: limitsOn(conf, alias, run.Decision.Limits), Probes: []tool.ProbeAnswer{}, Network: networkOf(conf.Site().Network),
		Features: tool.CapabilityFeatures{
			Async:        g.offers(ctx, c.caller, "ssh_run_async"),
			Cancellation: true, // MCP's own, of every running call
		},
	}
	for _, p := range probes {
		if p.tag == "" || slices.Contains(run.Target.Tags, p.tag) {
			allowed := g.dryRun(ctx, c.caller, alias, p.command)
			answer.Probes = append(answer.Probes, tool.ProbeAnswer{Probe: p.name, Command: p.command, Allowed: allowed})
		}
	}
	return answer
}

// limitsOn are the limits that were just decided on a host, with what is not
// policy's to decide.
func limitsOn(conf *config.Config, alias string, decided tool.Limits) tool.CapabilityLimits {
	ttl, interval := conf.TaskTimes(alias)
	return tool.CapabilityLimits{
		MaxSeconds: decided.Seconds, MaxOutputBytes: decided.OutputBytes, MaxConcurrent: decided.Concurrent,
		RequireKnownHost: true, HostKeyAutoAdd: false,
		TaskResultTTL: int(ttl.Seconds()), TaskProgressInterval: int(interval.Seconds()),
		DenyPatterns: len(conf.Site().Hosts[alias].Limits.DenySubstrings) > 0,
	}
}

func networkOf(n config.SiteNetwork) tool.CapabilityNetwork {
	return tool.CapabilityNetwork{RequireKnownHost: true, Allowlist: n.Closed, Blocklist: len(n.Block["4"])+len(n.Block["6"]) > 0}
}

// offers says that a caller's list has a tool.
func (g *Gateway) offers(ctx context.Context, caller tool.Caller, name string) bool {
	return slices.ContainsFunc(g.Tools(ctx, caller), func(t *tool.Tool) bool { return t.Name == name })
}

// dryRun says whether ssh_run would run a command for a caller on a host at one
// of its addresses. It does not count as a call that the caller made, or reading
// about a host would use up what may be done there.
func (g *Gateway) dryRun(ctx context.Context, caller tool.Caller, alias, command string) bool {
	args := marshalled(map[string]string{"alias": alias, "command": command})
	c := &call{gateway: g, id: newID(g.now()), caller: caller, name: "ssh_run", args: json.RawMessage(args)}
	if c.planIt() != nil {
		return false
	}
	c.plan.DryRun = true
	target, problem := targetOf(g.config.Load(), alias)
	if problem != nil {
		return false
	}
	unresolved := c.resolve(ctx, &target)
	for {
		run := c.decide(ctx, target, policy.Usage{}, unresolved).Run
		next, more := nextTarget(run)
		if run.Decision.Allow || !more {
			return run.Decision.Allow
		}
		target = next
	}
}
