package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// SiteFile is what a rule of files: says, without which hosts and whom it is
// about.
type SiteFile struct {
	Rule      string   `json:"rule"` // where in policy.yml it stands
	Line      int      `json:"line"`
	Read      []string `json:"read"` // patterns, for people
	Write     []string `json:"write"`
	MaxBytes  int64    `json:"max_bytes"` // 0 for no limit
	Special   bool     `json:"special"`
	HardLinks bool     `json:"hard_links"`
}

// SiteFileGrants are the rules of files: for the hosts of a class.
type SiteFileGrants struct {
	Allow SiteFileHolders `json:"allow"`
	Deny  SiteFileHolders `json:"deny"`
}

// SiteFileHolders find rules by whom they are about, everybody or a group or a
// subject, and then by what is done: read or write.
type SiteFileHolders struct {
	Any      map[string]SitePaths            `json:"any"`
	Groups   map[string]map[string]SitePaths `json:"groups"`
	Subjects map[string]map[string]SitePaths `json:"subjects"`
}

// SitePaths find the rules that a path falls under. Above is of rules that deny:
// the directories that have something of a rule below them.
type SitePaths struct {
	Rules []string                  `json:"rules"` // all of them
	Exact map[string][]string       `json:"exact"` // by path
	Under map[string][]string       `json:"under"` // by directory: it and everything below
	Globs map[string][]SitePathGlob `json:"globs"` // by the directory before the first sign
	Above map[string][]string       `json:"above"`
}

// SitePathGlob is a pattern with signs.
type SitePathGlob struct {
	Rule       string `json:"rule"`
	Text       string `json:"text"`
	Expression string `json:"expression"` // of the paths that it matches
	Reach      string `json:"reach"`      // of those and the directories on the way to them
	Below      bool   `json:"below"`      // whatever is below what it matches, it matches too
}

// SiteAdhoc is a rule on hosts that are not in the inventory. Where Hosts, Ports
// or Users are empty, any fits.
type SiteAdhoc struct {
	Rule     string            `json:"rule"`
	Line     int               `json:"line"`
	Says     string            `json:"says"` // what it is about, for people
	Hosts    []SiteHostPattern `json:"hosts"`
	Anywhere bool              `json:"anywhere"`
	Networks SiteNetworks      `json:"networks"` // one of which the address is in, if it is not anywhere
	Ports    map[string]bool   `json:"ports"`
	Users    map[string]bool   `json:"users"`
	Keys     map[string]bool   `json:"keys"` // files in keys/ that the caller may name to log in with
	AnyWay   bool              `json:"any_way"`
	Via      map[string]bool   `json:"via"`   // aliases, one of which is the last jump host, if it is not any way
	Class    string            `json:"class"` // of the hosts that it lets in; empty if it denies
}

// SiteHostPattern is a pattern for names of hosts, in lower case.
type SiteHostPattern struct {
	Text       string `json:"text"`
	Expression string `json:"expression"`
}

// SiteConnect is which rules of Adhoc are about whom, in their order.
type SiteConnect struct {
	Allow SiteConnectHolders `json:"allow"`
	Deny  SiteConnectHolders `json:"deny"`
}

// SiteConnectHolders are positions in Adhoc.
type SiteConnectHolders struct {
	Any      []int            `json:"any"`
	Groups   map[string][]int `json:"groups"`
	Subjects map[string][]int `json:"subjects"`
}

func (g *SiteFileGrants) fill() {
	for _, h := range []*SiteFileHolders{&g.Allow, &g.Deny} {
		h.Any, h.Groups, h.Subjects = made(h.Any), made(h.Groups), made(h.Subjects)
		for _, verbs := range h.all() {
			for verb, p := range verbs {
				p.Rules = list(p.Rules)
				p.Exact, p.Under, p.Globs, p.Above = made(p.Exact), made(p.Under), made(p.Globs), made(p.Above)
				verbs[verb] = p
			}
		}
	}
}

// all are the rules of each holder.
func (h *SiteFileHolders) all() []map[string]SitePaths {
	return slices.Concat([]map[string]SitePaths{h.Any}, slices.Collect(maps.Values(h.Groups)), slices.Collect(maps.Values(h.Subjects)))
}

func (s *Site) fillFiles() {
	s.Files = made(s.Files)
	for id, f := range s.Files {
		f.Read, f.Write = list(f.Read), list(f.Write)
		s.Files[id] = f
	}
}

func (s *Site) fillAdhoc() {
	s.Adhoc, s.Names = list(s.Adhoc), made(s.Names)
	for i := range s.Adhoc {
		a := &s.Adhoc[i]
		a.Hosts, a.Networks, a.Ports = list(a.Hosts), made(a.Networks), made(a.Ports)
		a.Users, a.Keys, a.Via = made(a.Users), made(a.Keys), made(a.Via)
	}
	for _, h := range []*SiteConnectHolders{&s.Connect.Allow, &s.Connect.Deny} {
		h.Any, h.Groups, h.Subjects = list(h.Any), made(h.Groups), made(h.Subjects)
	}
}

// checkFiles sees that what classes say of files leads somewhere; an expression
// that does not compile would make every decision an error.
func (s *Site) checkFiles() []error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		files := s.Classes[name].Files
		for _, h := range []SiteFileHolders{files.Allow, files.Deny} {
			for _, verbs := range h.all() {
				for verb, p := range verbs {
					if err := s.checkPaths(verb, p); err != nil {
						problems = append(problems, fmt.Errorf("classes.%s.files: %w", name, err))
					}
				}
			}
		}
	}
	return problems
}

func (s *Site) checkPaths(verb string, p SitePaths) error {
	if verb != "read" && verb != "write" {
		return fmt.Errorf("%q is neither read nor write", verb)
	}
	ids := slices.Clone(p.Rules)
	for _, globs := range p.Globs {
		for _, g := range globs {
			ids = append(ids, g.Rule)
			for _, e := range []string{g.Expression, g.Reach} {
				if _, err := regexp.Compile(e); err != nil {
					return err
				}
			}
		}
	}
	for _, by := range []map[string][]string{p.Exact, p.Under, p.Above} {
		for _, named := range by {
			ids = append(ids, named...)
		}
	}
	for _, id := range ids {
		if _, ok := s.Files[id]; !ok {
			return fmt.Errorf("names the rule %q, which is not there", id)
		}
	}
	return nil
}

func (s *Site) checkAdhoc() []error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for i, a := range s.Adhoc {
		if err := a.Networks.validate(); err != nil {
			add("adhoc[%d]: %w", i, err)
		}
		for _, h := range a.Hosts {
			if _, err := regexp.Compile(h.Expression); err != nil {
				add("adhoc[%d]: %w", i, err)
			}
		}
	}
	for _, i := range s.Connect.Allow.rules() {
		if i < 0 || i >= len(s.Adhoc) {
			add("connect names the rule %d, which is not there", i)
		} else if _, ok := s.Classes[s.Adhoc[i].Class]; !ok {
			add("adhoc[%d] names the class %q, which is not there", i, s.Adhoc[i].Class)
		}
	}
	for _, i := range s.Connect.Deny.rules() {
		if i < 0 || i >= len(s.Adhoc) {
			add("connect names the rule %d, which is not there", i)
		}
	}
	return problems
}

// rules are the positions that are named, sorted.
func (h SiteConnectHolders) rules() []int {
	all := slices.Concat(append(slices.Collect(maps.Values(h.Groups)), append(slices.Collect(maps.Values(h.Subjects)), h.Any)...)...)
	slices.Sort(all)
	return slices.Compact(all)
}
