package policy

import (
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// canaryTime is when canaries are judged; any moment does.
var canaryTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// canaries are inputs that a bundle has to answer, whatever it says, before it
// becomes active: they go through every form that an input takes.
func canaries(hosts []string) map[string]Input {
	in := map[string]Input{
		"gateway": canary(tool.Target{}, tool.AskGateway(tool.GatewayList, tool.AskHosts, "")),
		"reload":  canary(tool.Target{}, tool.AskGateway(tool.GatewayControl, tool.AskReload, "")),
		"unresolved": canary(tool.Target{Alias: "sallyport-canary", Hostname: "canary.invalid", Port: 22, Source: "inventory"},
			tool.RunLine("uptime")),
	}
	for _, alias := range append([]string{"sallyport-canary"}, hosts...) {
		in["host "+alias] = canary(tool.Target{Alias: alias, Hostname: "canary.invalid", Port: 22, Source: "inventory"},
			tool.AskGateway(tool.GatewayRead, tool.AskHost, alias))
	}
	outside := canaryTarget("sallyport-canary")
	outside.Source = "adhoc"
	for name, step := range map[string]tool.Step{
		"read":  fileStep(tool.FileOp(tool.FileRead, "/var/log/syslog").At(canaryFile)),
		"write": fileStep(tool.FileOp(tool.FileWrite, "/srv/app/new")),
		"list":  fileStep(tool.FileOp(tool.FileList, "relative")),
		"open":  {Op: tool.Op{Action: tool.ConnOpen, Effect: tool.Link}},
	} {
		in[name] = canary(canaryTarget(slices.Concat(hosts, []string{"sallyport-canary"})[0]), step)
		in[name+" outside of the inventory"] = canary(outside, step)
	}
	for _, line := range []string{
		"uptime",
		"sudo -n systemctl status nginx 2>/dev/null | grep -c \"act\"ive; df -h",
		"ls -l /var/log/*.log",
		"id > /tmp/x && $(id) & cat <<E\nE\n",
		"'",
		"",
	} {
		for _, alias := range append([]string{"sallyport-canary"}, hosts...) {
			in[line+" on "+alias] = canary(canaryTarget(alias), tool.RunLine(line))
		}
	}
	return in
}

func canary(target tool.Target, step tool.Step) Input {
	return NewInput(Facts{
		CallID: "canary",
		Tool:   &tool.Tool{Name: "canary", Set: "canary", Effect: step.Op.Effect},
		Caller: tool.Caller{Subject: "sallyport-canary", Groups: []string{"sallyport-canary"}, Auth: "local", Transport: "stdio"},
		Plan:   tool.Plan{Scope: tool.Scope{Alias: target.Alias}, Steps: []tool.Step{step}},
		Target: target,
		Now:    canaryTime,
	})
}

// fileStep is a step of which policy sees the op alone.
func fileStep(op tool.Op) tool.Step {
	op.Content = &tool.Content{Bytes: 5, Digest: "canary"}
	return tool.Step{Op: op}
}

var canaryFile = tool.FileFacts{
	Path: "/var/log/syslog", Under: tool.Under("/var/log/syslog"), Exists: true, Type: tool.RegularFile,
	Bytes: 5, Mode: "0640", Modified: "2026-01-01T00:00:00Z", Links: 2,
}

func canaryTarget(alias string) tool.Target {
	four, six := netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.MustParseAddr("2001:db8::1")
	return tool.Target{
		Alias: alias, Hostname: "canary.invalid", Port: 22, User: "canary", Kind: "posix", Source: "inventory", Auth: "key",
		Tags: []string{"sallyport-canary"}, Addresses: []netip.Addr{four, six}, Address: four,
		Via: []tool.Target{{
			Alias: "sallyport-canary-hop", Hostname: "hop.invalid", Port: 22, User: "canary", Source: "inventory",
			Addresses: []netip.Addr{six}, Address: six,
		}},
	}
}
