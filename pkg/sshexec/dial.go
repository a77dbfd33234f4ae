package sshexec

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/tool"
)

// patience is how long to wait before each further try after a peer that hung
// up: many connections at once make sshd drop some of them (MaxStartups), until
// others have logged in. A quarter more or less of it spreads them.
var patience = []time.Duration{150 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}

// connect makes one logged-in connection to the host of key: through the pooled
// connection to its last hop when it has one, else straight to the judged
// address. The whole of it stands under ctx. A peer that hung up before the
// login is asked again; nothing can have run.
func (e *Executor) connect(ctx context.Context, key poolKey, target tool.Target) (*conn, error) {
	c, err := e.attempt(ctx, key, target)
	for _, wait := range patience {
		var f *tool.Failure
		if !errors.As(err, &f) || f.Code != tool.FailDropped {
			break
		}
		select {
		case <-time.After(wait*3/4 + rand.N(wait/2)):
			c, err = e.attempt(ctx, key, target)
		case <-ctx.Done():
			return nil, err
		}
	}
	return c, err
}

// reasonOf is a failure as callers may be told it, without its cause.
func reasonOf(err error) string {
	var f *tool.Failure
	switch {
	case err == nil:
		return ""
	case errors.As(err, &f):
		return f.Message
	}
	return err.Error()
}

// attempt is one try of connect, on the account of the breaker.
func (e *Executor) attempt(ctx context.Context, key poolKey, target tool.Target) (*conn, error) {
	pass, err := e.gates.enter(ctx, key.address(), key.login(), place(target))
	if err != nil {
		return nil, e.connectFailure(ctx, err, target, "waiting for other connections to it")
	}
	c, v, err := e.handshake(ctx, key, target)
	pass.leave(v, reasonOf(err))
	return c, err
}

// handshake dials, exchanges keys and logs in, and says what the breaker
// should make of it.
func (e *Executor) handshake(ctx context.Context, key poolKey, target tool.Target) (*conn, verdict, error) {
	config, err := e.config(ctx, target)
	if err != nil {
		return nil, verdictNone, err
	}
	var shown ssh.PublicKey
	verify := config.HostKeyCallback
	config.HostKeyCallback = func(host string, from net.Addr, key ssh.PublicKey) error {
		shown = key
		return verify(host, from, key)
	}
	w, err := e.reach(ctx, key, target)
	if err != nil {
		return nil, verdictNone, e.connectFailure(ctx, err, target, "connecting")
	}
	// A tunnel has no deadlines, so time ends a handshake by closing.
	stop := context.AfterFunc(ctx, func() { w.Close() })
	client, chans, reqs, err := ssh.NewClientConn(w, net.JoinHostPort(target.Hostname, fmt.Sprint(port(target))), config)
	if !stop() {
		if err == nil {
			client.Close()
		}
		w.release()
		return nil, verdictRejected, e.connectFailure(ctx, ctx.Err(), target, "waiting for its SSH handshake and login")
	}
	if err != nil {
		w.release()
		f := classifyHandshake(err, target)
		return nil, verdictOf(f), f
	}
	c := e.newConn(target, w, client, chans, reqs)
	c.hostKey = shown
	return c, verdictOK, nil
}

// config is how a handshake with target is held.
func (e *Executor) config(ctx context.Context, target tool.Target) (*ssh.ClientConfig, error) {
	login, err := e.o.Logins(ctx, target)
	if err != nil {
		return nil, loginFailure(target, err)
	}
	return e.o.Trust.clientConfig(target, login)
}

// verdictOf maps a failed handshake to the account that sshd keeps of it.
func verdictOf(f *tool.Failure) verdict {
	switch f.Code {
	case tool.FailAuth:
		return verdictRefused
	case tool.FailDropped:
		return verdictHungUp
	}
	return verdictRejected
}

// reach opens the byte stream to a target.
func (e *Executor) reach(ctx context.Context, key poolKey, target tool.Target) (*wire, error) {
	if !target.Address.IsValid() || target.Address.Zone() != "" {
		return nil, &tool.Failure{
			Code:    tool.FailUnresolved,
			Message: fmt.Sprintf("%s has no address to dial, although policy let the call pass: the name %s was not resolved", target.Alias, target.Hostname),
			Remedy:  "use a name that resolves, or the address in full, as in 127.0.0.1; a policy refuses this where it asks for input.network.address",
		}
	}
	if len(target.Via) > 0 {
		return e.reachThrough(ctx, key, target)
	}
	to := addrPort(target)
	d := net.Dialer{Control: only(to), KeepAlive: -1} // keepalive is SSH's
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	setUserTimeout(tcp, e.o.Keepalive+e.o.KeepaliveReply)
	w := &wire{Conn: tcp, clock: e.clock, tcp: tcp}
	w.hurry()
	quickAck(tcp)
	return w, nil
}

// only refuses a socket for any other peer than the judged one. The dialler is
// given a literal address; this holds even if that should change.
func only(want netip.AddrPort) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		got, err := netip.ParseAddrPort(address)
		if err != nil || netip.AddrPortFrom(got.Addr().Unmap(), got.Port()) != want {
			return fmt.Errorf("address %s is not the judged %s", address, want)
		}
		return nil
	}
}

// reachThrough opens a tunnel to target over the connection to its last hop.
// The hop is given the literal judged address: it resolves nothing.
func (e *Executor) reachThrough(ctx context.Context, key poolKey, target tool.Target) (*wire, error) {
	hop := target.Via[len(target.Via)-1]
	hop.Via = target.Via[:len(target.Via)-1]
	g := e.pool.acquire(ctx, keyOf(key.subject, hop), hop, wantTunnel)
	if g.err != nil {
		return nil, g.err
	}
	via := g.conn
	tunnel, err := openTunnel(ctx, via, addrPort(target))
	if err != nil {
		e.pool.releaseTunnel(via)
		return nil, tunnelFailure(err, target, hop)
	}
	w := &wire{Conn: tunnel, clock: e.clock, via: via}
	w.hurry()
	return w, nil
}

// wire is the byte stream below an SSH connection. It knows when the peer was
// last heard, and closes itself when it cannot be written to.
type wire struct {
	net.Conn
	clock     func() time.Duration
	heard     atomic.Int64 // on clock
	tcp       *net.TCPConn // nil in a tunnel
	via       *conn        // that the tunnel is in
	opening   atomic.Int32 // channels being opened on the connection above
	ended     atomic.Bool  // nothing more is read; no further channel is opened
	mute      atomic.Bool  // it has ended because nothing was heard any more
	hurries   atomic.Int32 // new connections, this or in tunnels, that shall not be delayed
	hurryOver sync.Once
}

// openSettle is how long the end of a wire is held back while a channel is
// being opened on it. x/crypto/ssh tells the channels that it knows of the end,
// and a channel that is made a moment later would never hear of it.
const openSettle = 50 * time.Millisecond

// hurry has every byte acknowledged at once, on the way to a new connection and
// on the hops before it: sshd's Nagle against our delayed acknowledgement costs
// 40 ms on the first command of a connection.
func (w *wire) hurry() { w.addHurries(1) }

// relax ends the hurry: the first command or tunnel was accepted, or there will
// be none.
func (w *wire) relax() { w.hurryOver.Do(func() { w.addHurries(-1) }) }

func (w *wire) addHurries(n int32) {
	w.hurries.Add(n)
	for via := w.via; via != nil; via = via.wire.via {
		via.wire.hurries.Add(n)
	}
}

// Read notes that the peer was heard.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(int64(w.clock()))
		if w.tcp != nil && w.hurries.Load() > 0 {
			quickAck(w.tcp)
		}
	}
	if err != nil {
		w.note(err)
		w.ended.Store(true)
		if w.opening.Load() > 0 {
			time.Sleep(openSettle)
		}
	}
	return n, err
}

// Write closes the wire on an error, because x/crypto/ssh remembers such an
// error and goes on reading.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if err != nil {
		w.note(err)
		w.Conn.Close()
	}
	return n, err
}

// note tells an end that the peer, or its network, has announced from one that the
// kernel has concluded.
func (w *wire) note(err error) {
	for _, silence := range []error{syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, silence) {
			w.mute.Store(true)
		}
	}
}

// isMute reports whether the wire, or one that it goes through, has ended because
// nothing was heard any more. Then a new one would not be answered either.
func (w *wire) isMute() bool {
	return w.mute.Load() || w.via != nil && w.via.wire.isMute()
}

// silent is for how long nothing has been heard.
func (w *wire) silent() time.Duration {
	return w.clock() - time.Duration(w.heard.Load())
}

// release gives back what the wire stands on, once it is closed for good.
func (w *wire) release() {
	w.relax()
	if w.via != nil {
		w.via.e.pool.releaseTunnel(w.via)
	}
}

// openTunnel asks the far end of via to connect to an address. When ctx ends
// first, the tunnel is closed as soon as it is there.
func openTunnel(ctx context.Context, via *conn, to netip.AddrPort) (net.Conn, error) {
	payload := ssh.Marshal(&struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}{to.Addr().String(), uint32(to.Port()), "127.0.0.1", 0})
	done := make(chan opened, 1)
	via.spawn(func() {
		o := via.openChannel("direct-tcpip", payload)
		done <- o
		if o.err == nil {
			ssh.DiscardRequests(o.reqs)
		}
	})
	select {
	case o := <-done:
		if o.err != nil {
			return nil, o.err
		}
		via.wire.relax()
		return newTunnel(via, o.ch, to), nil
	case <-ctx.Done():
		via.spawn(func() {
			if o := <-done; o.err == nil {
				o.ch.Close()
			}
		})
		return nil, ctx.Err()
	}
}

func port(t tool.Target) uint16 {
	if t.Port == 0 {
		return 22
	}
	return uint16(t.Port)
}

func addrPort(t tool.Target) netip.AddrPort {
	return netip.AddrPortFrom(t.Address.Unmap(), port(t))
}
