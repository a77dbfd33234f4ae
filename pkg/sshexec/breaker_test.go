package sshexec

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// clock is a time that only tests move.
type fakeClock struct{ t time.Time }

func newFakeClock() *fakeClock {
	return &fakeClock{time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
}

func (c *fakeClock) now() time.Time       { return c.t }
func (c *fakeClock) pass(d time.Duration) { c.t = c.t.Add(d) }

// enter takes a pass without waiting.
func enter(t *testing.T, g *gates, login string) (*pass, error) {
	t.Helper()
	p, _, err := g.try("10.0.0.1:22", login, "web1 (10.0.0.1:22)")
	return p, err
}

// attempt is one whole connection attempt that must be let through.
func attempt(t *testing.T, g *gates, login string, v verdict) {
	t.Helper()
	p, err := enter(t, g, login)
	if p == nil {
		t.Fatalf("%s is not let through: %v", login, err)
	}
	p.leave(v, "it said no")
}

func TestBreakerRefusedLogin(t *testing.T) {
	c := newFakeClock()
	g := newGates(c.now)
	attempt(t, g, "bad", verdictRefused)

	_, err := enter(t, g, "bad")
	var f *tool.Failure
	if !errors.As(err, &f) || f.Code != tool.FailBreaker {
		t.Fatalf("a refused login is tried again: %v", err)
	}
	if !strings.Contains(f.Message, "it said no") || !strings.Contains(f.Remedy, "12:00:20") {
		t.Errorf("cause or time is missing: %q, %q", f.Message, f.Remedy)
	}
	attempt(t, g, "good", verdictOK)
	if s := g.states(); len(s) != 1 || s[0].Login != "bad" {
		t.Errorf("states %+v", s)
	}

	c.pass(coolOff)
	attempt(t, g, "bad", verdictOK)
	attempt(t, g, "bad", verdictOK)
	if s := g.states(); len(s) != 0 {
		t.Errorf("states %+v after a success", s)
	}
}

func TestBreakerForgives(t *testing.T) {
	g := newGates(newFakeClock().now)
	attempt(t, g, "bad", verdictRefused)
	g.forgive()
	attempt(t, g, "bad", verdictOK)
}

func TestBreakerOpensForTheAddress(t *testing.T) {
	for _, tc := range []struct {
		name string
		v    verdict
		n    int
	}{
		{"refused logins", verdictRefused, 2},
		{"rejected host keys", verdictRejected, 10},
		{"a peer that hangs up", verdictHungUp, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newFakeClock()
			g := newGates(c.now)
			for i := range tc.n {
				attempt(t, g, fmt.Sprint("login ", i), tc.v)
			}
			if p, err := enter(t, g, "another"); p != nil || err == nil {
				t.Fatalf("still open to anyone after %d", tc.n)
			}
			c.pass(coolOff)
			attempt(t, g, "another", verdictOK)
		})
	}
}

func TestBreakerLimitsHandshakes(t *testing.T) {
	g := newGates(newFakeClock().now)
	attempt(t, g, "proven", verdictOK)
	var held []*pass
	for {
		p, err := enter(t, g, "proven")
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			break
		}
		held = append(held, p)
	}
	if len(held) != handshakesAtOnce {
		t.Fatalf("%d at once", len(held))
	}
	entered := make(chan error)
	go func() {
		p, err := g.enter(context.Background(), "10.0.0.1:22", "proven", "web1")
		if err == nil {
			p.leave(verdictOK, "")
		}
		entered <- err
	}()
	held[0].leave(verdictOK, "")
	if err := <-entered; err != nil {
		t.Errorf("waiting for a free place: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p, err := enter(t, g, "proven")
	if p == nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := g.enter(ctx, "10.0.0.1:22", "proven", "web1"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for no place: %v", err)
	}
}

// penalties is sshd's account of one source address, with the defaults of
// OpenSSH 9.8.
type penalties struct {
	until time.Time
}

func (p *penalties) charge(now time.Time, d time.Duration) {
	if p.until.Before(now) {
		p.until = now
	}
	p.until = p.until.Add(d)
}

func (p *penalties) active(now time.Time) bool { return p.until.Sub(now) >= 15*time.Second }

// Whatever callers try, with whatever overlaps, sshd's mark is never reached.
func TestBreakerNeverTripsSSHD(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		c := newFakeClock()
		g := newGates(c.now)
		var sshd penalties
		var flying []*pass
		tried := 0
		for range 400 {
			if r.IntN(3) > 0 {
				if p, _ := enter(t, g, fmt.Sprint("login ", r.IntN(20))); p != nil {
					flying = append(flying, p)
					tried++
				}
			}
			if len(flying) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(flying))
				p := flying[i]
				flying = append(flying[:i], flying[i+1:]...)
				v := []verdict{verdictNone, verdictOK, verdictRefused, verdictRejected, verdictHungUp}[r.IntN(5)]
				if p.login.proven && v == verdictRefused {
					v = verdictOK // a login that works goes on working
				}
				switch v {
				case verdictRefused:
					sshd.charge(c.t, loginPenalty*time.Second)
				case verdictRejected, verdictHungUp:
					sshd.charge(c.t, abortPenalty*time.Second)
				}
				p.leave(v, "")
			}
			if sshd.active(c.t) {
				t.Fatalf("sshd locks the gateway out after %d attempts", tried)
			}
			c.pass(time.Duration(r.IntN(1500)) * time.Millisecond)
		}
		if tried < 10 {
			t.Fatalf("only %d attempts were let through", tried)
		}
	}
}

func TestBreakerForgetsAddresses(t *testing.T) {
	c := newFakeClock()
	g := newGates(c.now)
	for i := range 5 * sweepFrom {
		p, _, err := g.try(fmt.Sprint("host ", i), "login", "host")
		if p == nil {
			t.Fatal(err)
		}
		p.leave(verdictRejected, "")
		c.pass(time.Second)
	}
	if n := len(g.at); n > 2*sweepFrom {
		t.Errorf("%d addresses are remembered", n)
	}
}
