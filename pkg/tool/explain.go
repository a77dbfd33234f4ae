package tool

// Explanation is why a decision is what it is: which rules spoke, which
// conditions of those that could have permitted the call did not hold, and what
// would be allowed instead.
type Explanation struct {
	Spoke   []Spoken      `json:"spoke" doc:"rules that had a say in it"`
	Failed  []Condition   `json:"failed,omitempty" doc:"conditions of the nearest permits that did not hold, outermost first"`
	Changes []Alternative `json:"changes,omitempty" doc:"smallest changes to the call that would be allowed now"`
}

// Spoken is a rule that had a say, or an entry of policy.yml.
type Spoken struct {
	Rule   string `json:"rule"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Title  string `json:"title,omitempty"`
	Code   string `json:"code,omitempty" doc:"of the reason that it gave"`
	Detail string `json:"detail,omitempty"`
}

// Condition is one condition of a rule. It is there because of the one before it
// that has a smaller Depth.
type Condition struct {
	Depth  int      `json:"depth"`
	Rule   string   `json:"rule"`
	File   string   `json:"file"`
	Line   int      `json:"line"`
	Text   string   `json:"text" doc:"as it stands there"`
	Values []string `json:"values,omitempty" doc:"what it was held against"`
	// Held: the condition above wanted the rule not to hold, and it did.
	Held bool `json:"held,omitempty" doc:"it holds, and was not to"`
}

// Alternative is a change to a call. Its fields are the arguments that would be other.
type Alternative struct {
	What           string `json:"what"`
	Alias          string `json:"alias,omitempty"`
	Command        string `json:"command,omitempty"`
	Path           string `json:"path,omitempty"`
	Username       string `json:"username,omitempty"`
	Port           int    `json:"port,omitempty"`
	MaxSeconds     int    `json:"max_seconds,omitempty"`
	MaxOutputBytes int64  `json:"max_output_bytes,omitempty"`
}
