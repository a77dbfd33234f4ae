package gateway

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// answer gives what the gateway itself was asked. It is judged, recorded and
// formatted like a run on a host.
func (c *call) answer(ctx context.Context, ask tool.Ask) tool.Report {
	g := c.gateway
	begun := g.now()
	var value any
	var failure *tool.Failure
	switch ask.Question {
	case tool.AskPing:
		value = "pong"
	case tool.AskHosts:
		value = g.aliases()
	case tool.AskHost:
		value, failure = g.describe(ask.Subject, c.caller)
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

func (g *Gateway) aliases() []string {
	aliases := []string{}
	for _, h := range g.config.Load().Hosts {
		aliases = append(aliases, h.Alias)
	}
	return aliases
}

func (g *Gateway) describe(alias string, caller tool.Caller) (any, *tool.Failure) {
	conf := g.config.Load()
	h, ok := conf.Host(alias)
	if !ok {
		p := unknownHost(alias)
		return nil, &tool.Failure{Code: tool.FailureCode(p.Code), Message: p.Message, Remedy: p.Remedy}
	}
	return tool.HostFacts{
		Alias: h.Alias, Host: h.Hostname, Port: h.Port, User: h.User, Kind: h.Kind, Tags: h.Tags,
		Description: h.Description, Via: h.Via, HasCredentials: h.Credentials != "",
		Profiles: g.profiles(alias, caller),
	}, nil
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
		// Where the directory is, is not the caller's business.
		problems := strings.ReplaceAll(err.Error(), c.gateway.config.Load().Dir+string(filepath.Separator), "")
		return nil, &tool.Failure{
			Code: "reload", Message: "the configuration does not load; the last good one stays: " + problems,
			Remedy: "an operator can see every problem with: sallyport validate",
		}
	}
	return revisions, nil
}
