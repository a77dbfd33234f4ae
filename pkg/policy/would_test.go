package policy

import (
	"slices"
	"testing"

	"github.com/sallyport/sallyport/pkg/tool"
)

func aboutHost(alias string) Input {
	return canary(tool.Target{Alias: alias, Hostname: "x.invalid", Port: 22, Source: "inventory"},
		tool.AskGateway(tool.GatewayRead, tool.AskHost, ""))
}

// What would be allowed is what is allowed, and asking leaves no record.
func TestWould(t *testing.T) {
	log := &memory{}
	e := start(t, Options{Site: granting("readonly", "web1"), Log: log})
	for _, in := range []Input{aboutHost("web1"), aboutHost("web9"), on("web1", "uptime"), on("web1", "rm x"), on("web9", "uptime")} {
		before := len(log.records(t))
		would := e.Would(t.Context(), in)
		if n := len(log.records(t)); n != before {
			t.Errorf("%d records of a question", n-before)
		}
		if d := e.Decide(t.Context(), in, Mark{}); d.Allow != would {
			t.Errorf("%s on %s: would be allowed: %v; %v", in.Ops[0].Action, in.Host.Alias, would, d.Reasons)
		}
	}
	e.Close(t.Context())
	if e.Would(t.Context(), aboutHost("web1")) {
		t.Error("allowed although the engine is closed")
	}
}

// Fields that a custom package looks at are found wherever they stand, and what
// cannot be told apart counts as all of them.
func TestHostFacts(t *testing.T) {
	for rule, want := range map[string][]string{
		`deny contains 1 if input.subject.id == "x"`:                              nil,
		`deny contains 1 if input.call.tool == "x"`:                               nil,
		`deny contains 1 if "x" in input.host.tags`:                               {"tags"},
		`deny contains 1 if input["host"]["user"] == "root"`:                      {"user"},
		`deny contains 1 if { some h in input.host.via; h.alias == "x" }`:         {"via"},
		`deny contains 1 if { h := input.host; h.alias == "x" }`:                  {AnyHostFact},
		`deny contains 1 if { some k, v in input.host; v == k }`:                  {AnyHostFact},
		`deny contains 1 if { some k in ["alias"]; input.host[k] == "x" }`:        {AnyHostFact},
		`deny contains 1 if { some k in ["host"]; input[k].port == 1 }`:           {AnyHostFact},
		`deny contains 1 if named(input)` + "\n" + `named(x) if x.host.port == 1`: {AnyHostFact},
		`deny contains 1 if data.site.hosts[input.host.alias].class == "c0"`:      {"alias"},
		`deny contains 1 if data.sallyport.network.dialled != set()`:              {"alias", "via"},
		`deny contains 1 if { input.host.kind == "x"; input.host.port == 1 }`:     {"kind", "port"},
		`permit contains op if { some op in input.ops; op.action == "x" }`:        nil,
	} {
		e := start(t, Options{Custom: []string{customBundle(t, "package custom.team\nimport rego.v1\n"+rule)}})
		if got := e.HostFacts(); !slices.Equal(got, want) {
			t.Errorf("%s\nlooks at %v, want %v", rule, got, want)
		}
	}
	if e := start(t, Options{Bundle: mainBundle(t, fickle)}); !slices.Equal(e.HostFacts(), []string{AnyHostFact}) {
		t.Errorf("another main bundle looks at %v", e.HostFacts())
	}
	if e := start(t, Options{}); len(e.HostFacts()) != 0 {
		t.Errorf("the shipped bundle looks at %v", e.HostFacts())
	}
}
