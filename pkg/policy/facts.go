package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// NewInput puts facts into the form that policies read. It does nothing else:
// no look-up, no clock, no default that a rule would have to know about.
func NewInput(f Facts) Input {
	return Input{
		Version: InputVersion,
		Call:    newCall(f),
		Subject: Subject{
			ID: f.Caller.Subject, Groups: list(f.Caller.Groups), Auth: f.Caller.Auth,
			Client: f.Caller.Client, Transport: f.Caller.Transport,
		},
		Host:    newHost(f.Target),
		Network: Network{Address: addressText(f.Target.Address), Addresses: newAddresses(f.Target.Addresses)},
		Ops:     list(f.Plan.Ops()),
		Limits:  InputLimits{Requested: f.Plan.Wish},
		Usage:   f.Usage,
		Now:     f.Now.UTC().Format(time.RFC3339Nano),
	}
}

func newCall(f Facts) Call {
	c := Call{ID: f.CallID, Digest: f.Digest}
	if f.Tool != nil {
		c.Tool, c.Toolset, c.Effect = f.Tool.Name, f.Tool.Set, f.Tool.Effect
	}
	if f.Plan.As != "" {
		c.Tool = f.Plan.As
	}
	return c
}

// sourceGateway is where a plan runs that no host has a part in.
const sourceGateway = "gateway"

// sourceAdhoc is where a host comes from that the caller describes.
const sourceAdhoc = "adhoc"

func newHost(t tool.Target) Host {
	h := Host{
		Alias: t.Alias, Hostname: t.Hostname, Port: t.Port, User: t.User, Kind: t.Kind,
		Tags: list(t.Tags), Source: t.Source, Auth: t.Auth, Via: make([]Hop, 0, len(t.Via)),
	}
	if t.Alias == "" && t.Hostname == "" && t.Source == "" {
		h.Source = sourceGateway
	}
	if t.AdHoc != nil {
		h.Key, h.HostKey = t.AdHoc.Key, t.AdHoc.HostKey
	}
	for _, hop := range t.Via {
		h.Via = append(h.Via, Hop{
			Alias: hop.Alias, Hostname: hop.Hostname, Port: hop.Port, User: hop.User, Source: hop.Source,
			Addresses: newAddresses(hop.Addresses),
		})
	}
	return h
}

func newAddresses(addrs []netip.Addr) []Address {
	out := make([]Address, 0, len(addrs))
	for _, a := range addrs {
		if a.IsValid() {
			out = append(out, newAddress(a.Unmap()))
		}
	}
	return out
}

func newAddress(a netip.Addr) Address {
	family := 6
	if a.Is4() {
		family = 4
	}
	return Address{IP: addressText(a), Family: family, Scope: scope(a), Bits: bits(a.AsSlice()), Embedded: bits(embedded(a))}
}

// translated are the prefixes under which IPv6 addresses carry an IPv4 address,
// where it begins, and what it is disguised with.
var translated = []struct {
	prefix netip.Prefix
	at     int
	mask   byte
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12, 0},   // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, 0}, // local NAT64, RFC 8215, with a /96
	{netip.MustParsePrefix("2002::/16"), 2, 0},       // 6to4, RFC 3056
	{netip.MustParsePrefix("2001::/32"), 12, 0xff},   // Teredo, RFC 4380
	{netip.MustParsePrefix("::/96"), 12, 0},          // compatible, RFC 4291
}

// embedded is the IPv4 address that an IPv6 address carries; nil for none.
func embedded(a netip.Addr) []byte {
	for _, t := range translated {
		if a.Is6() && t.prefix.Contains(a) && !a.IsUnspecified() && !a.IsLoopback() {
			v4 := slices.Clone(a.AsSlice()[t.at : t.at+4])
			for i := range v4 {
				v4[i] ^= t.mask
			}
			return v4
		}
	}
	return nil
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}

func scope(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "unspecified"
	case a.IsLoopback():
		return "loopback"
	case a.IsLinkLocalUnicast():
		return "link_local"
	case a.IsMulticast():
		return "multicast"
	case a.IsPrivate():
		return "private"
	}
	return "global"
}

// bits writes bytes in binary digits.
func bits(bytes []byte) string {
	var b strings.Builder
	b.Grow(8 * len(bytes))
	for _, c := range bytes {
		for shift := 7; shift >= 0; shift-- {
			b.WriteByte('0' + c>>shift&1)
		}
	}
	return b.String()
}

// list is never nil: a policy finds every list where the schema says it is.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
