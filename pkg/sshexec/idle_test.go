package sshexec

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

// Many idle connections cost little memory each, a thousand less than a few; and
// when they are closed nothing of them is left.
func TestIdleConnections(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{}, func(o *Options) {
		if !thorough() {
			o.Keepalive = time.Second // with which sessions are given back
		}
	})
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	conns := long(25, 1000)
	before, routines := memory(), runtime.NumGoroutine()
	var ids []string
	for i := range conns {
		ids = append(ids, fmt.Sprint("connection ", i))
		finished(t, l.Run(t.Context(), job(kept(ids[i], host), line("true"))), 0)
	}
	eventually(t, "all sessions are free", func() bool { return l.Stats().Sessions == 0 })
	if n := l.Stats().Connections; n != conns+1 {
		t.Errorf("%d connections", n)
	}
	each := (int64(memory()) - int64(before)) / int64(conns)
	t.Logf("%d connections: %d bytes each", conns, each)
	// The race detector, with which the sample runs, takes its part.
	if each > int64(long(120<<10, 70<<10)) {
		t.Errorf("%d bytes each", each)
	}
	l.Disconnect(ids)
	eventually(t, "they are closed", func() bool { return l.Stats().Connections == 1 })
	eventually(t, "nothing of them runs", func() bool { return runtime.NumGoroutine() <= routines+2 })
}
