package sshexec

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// brittle is a connection that is cut when so many bytes have gone either way, be
// it in the middle of a packet.
type brittle struct {
	net.Conn
	left  atomic.Int64
	reset bool // the other side is told so; otherwise it sees an end
	cut   func()
	once  sync.Once
}

// allow says how many of n bytes may still go.
func (b *brittle) allow(n int) int {
	left := b.left.Add(-int64(n))
	if left >= 0 {
		return n
	}
	return max(0, n+int(left))
}

func (b *brittle) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if allowed := b.allow(n); allowed < n {
		b.end()
		return allowed, net.ErrClosed
	}
	return n, err
}

func (b *brittle) Write(p []byte) (int, error) {
	allowed := b.allow(len(p))
	n, err := b.Conn.Write(p[:allowed])
	if err == nil && allowed < len(p) {
		b.end()
		err = net.ErrClosed
	}
	return n, err
}

func (b *brittle) end() {
	b.once.Do(func() {
		if tcp, ok := b.Conn.(*net.TCPConn); ok && b.reset {
			_ = tcp.SetLinger(0)
		}
		b.Conn.Close()
		b.cut()
	})
}

// executions is a host that counts what it runs, and whose every connection is cut
// sooner or later.
type executions struct {
	mu   sync.Mutex
	ran  map[string]int
	cuts atomic.Int64
}

var marked = regexp.MustCompile(`mark-[0-9]+-`)

func (e *executions) run(command string, ch ssh.Channel) bool {
	e.mu.Lock()
	e.ran[marked.FindString(command)]++
	e.mu.Unlock()
	fmt.Fprintln(ch, "done")
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&struct{ Status uint32 }{}))
	return true
}

// connection bears a handshake, which takes about 4,000 bytes, and then some
// commands; one in ten not even that.
func (e *executions) connection(c net.Conn) net.Conn {
	b := &brittle{Conn: c, reset: rand.IntN(2) == 0, cut: func() { e.cuts.Add(1) }}
	bears := 4000 + rand.Int64N(4000)
	if rand.IntN(10) == 0 {
		bears = rand.Int64N(4000)
	}
	b.left.Store(bears)
	return b
}

// The connections of many callers are cut at any byte, again and again, 10,000
// times in all: no command is executed twice, and each is reported as what became
// of it.
func TestCuts(t *testing.T) {
	t.Parallel()
	e := &executions{ran: map[string]int{}}
	l, _, host := faulty(t, sshtest.Faults{Conn: e.connection, Exec: e.run}, clock(1_000_000))
	cuts := int64(long(1000, 10_000))
	var mu sync.Mutex
	var reports []tool.Report
	var callers sync.WaitGroup
	for caller := range 64 {
		callers.Go(func() {
			for e.cuts.Load() < cuts {
				mu.Lock()
				i := len(reports)
				reports = append(reports, tool.Report{})
				mu.Unlock()
				j := job(host, line(fmt.Sprintf("mark-%d-", i)))
				j.Subject = fmt.Sprint("subject ", caller%32) // two on each connection
				r := l.Run(t.Context(), j)
				mu.Lock()
				reports[i] = r
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	agree(t, maps.Clone(e.ran), reports)
	t.Logf("%d cuts, %d commands", e.cuts.Load(), len(reports))
}
