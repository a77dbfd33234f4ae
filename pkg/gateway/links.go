package gateway

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tool"
)

// links are the connections that callers keep open between calls. Each belongs
// to the subject that the transport verified; what a caller says of its session
// is a namespace inside that and nothing more. A link is a name, the host that it
// means, the directory that its calls work in, and nothing that policy has
// allowed: whatever is done over it is resolved and judged anew, as if there were
// none. What is on the wire is the runner's, by the link's id.
//
// A link ends when its owner says so, with its session, when it was not used for
// long or is old, and when one that it goes through ends. Nothing is closed under
// a running call: the link takes no new ones, and is closed behind the last.
type links struct {
	gateway *Gateway

	mu       sync.Mutex // guards all that follows, and the links' own states
	spaces   map[space]*namespace
	kept     map[string]int // links by subject, until they are closed
	all      int
	sessions map[string]int // MCP sessions by subject
	alarm    *time.Timer    // of the next sweep; nil while nothing is open
	closed   bool
	closing  sync.WaitGroup
}

// space is where a caller's aliases mean something.
type space struct{ subject, session string }

// namespace is the open links of a space. One in which nothing is open is gone.
type namespace struct {
	links    map[string]*link // by alias, those that are being opened among them
	standard *link            // what a call without a target means; nil for none
}

// link is a connection that is kept open.
type link struct {
	id, alias string
	owner     tool.Caller
	space     space
	host      string      // alias in the inventory; empty when adhoc is set
	adhoc     *tool.AdHoc // as its owner described the host
	through   *link       // the link that it goes through
	hop       string      // the host of the inventory that it goes through, when that is no link

	// Guarded by links.mu.
	state   linkState
	dialled bool   // the runner has been asked to connect
	kept    bool   // it was open once
	dir     string // that its calls work in; empty when it is not known
	start   string // where a login begins
	address netip.Addr
	opened  time.Time
	used    time.Time
	running int // calls on it and on what goes through it
	why     tool.Stop
}

type linkState int

const (
	linkOpening linkState = iota
	linkOpen
	linkClosing // takes no new calls
	linkClosed
)

// standardAlias is a name of the default connection.
const standardAlias = "primary"

func newLinks(g *Gateway) *links {
	return &links{gateway: g, spaces: map[space]*namespace{}, kept: map[string]int{}, sessions: map[string]int{}}
}

func (ls *links) settings() config.ConnSettings { return ls.gateway.config.Load().Settings.Conns }

func (ls *links) spaceOf(caller tool.Caller) space {
	if ls.settings().Global {
		return space{subject: caller.Subject}
	}
	return space{caller.Subject, caller.Session}
}

// find is the open link that an alias means; without one, the default. Its caller
// holds mu.
func (ls *links) find(s space, alias string) *link {
	ns := ls.spaces[s]
	switch {
	case ns == nil:
		return nil
	case alias == "" || alias == standardAlias:
		return ns.standard
	}
	if l := ns.links[alias]; l != nil && l.state == linkOpen {
		return l
	}
	return nil
}

// use finds an open link and holds it; nil when there is none.
func (ls *links) use(s space, alias string) *link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.find(s, alias)
	l.hold()
	return l
}

// hold counts a call on a link and on what it goes through, until it is released.
func (l *link) hold() {
	for ; l != nil; l = l.through {
		l.running++
	}
}

// release ends a call on a link. One that did not come to be open is dropped, and
// one that is to be closed when nothing runs on it, is.
func (ls *links) release(l *link) {
	ls.mu.Lock()
	if l.state == linkOpening {
		ls.detach(l, "")
	}
	var over []*link
	for at := l; at != nil; at = at.through {
		at.running--
		at.used = ls.gateway.now()
		if at.state == linkClosing && at.running == 0 {
			over = append(over, at)
		}
	}
	ls.mu.Unlock()
	ls.finish(over)
}

// opened takes in what came of connecting a link, says what it is to its owner,
// and puts a new one on record.
func (ls *links) opened(ctx context.Context, l *link, made tool.Connected) tool.Connected {
	ls.mu.Lock()
	made.Alias, made.Reused = l.alias, l.kept
	if l.state == linkOpening {
		l.state, l.kept, l.opened = linkOpen, true, ls.gateway.now()
		l.start, l.dir = made.Directory, made.Directory
		if ns := ls.spaces[l.space]; ns.standard == nil {
			ns.standard = l
		}
		ls.arm()
	}
	made.Directory = l.dir
	made.Default = ls.find(l.space, standardAlias) == l
	l.reached(made.Address)
	ls.mu.Unlock()
	if !made.Reused {
		ls.record(ctx, l, audit.ConnOpen, made.HostKey)
	}
	return made
}

// dialling notes that the runner may have something of a link from now on.
func (ls *links) dialling(l *link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.dialled = true
}

// reached notes the address that answered, which is the one to prefer from now
// on.
func (ls *links) reached(l *link, address string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.reached(address)
}

// reached is the same for who holds mu.
func (l *link) reached(address string) {
	if a, err := netip.ParseAddr(address); err == nil {
		l.address = a
	}
}

// enter has the calls on a link work in another directory.
func (ls *links) enter(l *link, dir string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.dir = dir
}

// names are the aliases of what is open in a space, sorted.
func (ls *links) names(s space) []string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var names []string
	if ns := ls.spaces[s]; ns != nil {
		for alias, l := range ns.links {
			if l.state == linkOpen {
				names = append(names, alias)
			}
		}
	}
	slices.Sort(names)
	return names
}

func (ls *links) record(ctx context.Context, l *link, kind audit.Type, detail string) {
	c := &call{gateway: ls.gateway, id: l.id, caller: l.owner}
	e := c.event(kind, tool.Run{})
	e.Alias, e.Detail = l.alias, detail
	if l.address.IsValid() {
		e.TargetIP = l.address.String()
	}
	c.save(ctx, e)
}
