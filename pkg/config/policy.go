package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// sitePolicy is policy.yml.
type sitePolicy struct {
	version    int // 3, or the orchestrator's schema
	knownHosts string
	limits     limitLayer
	aliases    map[string]limitLayer
	tags       map[string]limitLayer
	network    SiteNetwork
	rules      []rule
	files      []rule
	adhoc      []adhocRule
	rulesAt    place
	reload     ReloadGrant
}

// limitLayer is what one place says about limits: a key that is not in it is
// left to the next.
type limitLayer struct {
	numbers map[string]int
	deny    []string
	denySet bool
}

// rule grants or denies profiles and commands on the hosts that match, to those
// who are named or to anyone. Without aliases it matches any alias, likewise for
// tags.
type rule struct {
	name             string
	line             int
	action           string
	aliases, tags    []glob
	groups, subjects []string
	profiles         []string
	commands         []CommandRule
	files            *filePaths // of a rule of files:

	place   place    // of the rule
	written written  // what it says about commands
	differs []*fault // what it means that it did not mean before
}

// shippedProfiles are the profiles that the embedded bundle has.
var shippedProfiles = []string{"readonly", "diagnose", "ops"}

// limitTable is the numbers that can be set as limits, in general and per alias
// and tag, with the range of each and what it is when nobody says.
var limitTable = map[string]struct{ least, most, def int }{
	"max_seconds":            {0, 86_400, 60},
	"max_output_bytes":       {1, 100 << 20, 1 << 20},
	"max_concurrent":         {1, 1000, 32},
	"calls_per_minute":       {0, 100_000, 0},
	"task_result_ttl":        {1, 7 * 86_400, 300},
	"task_progress_interval": {1, 3600, 5},
}

// judges says that there are rules on commands.
func (p *sitePolicy) judges() bool {
	return slices.ContainsFunc(p.rules, func(r rule) bool { return r.written.judges() })
}

// builtin is the layer below all others. With rules of the orchestrator's
// schemas, the texts that it denies go along.
func (p *sitePolicy) builtin() limitLayer {
	layer := limitLayer{numbers: map[string]int{}, deny: []string{}, denySet: true}
	if p.judges() {
		layer.deny = orchestratorTexts
	}
	for key, limit := range limitTable {
		layer.numbers[key] = limit.def
	}
	return layer
}

func (l *loader) policy(inv *inventory) *sitePolicy {
	root, _ := l.required(policyFile)
	return l.readPolicy(root, inv)
}

// readPolicy reads the root of policy.yml; without one, nothing is allowed.
func (l *loader) readPolicy(root value, inv *inventory) *sitePolicy {
	p := &sitePolicy{
		aliases: map[string]limitLayer{},
		tags:    map[string]limitLayer{},
		network: SiteNetwork{Allow: newIndex(), Block: newIndex()},
		reload:  ReloadGrant{Local: true, Groups: map[string]bool{}, Subjects: map[string]bool{}},
	}
	if root.node == nil {
		return p
	}
	var version int
	known := newNames(inv)
	known.addTags(adhocTags(root))
	root.object(fields{
		"version":          integer(&version, 1, 3),
		"known_hosts_path": text(&p.knownHosts),
		"limits":           limits(&p.limits),
		"network":          p.readNetwork,
		"rules": func(v value) {
			p.rulesAt = v.place
			rules(&p.rules, known, l.rule)(v)
		},
		"files":   rules(&p.files, known, l.fileRule),
		"connect": p.readConnect(known),
		"overrides": func(v value) {
			v.object(fields{
				"aliases": overrides(p.aliases, known.aliases, "alias"),
				"tags":    overrides(p.tags, known.tags, "tag"),
			})
		},
		"reload": p.readReload,
	})
	p.numberFiles()
	if !l.report.failed() {
		p.checkFiles(inv.hosts(), known)
		p.checkAdhoc(l.vaulted)
	}
	if len(p.all()) == 0 && !l.report.failed() {
		root.warn(faultf("add a rule, such as - {action: allow, profile: readonly}", "no rule grants anything, so every call on a host will be refused"))
	}
	p.takeOver(version, known)
	p.warnOfDenied()
	return p
}

// all are the rules on hosts, those of files: behind the others.
func (p *sitePolicy) all() []rule { return slices.Concat(p.rules, p.files) }

// limits stores a layer of limits.
func limits(layer *limitLayer) field {
	return func(v value) {
		layer.numbers = map[string]int{}
		known := fields{
			"deny_substrings": func(v value) {
				texts(&layer.deny)(v)
				layer.denySet = true
			},
			"host_key_auto_add":  fixed(false, "an unknown host key is never accepted by itself"),
			"require_known_host": fixed(true, "host keys are always verified"),
		}
		for key, limit := range limitTable {
			known[key] = func(v value) {
				n := limit.def
				integer(&n, limit.least, limit.most)(v)
				layer.numbers[key] = n
			}
		}
		v.object(known)
	}
}

// fixed is a switch that has only one position; the other is a warning.
func fixed(position bool, reason string) field {
	return func(v value) {
		is := position
		boolean(&is)(v)
		if is != position {
			v.warn(faultf("remove it", "%t is ignored: %s", is, reason))
		}
	}
}

// overrides stores limits by alias or tag. One for a name that no host has is
// probably a slip, but hosts come and go.
func overrides(p map[string]limitLayer, known map[string]bool, kind string) field {
	return func(v value) {
		v.entries(func(key, val value) {
			word := key.node.Value
			if f := name(maxAlias)(word); f != nil {
				key.fail(f)
			} else if !known[word] {
				key.warn(faultf("look for a slip, or remove it", "no host has the %s %q", kind, word))
			}
			if val.given() {
				var layer limitLayer
				limits(&layer)(val)
				p[word] = layer
			}
		})
	}
}

func (p *sitePolicy) readReload(v value) {
	var groups, subjects []string
	v.object(fields{
		"local":    boolean(&p.reload.Local),
		"groups":   texts(&groups, person),
		"subjects": texts(&subjects, person),
	})
	p.reload.Groups, p.reload.Subjects = setOf(groups), setOf(subjects)
}

func setOf(words []string) map[string]bool {
	set := map[string]bool{}
	for _, w := range words {
		set[w] = true
	}
	return set
}

// hostNames are the aliases and tags that hosts have, in all and by host.
type hostNames struct {
	aliases, tags map[string]bool
	hosts         []Host
}

func newNames(inv *inventory) hostNames {
	known := hostNames{map[string]bool{}, map[string]bool{}, inv.hosts()}
	for _, h := range inv.entries {
		if h.Alias != "" {
			known.aliases[h.Alias] = true
		}
		for _, tag := range h.Tags {
			known.tags[tag] = true
		}
	}
	return known
}

func (n hostNames) addTags(tags []string) {
	for _, tag := range tags {
		n.tags[tag] = true
	}
}

// rules stores a list of rules.
func rules(p *[]rule, known hostNames, read func(value, hostNames) rule) field {
	return func(v value) {
		names := map[string]int{}
		v.items(func(item value) {
			r := read(item, known)
			item.claim(names, r.name, fmt.Sprintf("name %q", r.name))
			if r.name == "" {
				r.name = item.path
			}
			*p = append(*p, r)
		})
	}
}

func (l *loader) rule(v value, known hostNames) rule {
	r := rule{line: v.line, place: v.place}
	var profile string
	isProfile := oneOf(l.profiles()...)
	keys := r.scope(known)
	keys["profile"] = text(&profile, isProfile)
	keys["profiles"] = texts(&r.profiles, isProfile)
	maps.Copy(keys, r.written.commandFields())
	if !v.object(keys, "action") {
		return r
	}
	switch {
	case v.has("profile") && v.has("profiles"):
		v.fail(faultf("keep one of the two", "has both profile and profiles"))
	case !r.written.judges() && !v.has("profile") && len(r.profiles) == 0:
		v.fail(faultf("add profile: with one of "+strings.Join(l.profiles(), ", "), "names no profile and no commands, so it would say nothing"))
	}
	if profile != "" {
		r.profiles = []string{profile}
	}
	r.commands = r.written.rules(v, r.action)
	return r
}

// scope are the keys by which any rule says on which hosts and for whom it is.
func (r *rule) scope(known hostNames) fields {
	return fields{
		"name":     text(&r.name, name(maxAlias)),
		"action":   text(&r.action, oneOf("allow", "deny")),
		"aliases":  matching(&r.aliases, known.aliases, "alias"),
		"tags":     matching(&r.tags, known.tags, "tag"),
		"groups":   people(&r.groups),
		"subjects": people(&r.subjects),
	}
}

// people stores whom a rule is for. An empty list could be read as anyone or as
// nobody, so it is refused.
func people(p *[]string) field {
	return func(v value) {
		texts(p, person)(v)
		if emptyList(v) {
			v.fail(faultf("remove it to mean anyone", "names nobody"))
		}
	}
}

func emptyList(v value) bool { return v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0 }

func (l *loader) profiles() []string {
	if l.Profiles != nil {
		return l.Profiles
	}
	return shippedProfiles
}

// matching stores patterns, and warns of one that matches no host.
func matching(p *[]glob, known map[string]bool, kind string) field {
	return func(v value) {
		globs(p)(v)
		for _, g := range *p {
			if !g.matchesAny(known) {
				v.warn(faultf("look for a slip, or remove it", "no host has a matching %s: %q", kind, g.text))
			}
		}
	}
}

func (g glob) matchesAny(names map[string]bool) bool {
	if g.exact {
		return names[g.prefix]
	}
	for name := range names {
		if g.match(name) {
			return true
		}
	}
	return false
}

// layers are what counts for a host, the strongest first: its overrides, what
// is said for everyone, and what is built in.
func (p *sitePolicy) layers(h Host) []limitLayer {
	return append(p.overridden(h), p.limits, p.builtin())
}

// overridden are the overrides for a host's alias and then for its tags, the
// last tag before the others.
func (p *sitePolicy) overridden(h Host) []limitLayer {
	var layers []limitLayer
	if layer, ok := p.aliases[h.Alias]; ok {
		layers = append(layers, layer)
	}
	for _, tag := range slices.Backward(h.Tags) {
		if layer, ok := p.tags[tag]; ok {
			layers = append(layers, layer)
		}
	}
	return layers
}

// pick is the first that a layer says about a limit.
func pick(layers []limitLayer, key string) int {
	for _, layer := range layers {
		if n, ok := layer.numbers[key]; ok {
			return n
		}
	}
	return 0
}

func newLimits(layers []limitLayer) Limits {
	l := Limits{
		Seconds:        pick(layers, "max_seconds"),
		OutputBytes:    pick(layers, "max_output_bytes"),
		Concurrent:     pick(layers, "max_concurrent"),
		CallsPerMinute: pick(layers, "calls_per_minute"),
	}
	i := slices.IndexFunc(layers, func(layer limitLayer) bool { return layer.denySet })
	l.DenySubstrings = layers[i].deny
	return l
}
