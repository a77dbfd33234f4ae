package tool

// Capabilities are what a caller can do on a host, as far as the policy and the
// configuration in force say it.
type Capabilities struct {
	Alias    string             `json:"alias"`
	Tags     []string           `json:"tags"`
	Profiles []string           `json:"profiles" doc:"command profiles that the caller is granted there"`
	Limits   CapabilityLimits   `json:"limits"`
	Probes   []ProbeAnswer      `json:"policy_probes"`
	Network  CapabilityNetwork  `json:"network"`
	Features CapabilityFeatures `json:"features"`
}

// CapabilityLimits are the limits in force on the host, 0 for none.
type CapabilityLimits struct {
	MaxSeconds           int   `json:"max_seconds"`
	MaxOutputBytes       int64 `json:"max_output_bytes"`
	MaxConcurrent        int   `json:"max_concurrent"`
	RequireKnownHost     bool  `json:"require_known_host"` // always
	HostKeyAutoAdd       bool  `json:"host_key_auto_add"`  // never
	TaskResultTTL        int   `json:"task_result_ttl"`
	TaskProgressInterval int   `json:"task_progress_interval"`
	// DenyPatterns says that some texts are refused, not which.
	DenyPatterns bool `json:"deny_patterns_enabled"`
}

// ProbeAnswer is what policy says to a typical command.
type ProbeAnswer struct {
	Probe   string `json:"probe"`
	Command string `json:"command"`
	Allowed bool   `json:"allowed"`
}

// CapabilityNetwork says how addresses are judged, not by which networks.
type CapabilityNetwork struct {
	RequireKnownHost bool `json:"require_known_host"`
	Allowlist        bool `json:"allowlist_enabled"`
	Blocklist        bool `json:"blocklist_enabled"`
}

// CapabilityFeatures are what the caller can do with a running command.
type CapabilityFeatures struct {
	Async        bool `json:"supports_async"`
	Cancellation bool `json:"supports_cancellation"`
}
