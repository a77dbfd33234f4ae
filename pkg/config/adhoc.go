package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// adhocRule says of hosts that are not in servers.yml who may connect to them.
// One that allows gives them tags, by which rules: and files: know them.
type adhocRule struct {
	name             string
	line             int
	place            place
	action           string
	hosts            []hostPattern
	networks         NetworkIndex
	ports            []int
	users            []string
	keys             []string
	groups, subjects []string
	tags             []string
	via              []glob
}

// sshPort is the one that a rule permits when it names none.
const sshPort = 22

func (p *sitePolicy) readConnect(known hostNames) field {
	return func(v value) {
		v.object(fields{"adhoc": p.readAdhoc(known)})
	}
}

func (p *sitePolicy) readAdhoc(known hostNames) field {
	return func(v value) {
		names := map[string]int{}
		v.items(func(item value) {
			r := newAdhocRule(item, known)
			item.claim(names, r.name, fmt.Sprintf("name %q", r.name))
			if r.name == "" {
				r.name = item.path
			}
			p.adhoc = append(p.adhoc, r)
		})
	}
}

func newAdhocRule(v value, known hostNames) adhocRule {
	r := adhocRule{line: v.line, place: v.place, networks: newIndex()}
	ok := v.object(fields{
		"name":     text(&r.name, name(maxAlias)),
		"action":   text(&r.action, oneOf("allow", "deny")),
		"hosts":    notEmpty(hostPatterns(&r.hosts)),
		"cidrs":    notEmpty(networks(r.networks.take)),
		"ports":    notEmpty(ports(&r.ports)),
		"users":    notEmpty(texts(&r.users, loginName)),
		"keys":     notEmpty(texts(&r.keys, atMost(maxKey))),
		"groups":   people(&r.groups),
		"subjects": people(&r.subjects),
		"tags":     notEmpty(texts(&r.tags, name(maxTag))),
		"via":      notEmpty(matching(&r.via, known.aliases, "alias")),
	}, "action")
	if ok {
		r.check(v)
	}
	return r
}

// check reports what a rule lacks, or has in vain.
func (r *adhocRule) check(v value) {
	hosts, cidrs := v.has("hosts"), v.has("cidrs")
	switch {
	case !hosts && !cidrs:
		v.fail(faultf(`add hosts: or cidrs:; hosts: ["*"] is any`, "names neither hosts nor networks"))
	case hosts && cidrs && r.action == "deny":
		v.fail(faultf("make two rules of it", "has both hosts and cidrs, and a rule that denies could mean either or both"))
	}
	switch r.action {
	case "allow":
		if !v.has("tags") {
			v.fail(faultf("add tags:, which rules: and files: can name", "gives its hosts no tags, so nothing would be granted on them"))
		}
		if !v.has("ports") {
			r.ports = []int{sshPort}
		}
	case "deny":
		for _, key := range []string{"keys", "tags", "via"} {
			if v.has(key) {
				v.fail(faultf("remove it", "%s is about what is allowed, and this rule denies", key))
			}
		}
	}
}

func ports(p *[]int) field {
	return func(v value) {
		v.items(func(item value) {
			var n int
			integer(&n, 1, 65535)(item)
			switch {
			case n == 0:
			case slices.Contains(*p, n):
				item.fail(faultf("keep one of the two", "%d is in the list twice", n))
			default:
				*p = append(*p, n)
			}
		})
	}
}

// hostPattern is a pattern over the name or the address that a caller gives: *
// is any text, ? any character.
type hostPattern struct{ text, expression string }

var (
	hostPatternText = regexp.MustCompile(`^[A-Za-z0-9._:*?-]+$`)
	hostLetter      = regexp.MustCompile(`[A-Za-z]`)
	anyDigit        = regexp.MustCompile(`[0-9]`)
)

// newHostPattern reads a pattern. One of digits and dots is about addresses, so
// that it does not match a name that somebody else has chosen: 10.1.* is not
// 10.1.example.org.
func newHostPattern(s string) (hostPattern, *fault) {
	switch {
	case strings.ContainsRune(s, '/'):
		return hostPattern{}, faultf("write it under cidrs:", "%q is a network", s)
	case !hostPatternText.MatchString(s):
		return hostPattern{}, faultf("write a host name or an address, with the signs * and ?; users: and ports: are keys of their own",
			"%q is not a pattern for hosts", s)
	}
	star, one := `[a-z0-9._-]*`, `[a-z0-9_-]`
	switch {
	case s == "*":
		star = `.*`
	case strings.ContainsRune(s, ':'):
		star, one = `[0-9a-f:]*`, `[0-9a-f]`
	case anyDigit.MatchString(s) && !hostLetter.MatchString(s):
		star, one = `[0-9.]*`, `[0-9]`
	}
	if !strings.ContainsAny(s, "*?") {
		if f := hostname(s); f != nil {
			return hostPattern{}, f
		}
	}
	quoted := regexp.QuoteMeta(strings.ToLower(strings.TrimSuffix(s, ".")))
	return hostPattern{s, "^(?s:" + strings.NewReplacer(`\*`, star, `\?`, one).Replace(quoted) + ")$"}, nil
}

func hostPatterns(p *[]hostPattern) field {
	return func(v value) {
		var list []string
		texts(&list, func(s string) *fault { _, f := newHostPattern(s); return f })(v)
		for _, s := range list {
			pattern, _ := newHostPattern(s)
			*p = append(*p, pattern)
		}
	}
}

// adhocTags are the tags that rules of connect: give, read ahead of the rules
// that name them.
func adhocTags(root value) []string {
	var tags []string
	var walk func(n *yaml.Node, path []string)
	walk = func(n *yaml.Node, path []string) {
		switch {
		case len(path) == 0 && n.Kind == yaml.ScalarNode:
			tags = append(tags, n.Value)
		case n.Kind == yaml.SequenceNode:
			for _, item := range n.Content {
				walk(item, path)
			}
		case n.Kind == yaml.MappingNode && len(path) > 0:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == path[0] {
					walk(n.Content[i+1], path[1:])
				}
			}
		}
	}
	walk(root.node, []string{"connect", "adhoc", "tags"})
	return tags
}

// matches are the rules that are about the hosts of a rule: those that name one
// of their tags, and those that deny and name no tag. A rule that allows and
// names none is about the hosts of servers.yml.
func (r adhocRule) matches(m *matcher, rules []rule) ruleSet {
	set := m.match(Host{Tags: r.tags})
	for i, other := range rules {
		if other.action == "allow" && len(other.tags) == 0 {
			set.remove(i)
		}
	}
	return set
}

func (s ruleSet) remove(i int) { s[i/64] &^= 1 << (i % 64) }

// AdhocRule says who may connect to hosts that are not in servers.yml. Where
// Hosts, Ports or Users are empty, any fits.
type AdhocRule struct {
	Rule     string          `json:"rule"` // its name, or connect.adhoc[i]
	Line     int             `json:"line"`
	Says     string          `json:"says"`  // what it is about, for people
	Hosts    []HostPattern   `json:"hosts"` // one of which the name fits
	Anywhere bool            `json:"anywhere"`
	Networks NetworkIndex    `json:"networks"` // one of which the address is in, if it is not anywhere
	Ports    map[string]bool `json:"ports"`
	Users    map[string]bool `json:"users"` // names on the host
	Keys     map[string]bool `json:"keys"`  // files in keys/ that the caller may name to log in with
	AnyWay   bool            `json:"any_way"`
	Via      map[string]bool `json:"via"`   // aliases, one of which is the last jump host, if it is not any way
	Class    string          `json:"class"` // of the hosts that it lets in; empty if it denies
}

// HostPattern is a pattern for names of hosts, and the regular expression that
// means the same of a name in lower case.
type HostPattern struct {
	Text       string `json:"text"`
	Expression string `json:"expression"`
}

// Connect is which rules of [Site.Adhoc] are about whom, in the order of the
// file.
type Connect struct {
	Allow ConnectHolders `json:"allow"`
	Deny  ConnectHolders `json:"deny"`
}

// ConnectHolders are positions in [Site.Adhoc], by whom the rules are about:
// anyone, a group, a subject.
type ConnectHolders struct {
	Any      []int            `json:"any"`
	Groups   map[string][]int `json:"groups"`
	Subjects map[string][]int `json:"subjects"`
}

func newConnect(rules []adhocRule) Connect {
	c := Connect{newConnectHolders(), newConnectHolders()}
	for i, r := range rules {
		if r.action == "deny" {
			c.Deny.add(i, r)
		} else {
			c.Allow.add(i, r)
		}
	}
	return c
}

func newConnectHolders() ConnectHolders {
	return ConnectHolders{Any: []int{}, Groups: map[string][]int{}, Subjects: map[string][]int{}}
}

func (h *ConnectHolders) add(i int, r adhocRule) {
	if len(r.groups)+len(r.subjects) == 0 {
		h.Any = append(h.Any, i)
	}
	for _, name := range r.groups {
		h.Groups[name] = append(h.Groups[name], i)
	}
	for _, name := range r.subjects {
		h.Subjects[name] = append(h.Subjects[name], i)
	}
}

// site is a rule as policies read it.
func (r adhocRule) site(hosts []Host, class string) AdhocRule {
	s := AdhocRule{
		Rule: r.name, Line: r.line, Says: r.says(), Hosts: []HostPattern{}, Anywhere: len(r.networks.written()) == 0,
		Networks: r.networks, Ports: map[string]bool{}, Users: setOf(r.users), Keys: setOf(r.keys), AnyWay: len(r.via) == 0, Via: map[string]bool{}, Class: class,
	}
	for _, h := range r.hosts {
		s.Hosts = append(s.Hosts, HostPattern{h.text, h.expression})
	}
	for _, n := range r.ports {
		s.Ports[fmt.Sprint(n)] = true
	}
	for _, h := range hosts {
		if slices.ContainsFunc(r.via, func(g glob) bool { return g.match(h.Alias) }) {
			s.Via[h.Alias] = true
		}
	}
	return s
}

// says is a rule in a few words: *.lab.example in 10.1.0.0/16, port 22, as deploy.
func (r adhocRule) says() string {
	var hosts, via []string
	for _, h := range r.hosts {
		hosts = append(hosts, h.text)
	}
	for _, g := range r.via {
		via = append(via, g.text)
	}
	says := phrase("", hosts)
	if says == "" {
		says = "any host"
	}
	says += phrase(" in ", r.networks.written())
	if len(r.ports) > 0 {
		says += phrase(", port ", strings.Fields(strings.Trim(fmt.Sprint(r.ports), "[]")))
	}
	return says + phrase(", as ", r.users) + phrase(", by key ", r.keys) + phrase(", through ", via)
}

// phrase is a few words, joined by or; nothing if there are none.
func phrase(before string, list []string) string {
	const most = 5
	if len(list) == 0 {
		return ""
	}
	if len(list) > most {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("%d more", len(list)-most))
	}
	return before + strings.Join(list, " or ")
}

// checkAdhoc warns of rules that load and yet cannot be what was meant.
func (p *sitePolicy) checkAdhoc() {
	m := newMatcher(p.all())
	for _, r := range p.adhoc {
		switch {
		case r.action == "deny":
			if len(r.hosts) > 0 && slices.ContainsFunc(p.adhoc, adhocRule.admitsAddresses) {
				r.place.warn(faultf("deny its network as well, under cidrs: of another rule",
					"denies hosts by their names, and another rule lets the same be reached by their addresses"))
			}
		case !p.grantsOne(r.matches(m, p.all())):
			r.place.warn(faultf("name one of its tags in a rule of rules: or files: that allows",
				"no rule grants anything on hosts with these tags, so they can be connected to and nothing else"))
		}
	}
}

// admitsAddresses says that a rule lets a host be named by its address.
func (r adhocRule) admitsAddresses() bool {
	return r.action == "allow" && (len(r.hosts) == 0 || slices.ContainsFunc(r.hosts, func(h hostPattern) bool {
		return h.text == "*" || !hostLetter.MatchString(h.text) || strings.ContainsRune(h.text, ':')
	}))
}

func (p *sitePolicy) grantsOne(set ruleSet) bool {
	rules := p.all()
	for i := range set.all() {
		if rules[i].action == "allow" {
			return true
		}
	}
	return false
}

// hostsByName finds the alias of a host by what it is called on the network, for
// rules that keep callers from going to it as if it were not in servers.yml. It
// is empty where nobody can.
func hostsByName(hosts []Host, rules []adhocRule) map[string]string {
	names := map[string]string{}
	if len(rules) == 0 {
		return names
	}
	for _, h := range slices.Backward(hosts) {
		names[strings.ToLower(strings.TrimSuffix(h.Hostname, "."))] = h.Alias
	}
	return names
}
