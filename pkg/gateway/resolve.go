package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Lookup finds the addresses of a name; *net.Resolver is one.
type Lookup interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// lookupsPerSecond bounds real look-ups of one name, so that an agent cannot
// make the gateway flood a name server.
const lookupsPerSecond = 10

// resolver turns a host name into addresses once per call: a literal as it is,
// a name through a bounded look-up with a short memory, for failures too.
type resolver struct {
	lookup  Lookup
	timeout time.Duration
	keep    time.Duration
	now     func() time.Time

	mu    sync.Mutex
	names map[string]*resolved
}

// resolved is what is known of one name. Whoever put something into turn may
// use it: callers who ask for the same name wait for one look-up, or give up.
type resolved struct {
	turn      chan struct{}
	addresses []netip.Addr
	failure   *tool.Failure
	until     time.Time
	looked    []time.Time // real look-ups in the last second
}

func (r *resolver) resolve(ctx context.Context, host string) ([]netip.Addr, *tool.Failure) {
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	entry := r.entry(strings.ToLower(host))
	select {
	case entry.turn <- struct{}{}:
		defer func() { <-entry.turn }()
	case <-ctx.Done():
		return nil, unresolved(host, errGaveUp)
	}
	if now := r.now(); now.Before(entry.until) {
		return entry.addresses, entry.failure
	} else if !entry.mayLook(now) {
		return nil, tooManyLookups(host)
	}
	entry.addresses, entry.failure = r.ask(ctx, host)
	if ctx.Err() == nil {
		entry.until = r.now().Add(r.keep)
	}
	return entry.addresses, entry.failure
}

// maxNames bounds the memory; ad-hoc names could otherwise grow it for ever.
const maxNames = 20_000

func (r *resolver) entry(host string) *resolved {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil || len(r.names) >= maxNames {
		r.names = map[string]*resolved{}
	}
	if r.names[host] == nil {
		r.names[host] = &resolved{turn: make(chan struct{}, 1)}
	}
	return r.names[host]
}

// mayLook counts a look-up, unless there were too many in the second before.
// One that does not happen is not counted, so that asking too often delays
// nobody for longer than a second.
func (e *resolved) mayLook(now time.Time) bool {
	e.looked = slices.DeleteFunc(e.looked, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	if len(e.looked) >= lookupsPerSecond {
		return false
	}
	e.looked = append(e.looked, now)
	return true
}

var errGaveUp = errors.New("the call ended before the name server answered")

// ask looks a name up under the resolver's own deadline.
func (r *resolver) ask(ctx context.Context, host string) ([]netip.Addr, *tool.Failure) {
	bounded, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	addresses, err := r.lookup.LookupNetIP(bounded, "ip", host)
	switch {
	case err == nil:
		return usable(addresses), nil
	case ctx.Err() != nil:
		err = errGaveUp
	case bounded.Err() != nil:
		err = fmt.Errorf("no answer within %s", r.timeout)
	}
	return nil, unresolved(host, err)
}

// usable drops zones, unmaps IPv4 in IPv6, and leaves out repeats.
func usable(addresses []netip.Addr) []netip.Addr {
	var out []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, a := range addresses {
		a = a.Unmap()
		if a.Zone() != "" || seen[a] {
			continue
		}
		seen[a] = true
		out = append(out, a)
	}
	return out
}

func tooManyLookups(host string) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailLookups,
		Message: fmt.Sprintf("the name %s was looked up %d times in the last second", host, lookupsPerSecond),
		Remedy:  "wait a second; with resolver.cache in sallyport.yml answers are kept",
	}
}

func unresolved(host string, cause error) *tool.Failure {
	why := "the name server does not know it"
	var dns *net.DNSError
	if !errors.As(cause, &dns) || !dns.IsNotFound {
		why = cause.Error()
	}
	return &tool.Failure{
		Code:    tool.FailUnresolved,
		Message: fmt.Sprintf("the name %s does not resolve: %s", host, why),
		Remedy:  "check the host entry in servers.yml, or the gateway's name server",
		Cause:   cause,
	}
}
