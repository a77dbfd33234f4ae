package sshexec

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// OpenSSH 9.8 and later charge a source address for connections that go wrong
// (PerSourcePenalties: 5 s for a refused login, 1 s for a connection that ends
// before a login) and lock it out from 15 s on. The gateway is one source
// address for every agent, so the breaker keeps the same account and stays
// below that mark, whatever is still in flight.
const (
	loginPenalty     = 5  // seconds, for a refused login
	abortPenalty     = 1  // seconds, for a handshake that ended before a login
	openPenalty      = 10 // from here on nothing more is tried
	lockoutPenalty   = 15 // sshd's mark
	abortsInRow      = 5  // the peer hangs up on everyone: it may be penalising us already
	coolOff          = 20 * time.Second
	handshakesAtOnce = 4 // MaxStartups begins to drop connections at 10
	sweepFrom        = 1024
)

// verdict is what a connection attempt came to, for the breaker's account.
type verdict int

const (
	verdictNone     verdict = iota // it never got as far as a handshake
	verdictOK                      // logged in
	verdictRefused                 // login refused
	verdictRejected                // given up by us: host key, algorithms, time
	verdictHungUp                  // given up by the peer
)

// gates let connection attempts through to addresses, a few at a time and none
// while the breaker is open. The zero value is not usable; see newGates.
type gates struct {
	now func() time.Time

	mu      sync.Mutex // guards everything below
	at      map[string]*gate
	sweepAt int // size of at from which on what is at rest is dropped
}

// gate is the state of one address.
type gate struct {
	inFlight int
	unproven int           // of those, with a login that has not worked here yet
	changed  chan struct{} // closed and replaced whenever an attempt ends

	penalty float64 // seconds, as of charged; falls by one a second
	charged time.Time
	aborts  int // in a row, by the peer
	until   time.Time
	reason  string
	logins  map[string]*loginState
}

// loginState is what is known of one login at one address.
type loginState struct {
	proven bool
	until  time.Time
	reason string
}

func newGates(now func() time.Time) *gates {
	return &gates{now: now, at: map[string]*gate{}, sweepAt: sweepFrom}
}

// pass is the right to one connection attempt. Its holder calls leave.
type pass struct {
	gates *gates
	gate  *gate
	login *loginState
	paid  bool // counted as unproven
}

// enter waits for a pass to address with login. It refuses while the breaker
// of either is open; place names the host in that refusal.
func (g *gates) enter(ctx context.Context, address, login, place string) (*pass, error) {
	for {
		p, wait, err := g.try(address, login, place)
		if p != nil || err != nil {
			return p, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try gives a pass, a refusal, or what to wait for.
func (g *gates) try(address, login, place string) (*pass, <-chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.gate(address)
	l := a.logins[login]
	if l == nil {
		l = &loginState{}
		a.logins[login] = l
	}
	now := g.now()
	if now.Before(l.until) {
		return nil, nil, coolingOff(place, l.reason, l.until, now)
	}
	if now.Before(a.until) {
		return nil, nil, coolingOff(place, a.reason, a.until, now)
	}
	if !a.admits(l, now) {
		return nil, a.changed, nil
	}
	a.inFlight++
	if !l.proven {
		a.unproven++
	}
	return &pass{gates: g, gate: a, login: l, paid: !l.proven}, nil, nil
}

func (g *gates) gate(address string) *gate {
	a := g.at[address]
	if a == nil {
		if len(g.at) >= g.sweepAt {
			g.sweep()
			g.sweepAt = max(sweepFrom, 2*len(g.at))
		}
		a = &gate{changed: make(chan struct{}), logins: map[string]*loginState{}}
		g.at[address] = a
	}
	return a
}

// admits reports whether one more attempt may start now. A login that has not
// worked yet may be refused, and so may every such login in flight; even then
// the account has to stay below sshd's mark.
func (a *gate) admits(l *loginState, now time.Time) bool {
	if a.inFlight >= handshakesAtOnce {
		return false
	}
	return l.proven || a.penaltyAt(now)+loginPenalty*float64(a.unproven+1) < lockoutPenalty
}

func (a *gate) penaltyAt(now time.Time) float64 {
	return max(0, a.penalty-now.Sub(a.charged).Seconds())
}

// leave gives the pass back with what came of it; reason says why, for those
// who are refused because of it.
func (p *pass) leave(v verdict, reason string) {
	g, a := p.gates, p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	a.inFlight--
	if p.paid {
		a.unproven--
	}
	now := g.now()
	switch v {
	case verdictNone:
	case verdictOK:
		a.aborts = 0
		*p.login = loginState{proven: true}
	case verdictRefused:
		a.charge(loginPenalty, now, reason)
		*p.login = loginState{until: now.Add(coolOff), reason: reason}
	case verdictRejected:
		a.charge(abortPenalty, now, reason)
	case verdictHungUp:
		a.aborts++
		a.charge(abortPenalty, now, reason)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// charge adds to the account and opens the breaker when it is full.
func (a *gate) charge(seconds float64, now time.Time, reason string) {
	a.penalty = a.penaltyAt(now) + seconds
	a.charged = now
	if a.penalty >= openPenalty || a.aborts >= abortsInRow {
		a.until, a.reason, a.aborts = now.Add(coolOff), reason, 0
	}
}

// forgive forgets refused logins, because credentials may be other ones now.
// What the hosts have charged stays on the account.
func (g *gates) forgive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.at {
		for _, l := range a.logins {
			*l = loginState{}
		}
	}
}

// sweep drops addresses that nothing is known against, so that the table does
// not grow with every address ever dialled. It runs with mu held.
func (g *gates) sweep() {
	now := g.now()
	maps.DeleteFunc(g.at, func(_ string, a *gate) bool {
		return a.inFlight == 0 && a.penaltyAt(now) == 0 && !now.Before(a.until) && !a.anyLoginOpen(now)
	})
}

func (a *gate) anyLoginOpen(now time.Time) bool {
	for _, l := range a.logins {
		if now.Before(l.until) {
			return true
		}
	}
	return false
}

// states lists what is not at rest, sorted.
func (g *gates) states() []BreakerState {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	var all []BreakerState
	for address, a := range g.at {
		if now.Before(a.until) {
			all = append(all, BreakerState{Address: address, Until: a.until, Reason: a.reason})
		}
		for login, l := range a.logins {
			if now.Before(l.until) {
				all = append(all, BreakerState{Address: address, Login: login, Until: l.until, Reason: l.reason})
			}
		}
	}
	slices.SortFunc(all, func(x, y BreakerState) int {
		return cmp.Or(cmp.Compare(x.Address, y.Address), cmp.Compare(x.Login, y.Login))
	})
	return all
}

func coolingOff(place, reason string, until, now time.Time) *tool.Failure {
	wait := until.Sub(now).Round(time.Second)
	return &tool.Failure{
		Code:    tool.FailBreaker,
		Message: fmt.Sprintf("%s: no connection is tried for another %s, after: %s", place, wait, strings.TrimPrefix(reason, place+": ")),
		Remedy: fmt.Sprintf("mend that cause, then call again after %s; trying at once would make the host lock the gateway's address out",
			until.UTC().Format(time.RFC3339)),
	}
}
