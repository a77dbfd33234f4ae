package config

import (
	"fmt"
	"slices"
	"strings"
)

// Host is a host of servers.yml together with what its credentials entry says
// about how one logs in.
type Host struct {
	Alias       string
	Hostname    string // a name or an IP address
	Port        int
	Credentials string // name of the entry in credentials.yml
	User        string // of that entry
	Auth        string // of that entry: key, agent, password or cert
	Tags        []string
	Description string
	Kind        string // posix, restricted, network or windows
	// Via are the aliases of the whole way to the host, the first one dialled
	// first. It is complete: where the first jump host has a way of its own,
	// that is already in front.
	Via          []string
	HostKeyAlias string // the name to look for in known_hosts; empty for Hostname
	Legacy       bool   // accept algorithms that are off by default
	Line         int    // in servers.yml
}

// kinds are the shell worlds that a host can be. Commands are judged as a POSIX
// shell reads them, so policy refuses raw commands on the others.
var kinds = []string{"posix", "restricted", "network", "windows"}

// maxHops is how many jump hosts a way may have.
const maxHops = 8

// inventory is servers.yml while it is checked.
type inventory struct {
	entries []*hostEntry
	byAlias map[string]int
	lines   map[string]int // by alias
	aliases []string       // sorted
}

// hostEntry is a host and where the names in it stand. hops are the jump hosts
// as written; Host.Via becomes the whole way.
type hostEntry struct {
	Host
	place, credentials, via place
	hops                    []string
}

// servers reads servers.yml.
func (l *loader) servers(logins logins) *inventory {
	inv := newInventory()
	root, ok := l.required(serversFile)
	if !ok {
		return inv
	}
	root.object(fields{
		"hosts": func(v value) { v.items(inv.add) },
	}, "hosts")
	inv.connectAll(logins)
	return inv
}

func newInventory() *inventory {
	return &inventory{byAlias: map[string]int{}, lines: map[string]int{}}
}

func (inv *inventory) add(v value) {
	h := &hostEntry{place: v.place, Host: Host{Port: 22, Kind: "posix", Tags: []string{}, Line: v.line}}
	ok := v.object(fields{
		"alias":             text(&h.Alias, name(maxAlias)),
		"host":              text(&h.Hostname, hostname),
		"port":              integer(&h.Port, 1, 65535),
		"credentials":       located(&h.credentials, text(&h.Credentials, name(maxAlias))),
		"tags":              texts(&h.Tags, name(maxTag)),
		"description":       prose(&h.Description),
		"kind":              text(&h.Kind, oneOf(kinds...)),
		"via":               located(&h.via, hops(&h.hops)),
		"host_key_alias":    text(&h.HostKeyAlias, hostname),
		"legacy_algorithms": boolean(&h.Legacy),
	}, "alias", "host", "credentials")
	if !ok {
		return
	}
	if v.claim(inv.lines, h.Alias, fmt.Sprintf("alias %q", h.Alias)) {
		inv.byAlias[h.Alias] = len(inv.entries)
	}
	inv.entries = append(inv.entries, h)
}

// located notes where a value stands, for checks that need other values.
func located(p *place, f field) field {
	return func(v value) {
		*p = v.place
		f(v)
	}
}

// hops are one alias, or a list of them.
func hops(p *[]string) field {
	return func(v value) {
		var one string
		if _, ok := scalarKinds[v.node.ShortTag()]; !ok {
			texts(p, name(maxAlias))(v)
		} else if text(&one, name(maxAlias))(v); one != "" {
			*p = []string{one}
		}
	}
}

func (inv *inventory) connectAll(logins logins) {
	inv.aliases = sortedKeys(inv.byAlias)
	for _, h := range inv.entries {
		inv.connect(h, logins)
	}
}

// connect follows the names in a host to what they name.
func (inv *inventory) connect(h *hostEntry, logins logins) {
	if login, ok := logins.byName[h.Credentials]; ok {
		h.User, h.Auth = login.username, login.auth()
	} else if h.Credentials != "" && logins.read {
		h.credentials.fail(unknownFault(h.Credentials, "credentials entry", "entries of "+credentialsFile, logins.names))
	}
	for _, alias := range h.hops {
		if _, ok := inv.byAlias[alias]; !ok {
			h.via.fail(unknownFault(alias, "host", "aliases", inv.aliases))
			return
		}
	}
	h.Via = inv.way(h)
}

// way is the jump hosts to h. A list is the whole way from its first host on,
// so only that one's own way goes before it, as in OpenSSH's ProxyJump. A way
// that leads back to h is reported; one that merely runs into another host's
// circle is not, since that host reports it.
func (inv *inventory) way(h *hostEntry) []string {
	way := []string{}
	seen := map[string]bool{}
	for at := h; len(at.hops) > 0 && len(way) <= maxHops; {
		way = slices.Concat(at.hops, way)
		next, known := inv.byAlias[at.hops[0]]
		if !known || seen[at.hops[0]] {
			return nil
		}
		seen[at.hops[0]] = true
		at = inv.entries[next]
		if at == h {
			break
		}
	}
	h.checkWay(way)
	return way
}

func (h *hostEntry) checkWay(way []string) {
	whole := append(slices.Clone(way), h.Alias)
	seen := map[string]bool{}
	for _, alias := range whole {
		if seen[alias] {
			h.via.fail(faultf("let each host be passed once", "the way %s passes %s twice", strings.Join(whole, " -> "), alias))
			return
		}
		seen[alias] = true
	}
	if len(way) > maxHops {
		h.via.fail(faultf("shorten it", "the way has more than %d jump hosts", maxHops))
	}
}

func (inv *inventory) hosts() []Host {
	hosts := make([]Host, len(inv.entries))
	for i, h := range inv.entries {
		hosts[i] = h.Host
	}
	return hosts
}

// byTag are the positions of the hosts with each tag, in file order.
func (inv *inventory) byTag() map[string][]int {
	byTag := map[string][]int{}
	for i, h := range inv.entries {
		for _, tag := range h.Tags {
			byTag[tag] = append(byTag[tag], i)
		}
	}
	return byTag
}
