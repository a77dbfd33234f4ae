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

func (p *sitePolicy) readNetwork(v value) {
	v.object(fields{
		"allow_ips":          p.addresses(p.network.Allow),
		"allow_cidrs":        networks(p.network.Allow),
		"block_ips":          p.addresses(p.network.Block),
		"block_cidrs":        networks(p.network.Block),
		"require_known_host": fixed(true, "host keys are always verified"),
	})
	p.network.Closed = len(p.network.Allow["4"])+len(p.network.Allow["6"]) > 0
}

// addresses stores single addresses, as networks of full length.
func (p *sitePolicy) addresses(ix NetworkIndex) field {
	return each(func(v value, s string) {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			v.fail(faultf("write one address; a network belongs under the _cidrs key", "%q is not an IP address", s))
			return
		}
		addr = addr.Unmap()
		ix.add(netip.PrefixFrom(addr, addr.BitLen()), s)
	})
}

// networks stores networks. One with bits set beyond its prefix is read as the
// network that it is in; a plain address is the network of itself.
func networks(ix NetworkIndex) field {
	return each(func(v value, s string) {
		prefix, f := parseNetwork(s)
		if f != nil {
			v.fail(f)
			return
		}
		if masked := prefix.Masked(); masked != prefix {
			v.warn(faultf("write "+masked.String(), "%q has bits set after its prefix; it is read as %s", s, masked))
		}
		ix.add(prefix.Masked(), s)
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
