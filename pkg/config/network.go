package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// SiteNetwork is which addresses may be dialled. Closed says that there is an
// allow list that is not empty, so that what is not in it is refused.
type SiteNetwork struct {
	Closed bool         `json:"closed"`
	Allow  NetworkIndex `json:"allow"`
	Block  NetworkIndex `json:"block"`
}

// NetworkIndex finds the network that holds an address: by family ("4", "6"),
// by prefix length, by that many first bits in binary digits, to the network as
// it was written. IPv4 addresses inside IPv6 ones are IPv4.
type NetworkIndex map[string]map[string]map[string]string

func newIndex() NetworkIndex {
	return NetworkIndex{"4": {}, "6": {}}
}

func (ix NetworkIndex) add(p netip.Prefix, written string) {
	family := "6"
	if p.Addr().Is4() {
		family = "4"
	}
	length := strconv.Itoa(p.Bits())
	if ix[family][length] == nil {
		ix[family][length] = map[string]string{}
	}
	ix[family][length][firstBits(p)] = written
}

func (ix NetworkIndex) take(_ place, p netip.Prefix, written string) { ix.add(p, written) }

// firstBits are the bits of a network's prefix in binary digits.
func firstBits(p netip.Prefix) string {
	var b strings.Builder
	bytes := p.Addr().AsSlice()
	for i := range p.Bits() {
		b.WriteByte('0' + bytes[i/8]>>(7-i%8)&1)
	}
	return b.String()
}

// written are the networks as they stand in the file, sorted.
func (ix NetworkIndex) written() []string {
	var list []string
	for _, lengths := range ix {
		for _, networks := range lengths {
			for _, network := range networks {
				list = append(list, network)
			}
		}
	}
	slices.Sort(list)
	return list
}

// entry is a network of a list, as it was written.
type entry struct {
	place
	netip.Prefix
	written string
}

// entries are the networks of both kinds of one list.
type entries []entry

func (p *sitePolicy) readNetwork(v value) {
	var allow, block entries
	v.object(fields{
		"allow_ips":          addresses(&allow),
		"allow_cidrs":        networks(allow.take),
		"block_ips":          addresses(&block),
		"block_cidrs":        networks(block.take),
		"require_known_host": fixed(true, "host keys are always verified"),
	})
	for _, e := range allow {
		p.network.Allow.add(e.Prefix, e.written)
		e.warnIfIn(block)
	}
	for _, e := range block {
		p.network.Block.add(e.Prefix, e.written)
	}
	p.network.Closed = len(p.network.Allow["4"])+len(p.network.Allow["6"]) > 0
}

func (list *entries) take(at place, p netip.Prefix, written string) {
	*list = append(*list, entry{at, p, written})
}

// warnIfIn tells of what is allowed and wholly blocked: blocking goes over
// allowing, however much wider it is.
func (e entry) warnIfIn(block entries) {
	for _, b := range block {
		if b.Bits() <= e.Bits() && b.Contains(e.Addr()) {
			e.warn(faultf("narrow what is blocked: where there is an allow list, what is not in it is refused anyway",
				"%q allows nothing, since %q is blocked and blocking goes over allowing", e.written, b.written))
			return
		}
	}
}

// addresses reads single addresses, as networks of full length.
func addresses(list *entries) field {
	return each(func(v value, s string) {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			v.fail(faultf("write one address; a network belongs under the _cidrs key", "%q is not an IP address", s))
			return
		}
		addr = addr.Unmap()
		list.take(v.place, netip.PrefixFrom(addr, addr.BitLen()), s)
	})
}

// networks reads networks. One with bits set beyond its prefix is read as the
// network that it is in; a plain address is the network of itself.
func networks(take func(place, netip.Prefix, string)) field {
	return each(func(v value, s string) {
		prefix, f := parseNetwork(s)
		if f != nil {
			v.fail(f)
			return
		}
		if masked := prefix.Masked(); masked != prefix {
			v.warn(faultf("write "+masked.String(), "%q has bits set after its prefix; it is read as %s", s, masked))
		}
		take(v.place, prefix.Masked(), s)
	})
}

// each reads a list of texts, and hands over those that are.
func each(read func(value, string)) field {
	return func(v value) {
		v.items(func(item value) {
			var s string
			text(&s, filled)(item)
			if s != "" {
				read(item, s)
			}
		})
	}
}

const mappedBits = 96 // of an IPv6 address, before the IPv4 address inside it

func parseNetwork(s string) (netip.Prefix, *fault) {
	bad := faultf("write a network such as 10.0.0.0/8 or 2001:db8::/32", "%q is not a network", s)
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, bad
	case !p.Addr().Is4In6():
		return p, nil
	case p.Bits() < mappedBits:
		return p, faultf("write the IPv4 and the IPv6 network each", "%q is wider than the IPv4 addresses that it begins with", s)
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits), nil
}
