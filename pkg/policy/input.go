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
	Version int         `json:"version"` // 1; fields may be added to it
	Call    Call        `json:"call"`    // which tool was called
	Subject Subject     `json:"subject"` // who calls
	Host    Host        `json:"host"`    // where it would run
	Network Network     `json:"network"` // where the host's name leads
	Ops     []tool.Op   `json:"ops"`     // what the call means
	Limits  InputLimits `json:"limits"`  // what the caller wishes
	Usage   Usage       `json:"usage"`   // what is going on meanwhile
	Now     string      `json:"now"`     // RFC 3339, UTC; there is no other clock
}

// Call is which tool was called. Digest is the plan's.
type Call struct {
	ID      string      `json:"id"`      // of the call, in both logs
	Tool    string      `json:"tool"`    // its name; empty in the question whether a host is listed
	Toolset string      `json:"toolset"` // that the tool is of
	Effect  tool.Effect `json:"effect"`  // of the tool: observe, change, execute, link
	Digest  string      `json:"digest"`  // of the plan, in hex
}

// Subject is who calls. Only id, groups and auth are verified.
type Subject struct {
	ID        string      `json:"id"`        // who it is, verified
	Groups    []string    `json:"groups"`    // verified
	Auth      string      `json:"auth"`      // local, token, oidc, mtls
	Client    tool.Client `json:"client"`    // what the client says of itself, not verified
	Transport string      `json:"transport"` // stdio or http
}

// Host is where the plan would run. For a call to the gateway itself the alias
// is empty and source is "gateway".
type Host struct {
	Alias    string   `json:"alias"`    // of the inventory, or of the connection to a host outside of it; empty for the gateway
	Hostname string   `json:"hostname"` // name or address, as it is written
	Port     int      `json:"port"`     // that is dialled
	User     string   `json:"user"`     // on the host
	Kind     string   `json:"kind"`     // what shell world it is; rules permit commands on posix alone
	Tags     []string `json:"tags"`     // as in servers.yml; none for a host outside of the inventory
	Source   string   `json:"source"`   // inventory, adhoc for a host that the caller describes, gateway where no host has a part in it
	Auth     string   `json:"auth"`     // key, agent, password, cert, identity
	// Of a host that the caller describes: the name of the key file to log in
	// with; empty for others.
	Key string `json:"key"`
	// Of a host that the caller describes: the fingerprint that its host key has
	// to have where no known_hosts file has one; empty for others.
	HostKey string `json:"host_key"`
	Via     []Hop  `json:"via"` // jump hosts, the first one dialled first
}

// Hop is a jump host on the way, the first one dialled first. Source is where it
// is written, as of a host.
type Hop struct {
	Alias     string    `json:"alias"`     // as of a host
	Hostname  string    `json:"hostname"`  // as of a host
	Port      int       `json:"port"`      // as of a host
	User      string    `json:"user"`      // on the jump host
	Source    string    `json:"source"`    // as of a host
	Addresses []Address `json:"addresses"` // what the name resolved to
}

// Network is where the host's name leads. Address is the one that would be
// dialled.
type Network struct {
	Address   string    `json:"address"`   // the one that would be dialled; empty where nothing is, as in a question about a host
	Addresses []Address `json:"addresses"` // what the name resolved to, once
}

// Address is an IP address as facts.
type Address struct {
	IP     string `json:"ip"`     // in the usual form
	Family int    `json:"family"` // 4 or 6
	Scope  string `json:"scope"`  // global, private, loopback, link_local, unspecified, multicast
	// Bits is the address in binary digits, 32 or 128 of them, so that "is it in
	// one of these networks" is one look-up per prefix length: substring(bits, 0,
	// 8) in the site's networks of length 8.
	Bits string `json:"bits"`
	// Embedded is the bits of the IPv4 address to which a translator takes an
	// IPv6 address of NAT64, 6to4 or Teredo; empty for others.
	Embedded string `json:"embedded"`
}

// InputLimits are the caller's wishes; zero is no wish.
type InputLimits struct {
	Requested tool.Limits `json:"requested"` // zero is no wish
}

// Usage is what is going on while the decision is made.
type Usage struct {
	Running         UsageRunning `json:"running"`           // calls that run now, without this one
	CallsLastMinute UsageCalls   `json:"calls_last_minute"` // calls of the last minute, without this one
}

// UsageRunning counts calls that run now, without this one.
type UsageRunning struct {
	Subject int `json:"subject"` // of this subject
	Host    int `json:"host"`    // of this subject on this host
}

// UsageCalls counts calls in the last minute, without this one.
type UsageCalls struct {
	Subject int `json:"subject"` // of this subject
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
