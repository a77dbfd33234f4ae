package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/tool"
)

// Why a link is closed, beside a shutdown.
const (
	whyAsked    tool.Stop = "disconnect_asked"
	whyIdle     tool.Stop = "idle"
	whyLifetime tool.Stop = "lifetime"
	whySession  tool.Stop = "session_end"
	whyHop      tool.Stop = "hop_closed" // what it goes through is
)

// detach takes a link out of its space, so that it takes no new calls. Its caller
// holds mu, and has to finish it when nothing runs on it.
func (ls *links) detach(l *link, why tool.Stop) {
	l.state, l.why = linkClosing, why
	ns := ls.spaces[l.space]
	delete(ns.links, l.alias)
	if ns.standard == l {
		ns.standard = nil
	}
	if len(ns.links) == 0 {
		delete(ls.spaces, l.space)
	}
}

// leave detaches links and whatever goes through them, and gives all of them, each
// behind what goes through it. Its caller holds mu.
func (ls *links) leave(asked []*link, why tool.Stop) []*link {
	var leaving []*link
	for _, l := range asked {
		if l.state >= linkClosing {
			continue
		}
		var inside []*link
		for _, other := range ls.spaces[l.space].links {
			if other.through == l {
				inside = append(inside, other)
			}
		}
		l.state = linkClosing // before what is inside, which may be asked for as well
		leaving = append(leaving, ls.leave(inside, whyHop)...)
		ls.detach(l, why)
		leaving = append(leaving, l)
	}
	return leaving
}

// finish closes those of detached links on which nothing runs, in this order, and
// says which.
func (ls *links) finish(leaving []*link) (closed []string) {
	var over []*link
	var dialled []string
	ls.mu.Lock()
	for _, l := range leaving {
		if l.state != linkClosing || l.running > 0 && !ls.closed {
			continue
		}
		if l.dialled && l.running == 0 {
			dialled = append(dialled, l.id)
		}
		l.state = linkClosed
		ls.all--
		count(ls.kept, l.space.subject, -1)
		over = append(over, l)
	}
	ls.mu.Unlock()
	if len(dialled) > 0 {
		ls.gateway.runner.Disconnect(dialled)
	}
	for _, l := range over {
		if l.adhoc != nil {
			l.adhoc.Password.Wipe()
		}
		if l.kept {
			ls.record(context.Background(), l, audit.ConnClose, string(l.why))
		}
		closed = append(closed, l.alias)
	}
	return closed
}

// disconnect closes the link of a name, or all of a space without one, and
// whatever goes through them.
func (ls *links) disconnect(s space, alias string) (tool.Disconnected, *tool.Failure) {
	ls.mu.Lock()
	var asked []*link
	if ns := ls.spaces[s]; alias == "" && ns != nil {
		asked = ns.all()
	} else if l := ls.find(s, alias); alias != "" && l != nil {
		asked = []*link{l}
	}
	leaving := ls.leave(asked, whyAsked)
	ls.mu.Unlock()
	if alias != "" && len(leaving) == 0 {
		return tool.Disconnected{}, failureOf(&tool.Problem{
			Code: "no_connection", Message: fmt.Sprintf("no connection called %q is open", alias), Remedy: "there is nothing to do",
		})
	}
	done := tool.Disconnected{Closed: ls.finish(leaving)}
	for _, l := range leaving {
		if !slices.Contains(done.Closed, l.alias) {
			done.Busy = append(done.Busy, l.alias)
		}
	}
	slices.Sort(done.Closed)
	slices.Sort(done.Busy)
	return done, nil
}

func (ns *namespace) all() []*link {
	var all []*link
	for _, l := range ns.links {
		all = append(all, l)
	}
	return all
}

// sessionOpened counts an MCP session of a subject.
func (ls *links) sessionOpened(caller tool.Caller) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.sessions[caller.Subject]++
}

// sessionClosed closes what was open in an MCP session and, with the last one of a
// subject, what the runner keeps for it in case of another call. A namespace that
// is not a session's own goes on.
func (ls *links) sessionClosed(caller tool.Caller) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	count(ls.sessions, caller.Subject, -1)
	last := ls.sessions[caller.Subject] == 0
	var leaving []*link
	if ns := ls.spaces[space{caller.Subject, caller.Session}]; ns != nil && !ls.settings().Global {
		leaving = ls.leave(ns.all(), whySession)
	}
	ls.spawn(func() {
		ls.finish(leaving)
		if last {
			ls.gateway.runner.Forget(caller.Subject)
		}
	})
}

// spawn does something that nobody waits for but the end of the gateway. Its
// caller holds mu.
func (ls *links) spawn(f func()) {
	if !ls.closed {
		ls.closing.Go(f)
	}
}

// sweepsPerSpan is how often links are looked at in the shortest time that one may
// be kept, so a link is closed late by that part of its time at most.
const sweepsPerSpan = 8

// arm sets the alarm for the next sweep, if there is something to sweep and none is
// set. Its caller holds mu.
func (ls *links) arm() {
	if ls.alarm != nil || ls.closed || ls.all == 0 {
		return
	}
	set := ls.settings()
	ls.alarm = time.AfterFunc(min(set.Idle, set.Lifetime, 8*time.Minute)/sweepsPerSpan, func() {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		ls.alarm = nil
		ls.spawn(ls.sweep)
		ls.arm()
	})
}

// sweep closes what was not used for too long, and what is too old.
func (ls *links) sweep() {
	ls.mu.Lock()
	set, now := ls.settings(), ls.gateway.now()
	var old, idle []*link
	for _, ns := range ls.spaces {
		for _, l := range ns.links {
			switch {
			case l.state != linkOpen:
			case now.Sub(l.opened) >= set.Lifetime:
				old = append(old, l)
			case l.running == 0 && now.Sub(l.used) >= set.Idle:
				idle = append(idle, l)
			}
		}
	}
	leaving := append(ls.leave(old, whyLifetime), ls.leave(idle, whyIdle)...)
	ls.mu.Unlock()
	ls.finish(leaving)
}

// close closes every link, as a shutdown.
func (ls *links) close(ctx context.Context) error {
	ls.mu.Lock()
	ls.closed = true
	if ls.alarm != nil {
		ls.alarm.Stop()
		ls.alarm = nil
	}
	var all []*link
	for _, ns := range ls.spaces {
		all = append(all, ns.all()...)
	}
	leaving := ls.leave(all, tool.StopShutdown)
	ls.mu.Unlock()
	ls.finish(leaving)
	idle := make(chan struct{})
	go func() {
		ls.closing.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connections were not closed in time: %w", ctx.Err())
	}
}
