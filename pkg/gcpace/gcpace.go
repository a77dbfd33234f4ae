// Package gcpace sets when garbage is collected, for a process that makes much
// short-lived garbage beside little that lives: a policy decision or a file on its
// way leaves megabytes behind, and at Go's default pace a third of the time goes
// into collecting it.
//
// Garbage may grow to a few times what lives, which is little while little lives,
// but the heap not beyond a bound, as long as what lives leaves room below it.
package gcpace

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// mostPercent and leastPercent are of what lives; see [debug.SetGCPercent].
	mostPercent  = 400
	leastPercent = 50
	// mostHeap is what the heap may grow to, in bytes, unless so much lives that it
	// takes more with leastPercent.
	mostHeap = 72 << 20
)

// Start sets the pace from now on. GOGC in the environment goes over it.
func Start() {
	if os.Getenv("GOGC") != "" {
		return
	}
	set(mostPercent)
	afterEach(func() { set(percent(alive())) })
}

// percent is the pace for so many bytes that live.
func percent(alive int64) int {
	return int(max(leastPercent, min(mostPercent, (mostHeap-alive)*100/max(1, alive))))
}

func set(percent int) {
	if current := int(read("/gc/gogc:percent")); current != percent {
		debug.SetGCPercent(percent)
	}
}

// alive is what the last collection has left.
func alive() int64 { return int64(read("/gc/heap/live:bytes")) }

func read(metric string) uint64 {
	sample := []metrics.Sample{{Name: metric}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// cycle is garbage that the next collection finds.
type cycle struct{ then func() }

// afterEach has something done after each collection.
func afterEach(then func()) {
	runtime.SetFinalizer(&cycle{then}, func(c *cycle) {
		c.then()
		afterEach(c.then)
	})
}
