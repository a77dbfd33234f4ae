package config

import "fmt"

// Site is the document that policies see as data.site: the inventory and
// policy.yml, indexed by what an input holds, so that a rule is a look-up. No
// map in it is ever nil. It is shared: do not change it.
type Site struct {
	Version int                    `json:"version"`
	Hosts   map[string]SiteHost    `json:"hosts"`   // by alias
	Classes map[string]Class       `json:"classes"` // by SiteHost.Class
	Rules   map[string]CommandRule `json:"rules"`   // those on commands, by the ids that classes name
	Texts   DenyTexts              `json:"texts"`   // of all deny_substrings
	Files   map[string]FileRule    `json:"files"`   // rules on files, by the ids that classes name
	Adhoc   []AdhocRule            `json:"adhoc"`   // rules on hosts that are not in the inventory
	Connect Connect                `json:"connect"` // whom those are about
	Names   map[string]string      `json:"names"`   // aliases by host name, where there are such rules
	Network SiteNetwork            `json:"network"`
	Limits  Limits                 `json:"limits"` // for a call to the gateway itself
	Gateway Gateway                `json:"gateway"`
}

// SiteHost is what the site says about a host.
type SiteHost struct {
	Class  string `json:"class"`
	Limits Limits `json:"limits"`
}

// Class is what the rules say about all hosts that the same rules match.
type Class struct {
	Allow Grants     `json:"allow"`
	Deny  Grants     `json:"deny"`
	Files FileGrants `json:"files"`
}

// Grants are the profiles granted, by whom to: anyone, a group, a subject; and
// in the same way the rules on commands.
type Grants struct {
	Any      map[string]Grant            `json:"any"`
	Groups   map[string]map[string]Grant `json:"groups"`
	Subjects map[string]map[string]Grant `json:"subjects"`
	Commands CommandRules                `json:"commands"`
}

// Grant is the rule that grants: its name, or rules[i], and its line.
type Grant struct {
	Rule string `json:"rule"`
	Line int    `json:"line"`
}

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

// newSite puts the inventory and the rules into the form that policies look
// things up in. Hosts that the same rules match share a class, so its size goes
// with the number of kinds of hosts, not of hosts.
func newSite(hosts []Host, p *sitePolicy) Site {
	s := Site{
		Version: 1,
		Hosts:   make(map[string]SiteHost, len(hosts)),
		Classes: map[string]Class{},
		Files:   fileRules(p.files),
		Adhoc:   []AdhocRule{},
		Connect: newConnect(p.adhoc),
		Names:   hostsByName(hosts, p.adhoc),
		Network: p.network,
		Limits:  newLimits(p.layers(Host{})),
		Gateway: Gateway{Reload: p.reload},
		Rules:   commandRules(p.rules),
	}
	classes := classifier{rules: p.all(), names: map[string]string{}, classes: s.Classes}
	matcher := newMatcher(classes.rules)
	for _, h := range hosts {
		s.Hosts[h.Alias] = SiteHost{Class: classes.of(matcher.match(h)), Limits: p.hostLimits(h, s.Limits)}
	}
	for _, r := range p.adhoc {
		class := ""
		if r.action == "allow" {
			class = classes.of(r.matches(matcher, classes.rules))
		}
		s.Adhoc = append(s.Adhoc, r.site(hosts, class))
	}
	s.Texts = newDenyTexts(s.allLimits())
	return s
}

// classifier names sets of rules, and keeps what each says.
type classifier struct {
	rules   []rule
	names   map[string]string // by the set's key
	classes map[string]Class
}

func (c classifier) of(set ruleSet) string {
	name, ok := c.names[set.key()]
	if !ok {
		name = fmt.Sprintf("c%d", len(c.names))
		c.names[set.key()] = name
		c.classes[name] = newClass(c.rules, set)
	}
	return name
}

func (s Site) allLimits() []Limits {
	all := []Limits{s.Limits}
	for _, alias := range sortedKeys(s.Hosts) {
		all = append(all, s.Hosts[alias].Limits)
	}
	return all
}

// hostLimits are the limits of everyone where nothing is said about the host.
func (p *sitePolicy) hostLimits(h Host, all Limits) Limits {
	if len(p.overridden(h)) == 0 {
		return all
	}
	return newLimits(p.layers(h))
}

// newClass collects what a set of rules grants and denies. Where several grant
// the same, the first in the file is named.
func newClass(rules []rule, set ruleSet) Class {
	c := Class{Allow: newGrants(), Deny: newGrants(), Files: newFileGrants()}
	for i := range set.all() {
		switch r := rules[i]; {
		case r.files != nil:
			c.Files.add(r)
		case r.action == "deny":
			c.Deny.add(i, r)
		default:
			c.Allow.add(i, r)
		}
	}
	return c
}

func newGrants() Grants {
	return Grants{
		Any:      map[string]Grant{},
		Groups:   map[string]map[string]Grant{},
		Subjects: map[string]map[string]Grant{},
		Commands: newCommandRules(),
	}
}

func (g Grants) add(position int, r rule) {
	g.Commands.add(position, r)
	if len(r.profiles) == 0 {
		return
	}
	if len(r.groups)+len(r.subjects) == 0 {
		r.grant(g.Any)
	}
	for _, name := range r.groups {
		r.grant(under(g.Groups, name))
	}
	for _, name := range r.subjects {
		r.grant(under(g.Subjects, name))
	}
}

func under[T any](m map[string]map[string]T, name string) map[string]T {
	if m[name] == nil {
		m[name] = map[string]T{}
	}
	return m[name]
}

func (r rule) grant(to map[string]Grant) {
	for _, profile := range r.profiles {
		if _, ok := to[profile]; !ok {
			to[profile] = Grant{Rule: r.name, Line: r.line}
		}
	}
}
