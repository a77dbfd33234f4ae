package gateway

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/tool"
)

// open makes a link for a caller, or finds the one that there is by this name for
// the same host, and holds it. A new one takes calls once [links.opened] is told.
// Its id is that of the call.
func (ls *links) open(c *call, scope tool.Scope) (*link, *tool.Problem) {
	conf, o := ls.gateway.config.Load(), scope.Opening
	l := &link{id: c.id, owner: c.caller, space: ls.spaceOf(c.caller), alias: o.Name, host: scope.Alias, adhoc: o.AdHoc}
	if problem := l.settleHost(conf); problem != nil {
		return nil, problem
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if problem := ls.settleName(conf, l); problem != nil {
		return nil, problem
	}
	if problem := ls.settleWay(conf, l, o.Via); problem != nil {
		return nil, problem
	}
	l, problem := ls.enlist(l)
	if problem == nil {
		l.hold()
	}
	return l, problem
}

// settleHost looks the host up in the inventory. A description that says no more
// than the inventory does means the host that is there.
func (l *link) settleHost(conf *config.Config) *tool.Problem {
	name := l.host
	if l.adhoc != nil {
		name = l.adhoc.Hostname
	}
	h, known := conf.Host(name)
	switch {
	case !known && l.adhoc != nil:
		return nil
	case !known:
		p := unknownHost(name)
		p.Remedy += "; a host that is not in it is described by host, username and a credential"
		return p
	case l.adhoc == nil:
		return nil
	}
	if said := *l.adhoc; !said.Same(tool.AdHoc{Hostname: name, Port: said.Port, User: h.User}) || said.Port != 0 && said.Port != h.Port {
		return &tool.Problem{
			Code: "host_in_inventory", Message: fmt.Sprintf("%s is a host of the inventory, which has its address, user and credential", name),
			Remedy: "send no more than its alias as host",
		}
	}
	l.host, l.adhoc = name, nil
	return nil
}

// settleName gives a link the name that was asked for, or one of its own. Its
// caller holds mu.
func (ls *links) settleName(conf *config.Config, l *link) *tool.Problem {
	switch ns := ls.spaces[l.space]; {
	case l.alias != "":
	case l.adhoc == nil:
		l.alias = l.host
	default:
		first := l.adhoc.User + "@" + l.adhoc.Hostname
		l.alias = first
		for n := 2; ns != nil && ns.links[l.alias] != nil; n++ {
			l.alias = fmt.Sprintf("%s-%d", first, n)
		}
	}
	if _, taken := conf.Host(l.alias); taken && l.alias != l.host || l.alias == standardAlias {
		return &tool.Problem{
			Code: "alias_taken", Message: fmt.Sprintf("%q means something else: a host of the inventory, or the default connection", l.alias),
			Remedy: "choose another alias, or leave it out",
		}
	}
	return nil
}

// settleWay finds what a link goes through: another link, or a host of the
// inventory. Its caller holds mu.
func (ls *links) settleWay(conf *config.Config, l *link, via string) *tool.Problem {
	if via == "" {
		return nil
	}
	if l.through = ls.find(l.space, via); l.through == nil {
		if _, known := conf.Host(via); !known {
			return noTarget(via)
		}
		l.hop = via
	}
	if via == l.alias || via == l.host {
		return &tool.Problem{Code: "bad_arguments", Message: "a host is not reached through itself", Remedy: "name another one as via"}
	}
	_, problem := ls.targetOf(conf, l)
	return problem
}

// enlist puts a link among those of its space, unless one of this name is there
// already. Its caller holds mu.
func (ls *links) enlist(l *link) (*link, *tool.Problem) {
	ns := ls.spaces[l.space]
	if ns != nil && ns.links[l.alias] != nil {
		return ns.links[l.alias].again(l)
	}
	if problem := ls.room(l.space.subject); problem != nil {
		return nil, problem
	}
	if ns == nil {
		ns = &namespace{links: map[string]*link{}}
		ls.spaces[l.space] = ns
	}
	ns.links[l.alias] = l
	ls.kept[l.space.subject]++
	ls.all++
	return l, nil
}

// again is a link when it is asked for once more, if it is what is asked for.
func (l *link) again(asked *link) (*link, *tool.Problem) {
	same := l.host == asked.host && l.hop == asked.hop && l.through == asked.through
	if same && l.host == "" {
		same = l.adhoc.Same(*asked.adhoc)
	}
	switch {
	case l.state == linkOpening:
		return nil, &tool.Problem{
			Code: "connection_pending", Message: fmt.Sprintf("%q is being opened by another call", l.alias),
			Remedy: "wait for that call, or choose another alias",
		}
	case !same:
		return nil, &tool.Problem{
			Code: "connection_conflict", Message: fmt.Sprintf("%q is open with another host, port, user, way or credential", l.alias),
			Remedy: "disconnect it first, or choose another alias",
		}
	}
	return l, nil
}

// room says why there is none for one more link. Its caller holds mu.
func (ls *links) room(subject string) *tool.Problem {
	set := ls.settings()
	switch {
	case ls.closed:
		return &tool.Problem{Code: string(tool.FailShutdown), Message: "the gateway is shutting down", Remedy: "call again when it is back"}
	case ls.kept[subject] >= set.PerSubject:
		return &tool.Problem{
			Code: "too_many_connections", Message: fmt.Sprintf("the caller has %d connections open, and may have no more", set.PerSubject),
			Remedy: "disconnect what is not needed; connections.per_subject in sallyport.yml sets the bound",
		}
	case ls.all >= set.Total:
		return &tool.Problem{
			Code: "too_many_connections", Message: "the gateway has as many connections open as it may",
			Remedy: "try again when others have been closed; connections.total in sallyport.yml sets the bound",
		}
	}
	return nil
}

// target is the host that a link means, as it is written now.
func (ls *links) target(conf *config.Config, l *link) (tool.Target, *tool.Problem) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.targetOf(conf, l)
}

// targetOf is target for who holds mu.
func (ls *links) targetOf(conf *config.Config, l *link) (tool.Target, *tool.Problem) {
	t, problem := described(l), (*tool.Problem)(nil)
	if l.adhoc == nil {
		t, problem = targetOf(conf, l.host)
	}
	if problem == nil && (l.through != nil || l.hop != "") {
		t, problem = ls.by(conf, l, t)
	}
	t.Conn = tool.Connection{ID: l.id, Alias: l.alias, Subject: l.space.subject}
	t.Dir, t.Address = l.dir, l.address
	return t, problem
}

// described is the host that the owner of a link has described.
func described(l *link) tool.Target {
	if l.adhoc == nil {
		return tool.Target{}
	}
	t := tool.Target{
		Alias: l.alias, Hostname: l.adhoc.Hostname, Port: l.adhoc.Port, User: l.adhoc.User, Kind: "posix",
		Source: "adhoc", Auth: l.adhoc.Auth(), AdHoc: l.adhoc,
	}
	if t.Port == 0 {
		t.Port = 22
	}
	return t
}

// by is a target by the way of its link. To a host of the inventory there is only
// the way that is written there. The caller holds mu.
func (ls *links) by(conf *config.Config, l *link, t tool.Target) (tool.Target, *tool.Problem) {
	var hop tool.Target
	var problem *tool.Problem
	if l.through != nil {
		hop, problem = ls.targetOf(conf, l.through)
	} else {
		hop, problem = targetOf(conf, l.hop)
	}
	if problem != nil {
		return t, problem
	}
	way := slices.Clone(hop.Via)
	hop.Via = nil
	way = append(way, hop)
	if l.adhoc == nil && !slices.EqualFunc(way, t.Via, func(a, b tool.Target) bool { return a.Alias == b.Alias }) {
		return t, &tool.Problem{
			Code: "bad_arguments", Message: fmt.Sprintf("the inventory says by which way %s is reached, and that is another one", l.host),
			Remedy: "leave via out",
		}
	}
	t.Via = way
	return t, nil
}

// noTarget is that a name means nothing to a caller.
func noTarget(alias string) *tool.Problem {
	return &tool.Problem{
		Code: "unknown_target", Message: fmt.Sprintf("neither a connection that is open nor a host of the inventory is called %q", alias),
		Remedy: "connect first, or use an alias that ssh_list_hosts shows",
	}
}

// noDefault is that a call names no target and there is none to mean.
func (ls *links) noDefault(s space) *tool.Problem {
	open := ls.names(s)
	if len(open) == 0 {
		return &tool.Problem{
			Code: "no_connection", Message: "no target is named and no connection is open",
			Remedy: "connect first, or name a host of the inventory as target",
		}
	}
	return &tool.Problem{
		Code: "no_connection", Message: "no target is named and the default connection is closed",
		Remedy: "name one of those that are open as target: " + strings.Join(open, ", "),
	}
}
