package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
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

// BenchmarkFanOut runs one command on every host of a tag over live connections.
// The hosts are in this process too, and answer without running anything.
func BenchmarkFanOut(b *testing.B) {
	for _, hosts := range []int{100, 1000} {
		b.Run(fmt.Sprint(hosts), func(b *testing.B) {
			st := fanOutStack(b, hosts)
			args := json.RawMessage(`{"tag":"all","command":"uptime"}`)
			call := func() {
				r := st.gateway.Call(b.Context(), localCaller("bench"), "ssh_run_on_tag", args, nil)
				if r.IsError {
					b.Fatal(r.Text[:min(len(r.Text), 500)])
				}
			}
			call()
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}

func fanOutStack(b *testing.B, hosts int) *stack {
	b.Helper()
	key, public, err := sshtest.NewKeyFile()
	if err != nil {
		b.Fatal(err)
	}
	s := site{dir: b.TempDir()}
	var servers, known strings.Builder
	for i := range hosts {
		server, err := sshtest.Serve(b.Context(), sshtest.Options{User: "ops", AuthorizedKey: public, Faults: sshtest.Faults{Exec: answerOK}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { server.Close() })
		fmt.Fprintf(&servers, "  - {alias: h%d, host: 127.0.0.1, port: %d, credentials: ops, tags: [all]}\n", i, server.Addr().Port())
		fmt.Fprintln(&known, server.KnownHostsLine())
	}
	s.write(b, "sallyport.yml", "log_level: error\npolicy: {timeout: 1s}\nlogs: {decision: {file: decisions.jsonl}, audit: {file: audit.jsonl}}\n", 0o600)
	s.write(b, "servers.yml", "hosts:\n"+servers.String(), 0o600)
	s.write(b, "credentials.yml", "entries:\n  - {name: ops, username: ops, key_path: login}\n", 0o600)
	s.write(b, "policy.yml", "rules:\n  - {action: allow, profile: readonly}\n", 0o600)
	s.write(b, "keys/login", string(key), 0o600)
	s.write(b, "keys/known_hosts", known.String(), 0o600)
	st, err := assemble(b.Context(), stackOptions{
		load:   func() (*config.Config, error) { return config.Load(config.Options{Dir: s.dir, Env: noEnv}) },
		stderr: io.Discard,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.close(context.Background()) })
	return st
}

// answerOK is a host whose every command says ok and succeeds.
func answerOK(_ string, ch ssh.Channel) bool {
	_, _ = ch.Write([]byte("ok\n"))
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
	return true
}
