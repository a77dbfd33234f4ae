package sshtest

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"time"
)

// TB is what this package needs of a test; [testing.TB] has it.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
}

// Proxy forwards TCP connections to a server. It can stop forwarding without a
// word, as a network does, cut its connections, and delay what it forwards.
type Proxy struct {
	to       netip.AddrPort
	listener net.Listener
	delay    time.Duration
	tasks    sync.WaitGroup

	mu     sync.Mutex
	thaw   chan struct{} // closed unless frozen
	conns  map[net.Conn]struct{}
	closed bool
	count  int
	budget int // bytes to the server before the next cut; negative for none
	rate   int // bytes a second that are forwarded each way; 0 for any
}

// StartProxy starts a proxy on loopback that forwards to a server, each way
// after delay.
func StartProxy(tb TB, to netip.AddrPort, delay time.Duration) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	p := &Proxy{to: to, listener: l, delay: delay, conns: map[net.Conn]struct{}{}, thaw: make(chan struct{}), budget: -1}
	close(p.thaw)
	p.tasks.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Addr is where it listens.
func (p *Proxy) Addr() netip.AddrPort { return p.listener.Addr().(*net.TCPAddr).AddrPort() }

// Accepted is how many connections it has had.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Freeze forwards nothing more until Thaw. Connections stay open and new ones
// are accepted, silently.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.thaw = make(chan struct{})
}

// Thaw forwards again, what was held back first.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.melt()
}

func (p *Proxy) melt() {
	select {
	case <-p.thaw:
	default:
		close(p.thaw)
	}
}

// Cut ends every connection at once; new ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// CutAfter has the proxy forward n more bytes to the server, then cut every
// connection, once.
func (p *Proxy) CutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = n
}

// Throttle has the proxy forward so many bytes a second each way; 0 for as many
// as come.
func (p *Proxy) Throttle(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = bytes
}

// spend takes what may be forwarded of data to the server, and reports whether
// the cut is due behind it.
func (p *Proxy) spend(data []byte) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.budget < 0 || p.budget > len(data) {
		if p.budget >= 0 {
			p.budget -= len(data)
		}
		return data, false
	}
	data = data[:p.budget]
	p.budget = -1
	return data, true
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.melt()
	p.mu.Unlock()
	p.Cut()
	p.tasks.Wait()
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.tasks.Go(func() { p.forward(in) })
	}
}

func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) forward(in net.Conn) {
	defer p.drop(in)
	if !p.hold(in) {
		return
	}
	p.mu.Lock()
	p.count++
	p.mu.Unlock()
	out, err := net.Dial("tcp", p.to.String())
	if err != nil {
		return
	}
	defer p.drop(out)
	if !p.hold(out) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in, p.spend) })
	both.Go(func() { p.copy(in, out, nil) })
	both.Wait()
}

// mostChunks are more than a delay keeps on the way, however small they are.
const mostChunks = 1 << 16

// chunk is what was read at a time, due when the delay is over.
type chunk struct {
	data []byte
	due  time.Time
}

// copy forwards one direction and closes both ends when it ends.
func (p *Proxy) copy(to, from net.Conn, spend func([]byte) ([]byte, bool)) {
	defer to.Close()
	defer from.Close()
	chunks := make(chan chunk, mostChunks)
	p.tasks.Go(func() { p.read(from, chunks) })
	for c := range chunks {
		cut := false
		if spend != nil {
			c.data, cut = spend(c.data)
		}
		if !p.write(to, c) || cut {
			break
		}
	}
	to.Close()
	from.Close()
	for range chunks { // let the reader end
	}
}

func (p *Proxy) read(from net.Conn, chunks chan<- chunk) {
	defer close(chunks)
	buf := make([]byte, 256<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			chunks <- chunk{bytes.Clone(buf[:n]), time.Now().Add(p.delay)}
		}
		if err != nil {
			return
		}
	}
}

// write sends what is due, unless the proxy is frozen.
func (p *Proxy) write(to net.Conn, c chunk) bool {
	time.Sleep(time.Until(c.due))
	p.mu.Lock()
	thaw, rate := p.thaw, p.rate
	p.mu.Unlock()
	<-thaw
	if rate > 0 {
		time.Sleep(time.Duration(len(c.data)) * time.Second / time.Duration(rate))
	}
	_, err := to.Write(c.data)
	return err == nil
}
