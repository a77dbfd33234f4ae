package sshexec

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
)

// A tunnel to a host that takes nothing any more ends when it is closed, for those
// who read and those who write, although the hop never closes its side.
func TestTunnelToADeadHost(t *testing.T) {
	t.Parallel()
	l, _, hop := sshd(t, sshtest.OpenSSHOptions{})
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	g := l.pool.acquire(t.Context(), keyOf("tester", hop), hop, wantTunnel)
	if g.err != nil {
		t.Fatal(g.err)
	}
	defer l.pool.releaseTunnel(g.conn)
	c, err := openTunnel(t.Context(), g.conn, dead.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	var written atomic.Int64
	ended := make(chan error, 2)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	go func() {
		for {
			n, err := c.Write(make([]byte, 64<<10))
			if written.Add(int64(n)); err != nil {
				ended <- err
				return
			}
		}
	}()
	eventually(t, "nothing more goes in", func() bool {
		before := written.Load()
		time.Sleep(500 * time.Millisecond)
		return before > 0 && written.Load() == before
	})
	c.Close()
	for range 2 {
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("somebody waits for ever")
		}
	}
}
