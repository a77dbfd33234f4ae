package main

import (
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tool"
)

// BenchmarkWarm takes one short command over a live connection apart: the whole
// call without MCP, the executor alone, and the decision alone.
func BenchmarkWarm(b *testing.B) {
	s := newSite(b)
	st, err := assemble(b.Context(), stackOptions{
		load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: s.dir, Env: noEnv}) },
		stderr: io.Discard,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer st.close(context.Background()) //nolint:errcheck // nothing is left to lose
	args := json.RawMessage(`{"alias":"readonly","command":"true"}`)
	caller := localCaller("bench")
	b.Run("call", func(b *testing.B) {
		for b.Loop() {
			if r := st.gateway.Call(b.Context(), caller, "ssh_run", args, nil); r.IsError {
				b.Fatal(r.Text)
			}
		}
	})
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			if _, problem := st.gateway.Plan(b.Context(), caller, "ssh_run", args); problem != nil {
				b.Fatal(problem.Message)
			}
		}
	})
	b.Run("executor", func(b *testing.B) {
		address := netip.MustParseAddr("127.0.0.1")
		h, _ := st.config.Load().Host("readonly")
		job := tool.Job{
			Subject: "bench", Steps: []tool.Step{tool.RunLine("true")}, Limits: tool.Limits{Seconds: 10, OutputBytes: 1000},
			Target: tool.Target{
				Alias: h.Alias, Hostname: h.Hostname, Port: h.Port, User: h.User, Kind: h.Kind, Auth: h.Auth,
				Credentials: h.Credentials, Address: address, Addresses: []netip.Addr{address},
			},
		}
		for b.Loop() {
			if r := st.runner.Run(b.Context(), job); r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	})
}
