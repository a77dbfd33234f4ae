package config

import (
	"maps"
	"slices"
	"strconv"
)

// filePaths are what a rule of files: says beside which hosts and whom it is
// about.
type filePaths struct {
	id          string
	read, write []filePattern
	maxBytes    int // 0 for no limit
	special     bool
	hardLinks   bool
}

// maxFileBytes is more than any file that a call moves.
const maxFileBytes = 1 << 50

// fileRule reads an entry of files:.
func (l *loader) fileRule(v value, known hostNames) rule {
	paths := &filePaths{}
	r := rule{line: v.line, place: v.place, files: paths}
	keys := r.scope(known)
	maps.Copy(keys, fields{
		"read":       notEmpty(filePatterns(&paths.read)),
		"write":      notEmpty(filePatterns(&paths.write)),
		"max_bytes":  integer(&paths.maxBytes, 1, maxFileBytes),
		"special":    boolean(&paths.special),
		"hard_links": boolean(&paths.hardLinks),
	})
	if !v.object(keys, "action") {
		return r
	}
	if !v.has("read") && !v.has("write") {
		v.fail(faultf("add read: or write: with paths such as /srv/app/**", "names no path, so it would say nothing"))
	}
	for _, key := range []string{"max_bytes", "special", "hard_links"} {
		if r.action == "deny" && v.has(key) {
			v.fail(faultf("remove it; say it in the rule that allows", "%s is about what is allowed, and this rule denies", key))
		}
	}
	return r
}

// FileRule is what a rule of files: says, without which hosts and whom it is
// about.
type FileRule struct {
	Rule      string   `json:"rule"` // its name, or files[i]
	Line      int      `json:"line"`
	Read      []string `json:"read"` // patterns, as they are written
	Write     []string `json:"write"`
	MaxBytes  int      `json:"max_bytes"` // 0 for no limit
	Special   bool     `json:"special"`
	HardLinks bool     `json:"hard_links"`
}

func fileRules(rules []rule) map[string]FileRule {
	all := map[string]FileRule{}
	for _, r := range rules {
		f := r.files
		all[f.id] = FileRule{
			Rule: r.name, Line: r.line, Read: textsOf(f.read), Write: textsOf(f.write),
			MaxBytes: f.maxBytes, Special: f.special, HardLinks: f.hardLinks,
		}
	}
	return all
}

func textsOf(patterns []filePattern) []string {
	list := []string{}
	for _, p := range patterns {
		list = append(list, p.text)
	}
	return list
}

// FileGrants are what the rules of files: that match a host say.
type FileGrants struct {
	Allow FileHolders `json:"allow"`
	Deny  FileHolders `json:"deny"`
}

// FileHolders are indexes of paths by whom they are about: anyone, a group, a
// subject; and each by what is done: read or write.
type FileHolders struct {
	Any      map[string]PathIndex            `json:"any"`
	Groups   map[string]map[string]PathIndex `json:"groups"`
	Subjects map[string]map[string]PathIndex `json:"subjects"`
}

func newFileGrants() FileGrants { return FileGrants{newFileHolders(), newFileHolders()} }

func newFileHolders() FileHolders {
	return FileHolders{
		Any:      map[string]PathIndex{},
		Groups:   map[string]map[string]PathIndex{},
		Subjects: map[string]map[string]PathIndex{},
	}
}

func (g FileGrants) add(r rule) {
	holders := g.Allow
	if r.action == "deny" {
		holders = g.Deny
	}
	if len(r.groups)+len(r.subjects) == 0 {
		r.indexPaths(holders.Any)
	}
	for _, name := range r.groups {
		r.indexPaths(under(holders.Groups, name))
	}
	for _, name := range r.subjects {
		r.indexPaths(under(holders.Subjects, name))
	}
}

func (r rule) indexPaths(to map[string]PathIndex) {
	for verb, patterns := range map[string][]filePattern{"read": r.files.read, "write": r.files.write} {
		if len(patterns) == 0 {
			continue
		}
		ix, ok := to[verb]
		if !ok {
			ix = newPathIndex()
		}
		ix.add(r.files.id, patterns, r.action == "deny")
		to[verb] = ix
	}
}

// numberFiles gives the rules their ids.
func (p *sitePolicy) numberFiles() {
	for i := range p.files {
		p.files[i].files.id = strconv.Itoa(i)
	}
}

// checkFiles warns of rules that load and yet cannot be what was meant. The
// hosts are those of servers.yml, and what a rule of connect: makes of others.
func (p *sitePolicy) checkFiles(hosts []Host, known hostNames) {
	matching := p.fileMatches(hosts)
	for i, r := range p.files {
		if len(matching[i]) == 0 && matchesSome(r.aliases, known.aliases) && matchesSome(r.tags, known.tags) {
			r.place.warn(faultf("look for a slip, or remove it", "no host has a matching alias and a matching tag"))
		}
		if r.action == "deny" {
			continue
		}
		r.warnOfWorld()
		for j, d := range p.files {
			if d.action == "deny" && d.addresses(r) && len(matching[i]) > 0 && subset(matching[i], matching[j]) {
				r.warnOfDenied(d)
			}
		}
	}
}

// fileMatches are, for each rule of files:, the sets of rules that some host has
// and that it is in.
func (p *sitePolicy) fileMatches(hosts []Host) []map[string]bool {
	matching := make([]map[string]bool, len(p.files))
	for i := range matching {
		matching[i] = map[string]bool{}
	}
	add := func(set ruleSet) {
		for i := range set.all() {
			matching[i][set.key()] = true
		}
	}
	m := newMatcher(p.files)
	for _, h := range hosts {
		add(m.match(h))
	}
	for _, a := range p.adhoc {
		add(a.matches(m, p.files))
	}
	return matching
}

// matchesSome says that one of some patterns matches a name. Of one that does
// not, its own place tells.
func matchesSome(globs []glob, names map[string]bool) bool {
	return len(names) > 0 && (len(globs) == 0 || slices.ContainsFunc(globs, func(g glob) bool { return g.matchesAny(names) }))
}

func subset(some, all map[string]bool) bool {
	for key := range some {
		if !all[key] {
			return false
		}
	}
	return true
}

func (r rule) warnOfWorld() {
	for _, p := range r.files.write {
		if p.below && len(p.components) == 0 {
			r.place.warn(faultf("name the directories that are meant", "write %s is every file of the host", p))
		}
	}
}

// warnOfDenied names the patterns that a rule which denies leaves nothing of.
func (r rule) warnOfDenied(d rule) {
	for _, verb := range []struct {
		name          string
		allowed, gone []filePattern
	}{{"read", r.files.read, d.files.read}, {"write", r.files.write, d.files.write}} {
		for _, p := range verb.allowed {
			if slices.ContainsFunc(verb.gone, func(g filePattern) bool { return g.covers(p) }) {
				r.place.warn(faultf("remove one of the two",
					"%s %s is denied by the rule on line %d, so it grants nothing", verb.name, p, d.line))
			}
		}
	}
}

// addresses says that a rule is about everyone whom another one is about.
func (r rule) addresses(other rule) bool {
	if len(r.groups)+len(r.subjects) == 0 {
		return true
	}
	return len(other.groups)+len(other.subjects) > 0 &&
		within(other.groups, r.groups) && within(other.subjects, r.subjects)
}

func within(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
