package sshexec

import "testing"

// A connection that has ended may be looked at once more after the pool has
// forgotten it.
func TestSpentAfterItsEnd(t *testing.T) {
	e := New(Options{})
	c := &conn{e: e, host: &host{key: poolKey{kept: "a"}}}
	c.lastUse = e.clock()
	if e.pool.spent(c) {
		t.Error("it is closed although it was just used")
	}
	c.lost = 1
	if !e.pool.spent(c) {
		t.Error("it stays although it is lost")
	}
}
