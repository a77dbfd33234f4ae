package config

// Site is the document that policies see as data.site: the inventory and
// policy.yml, indexed by what an input holds, so that a rule is a look-up. No
// map in it is ever nil. It is shared: do not change it.
type Site struct {
	Version int                 `json:"version"`
	Hosts   map[string]SiteHost `json:"hosts"`   // by alias
	Classes map[string]Class    `json:"classes"` // by SiteHost.Class
	Network SiteNetwork         `json:"network"`
	Limits  Limits              `json:"limits"` // for a call to the gateway itself
	Gateway Gateway             `json:"gateway"`
}

// SiteHost is what the site says about a host.
type SiteHost struct {
	Class  string `json:"class"`
	Limits Limits `json:"limits"`
}

// Class is what the rules say about all hosts that the same rules match.
type Class struct {
	Allow Grants `json:"allow"`
	Deny  Grants `json:"deny"`
}

// Grants are the profiles granted, by whom to: anyone, a group, a subject.
type Grants struct {
	Any      map[string]Grant            `json:"any"`
	Groups   map[string]map[string]Grant `json:"groups"`
	Subjects map[string]map[string]Grant `json:"subjects"`
}

// Grant is the rule that grants: its name, or rules[i], and its line.
type Grant struct {
	Rule string `json:"rule"`
	Line int    `json:"line"`
}

// SiteNetwork is which addresses may be dialled. Closed says that there is an
// allow list, so that what is not in it is refused.
type SiteNetwork struct {
	Closed bool         `json:"closed"`
	Allow  NetworkIndex `json:"allow"`
	Block  NetworkIndex `json:"block"`
}

// NetworkIndex finds the network that holds an address: by family ("4", "6"),
// by prefix length, by that many first bits in binary digits, to the network as
// it was written.
type NetworkIndex map[string]map[string]map[string]string

// Limits are what a call may use.
type Limits struct {
	Seconds        int      `json:"seconds"` // 0 for no limit
	OutputBytes    int      `json:"output_bytes"`
	Concurrent     int      `json:"concurrent"`       // per subject and host
	CallsPerMinute int      `json:"calls_per_minute"` // per subject; 0 for no limit
	DenySubstrings []string `json:"deny_substrings"`
}

// Gateway says who may do what to the gateway itself.
type Gateway struct {
	Reload ReloadGrant `json:"reload"`
}

// ReloadGrant says who may reload the configuration.
type ReloadGrant struct {
	Local    bool            `json:"local"`
	Groups   map[string]bool `json:"groups"`
	Subjects map[string]bool `json:"subjects"`
}

// Site is the document for policies.
func (c *Config) Site() Site {
	return Site{}
}
