package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
)

// SiteVersion is the version of the site document.
const SiteVersion = 1

// Site is the operator's configuration as policies read it: data.site. It is
// indexed by what an input holds, an alias, a subject, the first bits of an
// address, so that no decision has to search.
type Site struct {
	Version int                  `json:"version"`
	Hosts   map[string]SiteHost  `json:"hosts"`   // by alias
	Classes map[string]SiteClass `json:"classes"` // hosts to which the same rules apply share one
	Rules   map[string]SiteRule  `json:"rules"`   // on commands, by the ids that classes name
	Texts   SiteTexts            `json:"texts"`   // of all deny_substrings
	Files   map[string]SiteFile  `json:"files"`   // rules on files, by the ids that classes name
	Adhoc   []SiteAdhoc          `json:"adhoc"`   // rules on hosts that are not in the inventory
	Connect SiteConnect          `json:"connect"` // whom those are about
	Names   map[string]string    `json:"names"`   // aliases by host name, where there are such rules
	Network SiteNetwork          `json:"network"`
	Limits  SiteLimits           `json:"limits"` // of calls without a host
	Gateway SiteGateway          `json:"gateway"`
}

// SiteHost is what policy knows of one host.
type SiteHost struct {
	Class  string     `json:"class"`
	Limits SiteLimits `json:"limits"`
}

// SiteClass is what may be done, and what must not, on the hosts of a class.
type SiteClass struct {
	Allow SiteGrants     `json:"allow"`
	Deny  SiteGrants     `json:"deny"`
	Files SiteFileGrants `json:"files"`
}

// SiteGrants says which profiles hold for whom: profile name to the rule that
// says so, for everybody, by group and by subject. Rules on commands hold in
// the same way.
type SiteGrants struct {
	Any      map[string]SiteGrant            `json:"any"`
	Groups   map[string]map[string]SiteGrant `json:"groups"`
	Subjects map[string]map[string]SiteGrant `json:"subjects"`
	Commands SiteCommands                    `json:"commands"`
}

// SiteCommands finds rules on commands: ids by the name of the program, under
// the empty one those that are about any.
type SiteCommands struct {
	Any      map[string][]string            `json:"any"`
	Groups   map[string]map[string][]string `json:"groups"`
	Subjects map[string]map[string][]string `json:"subjects"`
}

// SiteRule judges one command by its words.
type SiteRule struct {
	Rule     string        `json:"rule"` // where in policy.yml it stands
	Line     int           `json:"line"`
	Kind     string        `json:"kind"`     // simple, structured or glob
	Says     string        `json:"says"`     // what it is about, for people
	Programs []string      `json:"programs"` // as an allowed command spells them
	Most     int           `json:"most"`     // words after the program; -1 for any number
	Prefix   []string      `json:"prefix"`   // the first of them
	Parts    []string      `json:"parts"`    // the same, for a rule that denies: in any order, letters apart
	Fixed    int           `json:"fixed"`    // how many of them the rule spells out
	Indices  []int         `json:"indices"`  // words that are paths; 0 is the program
	Patterns []SitePattern `json:"patterns"` // one of which fits a path, or the whole command
	All      bool          `json:"all"`      // any command, whatever runs it
}

// SitePattern is a glob and the regular expression that means the same.
type SitePattern struct {
	Text       string `json:"text"`
	Expression string `json:"expression"`
	Literal    string `json:"literal"` // what it begins with
}

// SiteTexts say what deny_substrings are besides texts.
type SiteTexts struct {
	Meaning   map[string]SiteText       `json:"meaning"`   // by text
	Programs  map[string][]string       `json:"programs"`  // texts by the program that they mean
	Spellings map[string][]SiteSpelling `json:"spellings"` // by program
}

// SiteText is the program that a text means, and the expression for a word in
// which that program is called; both are empty if it is only a text.
type SiteText struct {
	Program string `json:"program"`
	Inside  string `json:"inside"`
}

// SiteSpelling is a command that a text spells out: letters of its options and
// what operands begin with, in any order.
type SiteSpelling struct {
	Text     string   `json:"text"`
	Letters  []string `json:"letters"`
	Operands []string `json:"operands"`
}

// SiteGrant is where in policy.yml a grant stands.
type SiteGrant struct {
	Rule string `json:"rule"`
	Line int    `json:"line"`
}

// SiteNetwork says which addresses may be dialled. With Closed an address has
// to be in an allowed network; a blocked one is refused in any case.
type SiteNetwork struct {
	Closed bool         `json:"closed"`
	Allow  SiteNetworks `json:"allow"`
	Block  SiteNetworks `json:"block"`
}

// SiteNetworks are networks by family ("4", "6"), prefix length and first
// bits: {"4": {"8": {"00001010": "10.0.0.0/8"}}}.
type SiteNetworks map[string]map[string]map[string]string

// SiteLimits bound calls; zero is no limit of that kind.
type SiteLimits struct {
	Seconds        int      `json:"seconds"`
	OutputBytes    int64    `json:"output_bytes"`
	Concurrent     int      `json:"concurrent"`
	CallsPerMinute int      `json:"calls_per_minute"`
	DenySubstrings []string `json:"deny_substrings"`
}

// SiteGateway is who may do what to the gateway itself.
type SiteGateway struct {
	Reload SiteReload `json:"reload"`
}

// SiteReload is who may have the configuration loaded again.
type SiteReload struct {
	Local    bool            `json:"local"` // callers over stdio
	Groups   map[string]bool `json:"groups"`
	Subjects map[string]bool `json:"subjects"`
}

// siteBundleName is both the name of the site's bundle and its root.
const siteBundleName = "site"

// siteText is site data that validates, as it is wrapped up for OPA, which takes
// possession of what it is given.
type siteText struct {
	json     []byte
	revision string // its digest
}

// readSiteText validates site data.
func readSiteText(site any) (*siteText, error) {
	s, err := readSite(site)
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	digest := sha256.Sum256(text)
	return &siteText{text, "sha256:" + hex.EncodeToString(digest[:8])}, nil
}

// bundle wraps the data up, so that it comes in through the gate and has a
// revision like every other bundle.
func (s *siteText) bundle() (*bundle.Bundle, error) {
	var data any
	if err := util.UnmarshalJSON(s.json, &data); err != nil { // keeps whole numbers whole
		return nil, fmt.Errorf("site: %w", err)
	}
	b := &bundle.Bundle{
		Manifest: bundle.Manifest{Revision: s.revision, Roots: &[]string{siteBundleName}},
		Data:     map[string]any{siteBundleName: data},
	}
	b.Manifest.Init()
	return b, nil
}

// readSite decodes site data, which no unknown field may be in, and fills in
// what is empty.
func readSite(site any) (*Site, error) {
	if site == nil {
		site = Site{Version: SiteVersion}
	}
	text, err := json.Marshal(site)
	if err != nil {
		return nil, err
	}
	s := &Site{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	s.fill()
	return s, s.validate()
}

// fill makes what is missing empty: in Rego a missing list is no empty list.
func (s *Site) fill() {
	s.Hosts, s.Classes, s.Rules = made(s.Hosts), made(s.Classes), made(s.Rules)
	t := &s.Texts
	t.Meaning, t.Programs, t.Spellings = made(t.Meaning), made(t.Programs), made(t.Spellings)
	for name, h := range s.Hosts {
		h.Limits.DenySubstrings = list(h.Limits.DenySubstrings)
		s.Hosts[name] = h
	}
	for name, c := range s.Classes {
		c.Allow.fill()
		c.Deny.fill()
		c.Files.fill()
		s.Classes[name] = c
	}
	for id, r := range s.Rules {
		r.Programs, r.Prefix, r.Parts = list(r.Programs), list(r.Prefix), list(r.Parts)
		r.Indices, r.Patterns = list(r.Indices), list(r.Patterns)
		s.Rules[id] = r
	}
	s.fillFiles()
	s.fillAdhoc()
	s.Network.Allow, s.Network.Block = made(s.Network.Allow), made(s.Network.Block)
	s.Limits.DenySubstrings = list(s.Limits.DenySubstrings)
	reload := &s.Gateway.Reload
	reload.Groups, reload.Subjects = made(reload.Groups), made(reload.Subjects)
}

func (g *SiteGrants) fill() {
	g.Any, g.Groups, g.Subjects = made(g.Any), made(g.Groups), made(g.Subjects)
	c := &g.Commands
	c.Any, c.Groups, c.Subjects = made(c.Any), made(c.Groups), made(c.Subjects)
}

func made[M ~map[K]V, K comparable, V any](m M) M {
	if m == nil {
		return M{}
	}
	return m
}

// validate reports every problem there is, in a steady order.
func (s *Site) validate() error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if s.Version != SiteVersion {
		add("version is %d; this program reads %d", s.Version, SiteVersion)
	}
	for _, alias := range slices.Sorted(maps.Keys(s.Hosts)) {
		h := s.Hosts[alias]
		if _, ok := s.Classes[h.Class]; !ok {
			add("hosts.%s names the class %q, which is not there", alias, h.Class)
		}
		if err := h.Limits.validate(); err != nil {
			add("hosts.%s.limits: %w", alias, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Classes)) {
		for _, id := range slices.Concat(s.Classes[name].Allow.Commands.ids(), s.Classes[name].Deny.Commands.ids()) {
			if _, ok := s.Rules[id]; !ok {
				add("classes.%s names the rule %q, which is not there", name, id)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.Rules)) {
		if err := s.Rules[id].validate(); err != nil {
			add("rules.%s: %w", id, err)
		}
	}
	if err := s.Texts.validate(); err != nil {
		add("texts: %w", err)
	}
	for _, problem := range slices.Concat(s.checkFiles(), s.checkAdhoc()) {
		add("%w", problem)
	}
	if err := s.Limits.validate(); err != nil {
		add("limits: %w", err)
	}
	if err := s.Network.Allow.validate(); err != nil {
		add("network.allow: %w", err)
	}
	if err := s.Network.Block.validate(); err != nil {
		add("network.block: %w", err)
	}
	return errors.Join(problems...)
}

// ids are the rules that are named, in a steady order.
func (c SiteCommands) ids() []string {
	var ids []string
	add := func(byProgram map[string][]string) {
		for _, list := range byProgram {
			ids = append(ids, list...)
		}
	}
	add(c.Any)
	for _, byCaller := range []map[string]map[string][]string{c.Groups, c.Subjects} {
		for _, byProgram := range byCaller {
			add(byProgram)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// validate sees that Rego can do with a rule what it says; an expression that
// does not compile would make every decision an error.
func (r SiteRule) validate() error {
	if !slices.Contains([]string{"simple", "structured", "glob"}, r.Kind) {
		return fmt.Errorf("the kind %q is not known", r.Kind)
	}
	for _, p := range r.Patterns {
		if _, err := regexp.Compile(p.Expression); err != nil {
			return err
		}
	}
	return nil
}

func (t SiteTexts) validate() error {
	for _, text := range slices.Sorted(maps.Keys(t.Meaning)) {
		if _, err := regexp.Compile(t.Meaning[text].Inside); err != nil {
			return err
		}
	}
	return nil
}

func (l SiteLimits) validate() error {
	for name, n := range map[string]int64{
		"seconds": int64(l.Seconds), "output_bytes": l.OutputBytes,
		"concurrent": int64(l.Concurrent), "calls_per_minute": int64(l.CallsPerMinute),
	} {
		if n < 0 || n > maxLimit {
			return fmt.Errorf("%s is %d; it goes from 0 to %d", name, n, maxLimit)
		}
	}
	if slices.Contains(l.DenySubstrings, "") {
		return errors.New("deny_substrings has an empty text, which is in every command")
	}
	return nil
}

// validate holds each network against its key: one that is filed under other
// bits would silently never match, or match the wrong addresses.
func (n SiteNetworks) validate() error {
	for family, lengths := range n {
		for length, networks := range lengths {
			for prefix, network := range networks {
				if err := checkNetwork(family, length, prefix, network); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// parseNetwork reads a network, or an address as the network of it alone.
func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

func checkNetwork(family, length, prefix, network string) error {
	p, err := parseNetwork(network)
	if err != nil {
		return err
	}
	want := map[bool]string{true: "4", false: "6"}[p.Addr().Is4()]
	if family != want || length != strconv.Itoa(p.Bits()) || prefix != bits(p.Addr().AsSlice())[:p.Bits()] {
		return fmt.Errorf("%s is filed as %s/%s/%s", network, family, length, prefix)
	}
	return nil
}
