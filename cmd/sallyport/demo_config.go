package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// The demo's configuration is small enough to read in one go. Its custom
// package is there so that something that takes time may run.
const (
	demoSettings = `transport: http
http: {listen: "127.0.0.1:0"}
policy: {custom: [policies]}
log_level: error
logs:
  record: full
  decision: {file: decisions.jsonl}
  audit: {file: audit.jsonl}
`
	demoServers = `hosts:
  - alias: demo
    host: %s
    port: %d
    credentials: demo
    tags: [demo]
    description: an SSH server inside this process
`
	demoCredentials = `entries:
  - {name: demo, username: demo, key_path: demo_ed25519}
`
	demoPolicy = `known_hosts_path: keys/known_hosts
limits: {max_seconds: 30, max_output_bytes: 65536}
network: {allow_ips: ["%s"]}
rules:
  - {action: allow, tags: [demo], profile: diagnose}
`
	demoCustom = `# METADATA
# description: What this team adds to the shipped policies.
package custom.demo

# METADATA
# title: the demo may sleep
permit contains op if {
	some op in input.ops
	op.action == "shell.run"
	op.command.certainty == "static"
	every c in op.command.commands {
		c.program == "sleep"
		c.wrappers == []
	}
}
`
)

func writeDemoConfig(dir string, addr netip.AddrPort, knownHost string, key []byte) error {
	files := map[string]string{
		"sallyport.yml":             demoSettings,
		"servers.yml":               fmt.Sprintf(demoServers, addr.Addr(), addr.Port()),
		"credentials.yml":           demoCredentials,
		"policy.yml":                fmt.Sprintf(demoPolicy, addr.Addr()),
		"policies/.manifest":        `{"revision": "demo-1", "roots": ["custom/demo"], "rego_version": 1}`,
		"policies/custom/demo.rego": demoCustom,
		"keys/demo_ed25519":         string(key),
		"keys/known_hosts":          knownHost + "\n",
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}
