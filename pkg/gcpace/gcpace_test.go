package gcpace

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	for alive, want := range map[int64]int{
		0: mostPercent, 1 << 20: mostPercent, 14 << 20: mostPercent, 24 << 20: 200, 36 << 20: 100, 60 << 20: leastPercent, 1 << 30: leastPercent,
	} {
		if got := percent(alive); got != want {
			t.Errorf("%d bytes alive: %d %%, want %d", alive, got, want)
		}
	}
}

// What lives sets the pace, as it grows and as it shrinks.
func TestStart(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	Start()
	if got := read("/gc/gogc:percent"); got != mostPercent {
		t.Errorf("%d %% at the start", got)
	}
	held := make([]byte, 256<<20)
	paced(t, func(percent int) bool { return percent < mostPercent/2 })
	runtime.KeepAlive(held)
	held = nil
	paced(t, func(percent int) bool { return percent == mostPercent })
}

func paced(t *testing.T, as func(percent int) bool) {
	t.Helper()
	for range 1000 {
		runtime.GC()
		if as(int(read("/gc/gogc:percent"))) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the pace stays at %d %%", read("/gc/gogc:percent"))
}
