package policy

import (
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// InputVersion is the version of the input document. A field may be added to a
// version; none is renamed, removed or given another meaning.
const InputVersion = 1

// Input is the one document that a decision is made from. Everything that a
// decision depends on is here or in the bundles, the time included, so a
// decision can be made again from a full record of it.
type Input struct {
	Version int         `json:"version"`
	Call    Call        `json:"call"`
	Subject Subject     `json:"subject"`
	Host    Host        `json:"host"`
	Network Network     `json:"network"`
	Ops     []tool.Op   `json:"ops"`
	Limits  InputLimits `json:"limits"`
	Usage   Usage       `json:"usage"`
	Now     string      `json:"now"` // RFC 3339, UTC
}

// Call is which tool was called. Digest is the plan's.
type Call struct {
	ID      string      `json:"id"`
	Tool    string      `json:"tool"`
	Toolset string      `json:"toolset"`
	Effect  tool.Effect `json:"effect"`
	Digest  string      `json:"digest"`
}

// Subject is who calls. Only id, groups and auth are verified.
type Subject struct {
	ID        string      `json:"id"`
	Groups    []string    `json:"groups"`
	Auth      string      `json:"auth"`
	Client    tool.Client `json:"client"`
	Transport string      `json:"transport"`
}

// Host is where the plan would run. For a call to the gateway itself the alias
// is empty and source is "gateway".
type Host struct {
	Alias    string   `json:"alias"`
	Hostname string   `json:"hostname"`
	Port     int      `json:"port"`
	User     string   `json:"user"`
	Kind     string   `json:"kind"`
	Tags     []string `json:"tags"`
	Source   string   `json:"source"`
	Auth     string   `json:"auth"`
	// Of a host that the caller describes (source "adhoc"): the name of the key
	// file to log in with, and the fingerprint that its host key has to have where
	// no known_hosts file has one. Empty for others.
	Key     string `json:"key"`
	HostKey string `json:"host_key"`
	Via     []Hop  `json:"via"`
}

// Hop is a jump host on the way, the first one dialled first. Source is where it
// is written, as of a host.
type Hop struct {
	Alias     string    `json:"alias"`
	Hostname  string    `json:"hostname"`
	Port      int       `json:"port"`
	User      string    `json:"user"`
	Source    string    `json:"source"`
	Addresses []Address `json:"addresses"`
}

// Network is where the host's name leads. Address is the one that would be
// dialled.
type Network struct {
	Address   string    `json:"address"`
	Addresses []Address `json:"addresses"`
}

// Address is an IP address as facts. Bits is the address in binary digits, 32
// or 128 of them, so that "is it in one of these networks" is one look-up per
// prefix length: substring(bits, 0, 8) in the site's networks of length 8.
type Address struct {
	IP     string `json:"ip"`
	Family int    `json:"family"` // 4 or 6
	Scope  string `json:"scope"`  // global, private, loopback, link_local, unspecified, multicast
	Bits   string `json:"bits"`
	// Embedded is the bits of the IPv4 address to which a translator takes an
	// IPv6 address of NAT64, 6to4 or Teredo; empty for others.
	Embedded string `json:"embedded"`
}

// InputLimits are the caller's wishes; zero is no wish.
type InputLimits struct {
	Requested tool.Limits `json:"requested"`
}

// Usage is what is going on while the decision is made.
type Usage struct {
	Running         UsageRunning `json:"running"`
	CallsLastMinute UsageCalls   `json:"calls_last_minute"`
}

// UsageRunning counts calls that run now, without this one.
type UsageRunning struct {
	Subject int `json:"subject"`
	Host    int `json:"host"` // by this subject on this host
}

// UsageCalls counts calls in the last minute, without this one.
type UsageCalls struct {
	Subject int `json:"subject"`
}

// Facts is what the gateway knows when it asks for a decision.
type Facts struct {
	CallID string
	Tool   *tool.Tool
	Caller tool.Caller
	Plan   tool.Plan
	Digest string // of the plan on the target, see tool.Digest
	Target tool.Target
	Usage  Usage
	Now    time.Time
}
