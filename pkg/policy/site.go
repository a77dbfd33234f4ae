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
// says so, for everybody, by group and by subject.
type SiteGrants struct {
	Any      map[string]SiteGrant            `json:"any"`
	Groups   map[string]map[string]SiteGrant `json:"groups"`
	Subjects map[string]map[string]SiteGrant `json:"subjects"`
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

// siteBundle validates site data and wraps it up, so that it comes in through
// the gate and has a revision like every other bundle: its digest.
func siteBundle(site any) (*bundle.Bundle, error) {
	s, err := readSite(site)
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("site: %w", err)
	}
	var data any
	if err := util.UnmarshalJSON(text, &data); err != nil { // keeps whole numbers whole
		return nil, fmt.Errorf("site: %w", err)
	}
	digest := sha256.Sum256(text)
	b := &bundle.Bundle{
		Manifest: bundle.Manifest{
			Revision: "sha256:" + hex.EncodeToString(digest[:8]),
			Roots:    &[]string{siteBundleName},
		},
		Data: map[string]any{siteBundleName: data},
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
	s.Hosts, s.Classes = made(s.Hosts), made(s.Classes)
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
	s.fillFiles()
	s.fillAdhoc()
	s.Network.Allow, s.Network.Block = made(s.Network.Allow), made(s.Network.Block)
	s.Limits.DenySubstrings = list(s.Limits.DenySubstrings)
	reload := &s.Gateway.Reload
	reload.Groups, reload.Subjects = made(reload.Groups), made(reload.Subjects)
}

func (g *SiteGrants) fill() {
	g.Any, g.Groups, g.Subjects = made(g.Any), made(g.Groups), made(g.Subjects)
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
