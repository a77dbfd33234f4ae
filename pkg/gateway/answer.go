package gateway

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tool"
)

// answer gives what the gateway itself was asked. It is judged, recorded and
// formatted like a run on a host.
func (c *call) answer(ctx context.Context, ask tool.Ask, run tool.Run) tool.Report {
	g := c.gateway
	begun := g.now()
	var value any
	var failure *tool.Failure
	switch ask.Question {
	case tool.AskPing:
		value = "pong"
	case tool.AskHosts:
		value = aliasesOf(g.view(c.caller).hosts())
	case tool.AskInventory:
		value = g.inventory(c.caller)
	case tool.AskHost:
		value, failure = g.describe(ask.Subject, c.caller)
	case tool.AskCapabilities:
		value = c.capabilities(ctx, run)
	case tool.AskReload:
		value, failure = c.reload(ctx)
	}
	return reportOf(value, failure, g.now().Sub(begun))
}

func reportOf(value any, failure *tool.Failure, took time.Duration) tool.Report {
	if failure != nil {
		return tool.Report{Outcome: tool.Finished, Duration: took, Err: failure}
	}
	return tool.Report{Outcome: tool.Finished, Duration: took, Outputs: []tool.Output{{Answer: value}}}
}

func aliasesOf(hosts []config.Host) []string {
	aliases := []string{}
	for _, h := range hosts {
		aliases = append(aliases, h.Alias)
	}
	return aliases
}

func (g *Gateway) inventory(caller tool.Caller) []tool.HostFacts {
	facts := []tool.HostFacts{}
	for _, h := range g.view(caller).hosts() {
		facts = append(facts, g.factsOf(h, caller))
	}
	return facts
}

func (g *Gateway) describe(alias string, caller tool.Caller) (any, *tool.Failure) {
	conf := g.config.Load()
	h, ok := conf.Host(alias)
	if !ok {
		p := unknownHost(alias)
		return nil, &tool.Failure{Code: tool.FailureCode(p.Code), Message: p.Message, Remedy: p.Remedy}
	}
	return g.factsOf(h, caller), nil
}

func (g *Gateway) factsOf(h config.Host, caller tool.Caller) tool.HostFacts {
	return tool.HostFacts{
		Alias: h.Alias, Host: h.Hostname, Port: h.Port, User: h.User, Kind: h.Kind, Tags: h.Tags,
		Description: h.Description, Via: h.Via, HasCredentials: h.Credentials != "",
		Profiles: g.profiles(h.Alias, caller),
	}
}

// profiles are the command profiles that policy.yml grants a caller on a host.
func (g *Gateway) profiles(alias string, caller tool.Caller) []string {
	site := g.config.Load().Site()
	grants := site.Classes[site.Hosts[alias].Class].Allow
	names := map[string]bool{}
	for profile := range grants.Any {
		names[profile] = true
	}
	for profile := range grants.Subjects[caller.Subject] {
		names[profile] = true
	}
	for _, group := range caller.Groups {
		for profile := range grants.Groups[group] {
			names[profile] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (c *call) reload(ctx context.Context) (any, *tool.Failure) {
	revisions, err := c.gateway.Reload(ctx, c.caller.Subject)
	if err != nil {
		return nil, &tool.Failure{
			Code: "reload", Message: "the configuration does not load; the last good one stays: " + err.Error(),
			Remedy: "an operator can see every problem with: sallyport validate",
		}
	}
	return revisions, nil
}
