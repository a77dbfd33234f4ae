package sshexec

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

var manyRuns = flag.Int("runs", 2000, "commands in TestManyRuns")

// storm runs n jobs, so many at a time, and fails the test for each that does
// not finish.
func storm(t testing.TB, l *lab, n, atOnce int, j func(i int) tool.Job) {
	t.Helper()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if r := l.Run(context.Background(), j(i)); r.Outcome != tool.Finished || r.Err != nil {
					t.Errorf("run %d: %s", i, describe(r))
				}
			}
		})
	}
	workers.Wait()
}

// sshd counts a session until some time after its end, so a client that fills
// MaxSessions exactly is refused now and then, unless it waits for the barrier.
func TestManyRuns(t *testing.T) {
	for _, tc := range []struct {
		name  string
		delay time.Duration
		runs  int
		files int // that one connection has open in this process
	}{
		{"near", 0, *manyRuns, 1},
		{"far, where sessions are opened ahead sooner", spareTrip, *manyRuns / 5, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{MaxSessions: 10})
			at := s.Addr
			if tc.delay > 0 {
				at = sshtest.StartProxy(t, s.Addr, tc.delay).Addr()
			}
			l := newLab(t, s.Key, []string{known(at, s)}, func(o *Options) { o.ConnsPerHost = 1; o.SessionsPerConn = 9 })
			host := target(login(t), at)
			fds := openFiles(t)
			storm(t, l, tc.runs, 16, func(i int) tool.Job {
				return job(host, line(fmt.Sprintf("test %d -gt 0", i)))
			})
			if n := strings.Count(s.Log(), "no more sessions"); n > 0 {
				t.Errorf("%d sessions were refused", n)
			}
			if s := l.Stats(); s.Connections != 1 {
				t.Errorf("%d connections", s.Connections)
			}
			eventually(t, "all sessions are free", func() bool { return l.Stats().Sessions == 0 })
			if now := openFiles(t); now > fds+tc.files {
				t.Errorf("%d files were open before, %d after", fds, now)
			}
		})
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestFirstCallsShareADial(t *testing.T) {
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)})
	host := target(login(t), p.Addr())
	storm(t, l, 8, 8, func(int) tool.Job { return job(host, line("true")) })
	if n := p.Accepted(); n != 1 {
		t.Errorf("%d connections for 8 first calls at once", n)
	}
}

func TestConnectionsGrowOnDemand(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{}, func(o *Options) { o.SessionsPerConn = 2; o.ConnsPerHost = 3 })
	storm(t, l, 40, 12, func(int) tool.Job { return job(host, line("sleep 0.05")) })
	if s := l.Stats(); s.Connections != 3 {
		t.Errorf("%d connections", s.Connections)
	}
}

// Another subject, other credentials or another name of the host each have
// connections of their own.
func TestWhoSharesConnections(t *testing.T) {
	l, s, host := sshd(t, sshtest.OpenSSHOptions{})
	l.login("another", s.Key)
	own := job(host, line("echo $SSH_CONNECTION"))
	subject, credentials := own, own
	subject.Subject, credentials.Target.Credentials = "another", "another"
	seen := map[string]int{}
	for _, j := range []tool.Job{own, own, subject, subject, credentials, own} {
		seen[string(finished(t, l.Run(t.Context(), j), 0).Stdout.Kept)]++
	}
	if len(seen) != 3 || l.Stats().Connections != 3 {
		t.Errorf("connections used: %v", seen)
	}
}

func TestLearnsTheSessionLimit(t *testing.T) {
	t.Parallel()
	for _, allowed := range []int{1, 2, 5} {
		t.Run(fmt.Sprint("MaxSessions ", allowed), func(t *testing.T) {
			l, _, host := sshd(t, sshtest.OpenSSHOptions{MaxSessions: allowed})
			storm(t, l, 60, 16, func(int) tool.Job { return job(host, line("true")) })
		})
	}
}

func TestNoSessionsAtAll(t *testing.T) {
	l, _, host := faulty(t, sshtest.Faults{MaxSessions: -1})
	failed(t, l.Run(t.Context(), job(host, line("true"))), tool.NotStarted, tool.FailSessions)
}

func TestWaitsForASessionUntilTheLimit(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{}, func(o *Options) { o.SessionsPerConn = 1; o.ConnsPerHost = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	odd := oddTime(t)
	go func() { defer close(done); l.Run(ctx, job(host, line("sleep "+odd))) }()
	eventually(t, "the first runs", func() bool { return len(processes(t, odd)) > 0 })
	j := job(host, line("true"))
	j.Limits.Seconds = 1
	r := l.Run(t.Context(), j)
	failed(t, r, tool.NotStarted, tool.FailSessions)
	if r.Stop != tool.StopTimeout || !r.Stopped {
		t.Errorf("got %s", describe(r))
	}
	cancel()
	<-done
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{}, func(o *Options) { o.IdleClose = 50 * time.Millisecond; o.Keepalive = 20 * time.Millisecond })
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	eventually(t, "the connection is closed", func() bool { return l.Stats().Connections == 0 })
	if n := len(l.pool.hosts); n != 0 {
		t.Errorf("%d hosts are remembered", n)
	}
}

func TestRetire(t *testing.T) {
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)})
	host := target(login(t), p.Addr())
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	l.Retire()
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	if n := p.Accepted(); n != 2 {
		t.Errorf("%d connections", n)
	}
	eventually(t, "the old one is closed", func() bool { return l.Stats().Connections == 1 })
}

// A connection that was being made when the configuration changed may have
// logged in with what no longer holds.
func TestRetireWhileDialling(t *testing.T) {
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)})
	p.Freeze()
	done := make(chan tool.Report, 1)
	host := target(login(t), p.Addr())
	go func() { done <- l.Run(t.Context(), job(host, line("true"))) }()
	eventually(t, "the connection is being made", func() bool { return p.Accepted() == 1 })
	l.Retire()
	p.Thaw()
	finished(t, <-done, 0)
	if n := p.Accepted(); n != 2 {
		t.Errorf("%d connections", n)
	}
	eventually(t, "the first is closed", func() bool { return l.Stats().Connections == 1 })
}

// A connection that ended while it was idle is replaced without a word.
func TestIdleConnectionThatEnded(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)})
	host := target(login(t), p.Addr())
	for range 20 {
		finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
		p.Cut()
		eventually(t, "its end is noticed", func() bool { return l.Stats().Connections == 0 })
	}
}

// A connection whose network is gone is noticed, before a command is sent and
// while one runs.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	quick := func(o *Options) {
		o.Keepalive, o.KeepaliveReply, o.ConnectTimeout = 200*time.Millisecond, 500*time.Millisecond, time.Second
	}
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	for _, tc := range []struct {
		name    string
		spare   bool
		outcome tool.Outcome
		code    tool.FailureCode
	}{
		{"idle", false, tool.NotStarted, tool.FailConnectTimeout},
		// What is sent on it at once may have arrived before the network went.
		{"idle, with a session opened ahead", true, tool.Unknown, tool.FailDropped},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := sshtest.StartProxy(t, s.Addr, 0)
			l := newLab(t, s.Key, []string{known(p.Addr(), s)}, quick)
			host := target(login(t), p.Addr())
			finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
			eventually(t, "a session is open, or none is", func() bool {
				return onlyConn(l, func(c *conn) bool {
					c.noSpare = !tc.spare
					c.poke()
					return c.coming == nil && (c.spare != nil) == tc.spare
				})
			})
			p.Freeze()
			failed(t, l.Run(t.Context(), job(host, line("true"))), tc.outcome, tc.code)
			p.Thaw()
			eventually(t, "it works again", func() bool {
				return l.Run(t.Context(), job(host, line("true"))).Outcome == tool.Finished
			})
		})
	}
	t.Run("running", func(t *testing.T) {
		p := sshtest.StartProxy(t, s.Addr, 0)
		l := newLab(t, s.Key, []string{known(p.Addr(), s)}, quick)
		odd := oddTime(t)
		go func() {
			eventually(t, "it runs", func() bool { return len(processes(t, odd)) > 0 })
			p.Freeze()
		}()
		r := l.Run(t.Context(), job(target(login(t), p.Addr()), line("sleep "+odd)))
		failed(t, r, tool.Unknown, tool.FailDropped)
		killAll(t, odd)
	})
}

// A slow link with much output on it is not dead.
func TestSlowLinkIsNotDead(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 150*time.Millisecond)
	l := newLab(t, s.Key, []string{known(p.Addr(), s)}, func(o *Options) {
		o.Keepalive, o.KeepaliveReply = 50*time.Millisecond, 600*time.Millisecond
	})
	r := l.Run(t.Context(), job(target(login(t), p.Addr()), line("for i in 1 2 3 4 5 6 7 8; do head -c 400000 /dev/zero; sleep 0.1; done")))
	finished(t, r, 0)
}

// An sshd that has too many connections before their login drops others; it is
// asked again until it has fewer.
func TestDroppedConnectionsAreTriedAgain(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	l, _, host := faulty(t, sshtest.Faults{Conn: func(c net.Conn) net.Conn {
		if conns.Add(1) <= int32(len(patience)) {
			c.Close()
		}
		return c
	}})
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	if n := int(conns.Load()); n != len(patience)+1 {
		t.Errorf("%d connections", n)
	}
}

func TestConnectFailures(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	hangsUp := sshtest.Faults{Conn: func(c net.Conn) net.Conn { c.Close(); return c }}
	l, _, hanging := faulty(t, hangsUp, func(o *Options) { o.ConnectTimeout = time.Second })
	for _, tc := range []struct {
		name string
		host tool.Target
		code tool.FailureCode
	}{
		{"refused", target("tester", addrOf(closed)), tool.FailRefused},
		{"mute", target("tester", addrOf(mute)), tool.FailConnectTimeout},
		{"hangs up", hanging, tool.FailDropped},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := l.Run(t.Context(), job(tc.host, line("true")))
			failed(t, r, tool.NotStarted, tc.code)
			if !strings.Contains(r.Err.Message, "web1 (") {
				t.Errorf("the message does not name the host: %q", r.Err.Message)
			}
		})
	}
	t.Run("the job's limit comes first", func(t *testing.T) {
		l, _, _ := faulty(t, sshtest.Faults{})
		j := job(target("tester", addrOf(mute)), line("true"))
		j.Limits.Seconds = 1
		r := l.Run(t.Context(), j)
		failed(t, r, tool.NotStarted, tool.FailConnectTimeout)
		if r.Stop != tool.StopTimeout || !r.Stopped {
			t.Errorf("got %s", describe(r))
		}
	})
	t.Run("cancelled while connecting", func(t *testing.T) {
		l, _, _ := faulty(t, sshtest.Faults{})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(tool.StopDisconnect) })
		r := l.Run(ctx, job(target("tester", addrOf(mute)), line("true")))
		if r.Outcome != tool.NotStarted || r.Stop != tool.StopDisconnect || !r.Stopped || r.Err != nil {
			t.Errorf("got %s", describe(r))
		}
	})
}

func TestConnectFailureCodes(t *testing.T) {
	e := New(Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	host := target("tester", netip.MustParseAddrPort("10.0.0.1:22"))
	host.Via = []tool.Target{{Alias: "bastion"}}
	for _, tc := range []struct {
		name string
		ctx  context.Context
		err  error
		code tool.FailureCode
	}{
		{"refused", t.Context(), syscall.ECONNREFUSED, tool.FailRefused},
		{"no route", t.Context(), syscall.EHOSTUNREACH, tool.FailUnreachable},
		{"no network", t.Context(), syscall.ENETUNREACH, tool.FailUnreachable},
		{"reset", t.Context(), syscall.ECONNRESET, tool.FailDropped},
		{"timeout", t.Context(), os.ErrDeadlineExceeded, tool.FailConnectTimeout},
		{"context", ended, net.ErrClosed, tool.FailConnectTimeout},
		{"typed", ended, &tool.Failure{Code: tool.FailAuth}, tool.FailAuth},
	} {
		err := e.connectFailure(tc.ctx, &net.OpError{Op: "dial", Err: tc.err}, host, "connecting")
		var f *tool.Failure
		if !errors.As(err, &f) || f.Code != tc.code {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
	for _, tc := range []struct {
		err  error
		code tool.FailureCode
	}{
		{&ssh.OpenChannelError{Reason: ssh.Prohibited, Message: "open failed"}, tool.FailRefused},
		{&ssh.OpenChannelError{Reason: ssh.ConnectionFailed, Message: "Connection refused"}, tool.FailRefused},
		{&ssh.OpenChannelError{Reason: ssh.ConnectionFailed, Message: "Connection timed out"}, tool.FailConnectTimeout},
		{&ssh.OpenChannelError{Reason: ssh.ConnectionFailed, Message: "No route to host"}, tool.FailUnreachable},
		{io.EOF, tool.FailDropped},
	} {
		var f *tool.Failure
		if err := tunnelFailure(tc.err, host, host.Via[0]); !errors.As(err, &f) || f.Code != tc.code || !strings.Contains(f.Message, "bastion") {
			t.Errorf("%v: got %v", tc.err, err)
		}
	}
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

func TestTrustFailures(t *testing.T) {
	l, s, host := sshd(t, sshtest.OpenSSHOptions{})
	_, other, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(s.KnownLine, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.HostKey))), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(other))), 1)
	stranger, _, err := sshtest.NewKeyFile()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("unknown host key", func(t *testing.T) {
		l := newLab(t, s.Key, nil)
		failed(t, l.Run(t.Context(), job(host, line("true"))), tool.NotStarted, tool.FailUnknownHostKey)
	})
	t.Run("changed host key", func(t *testing.T) {
		l := newLab(t, s.Key, []string{changed})
		failed(t, l.Run(t.Context(), job(host, line("true"))), tool.NotStarted, tool.FailChangedHostKey)
	})
	t.Run("credentials", func(t *testing.T) {
		l := newLab(t, nil, []string{s.KnownLine}, func(o *Options) {
			o.Logins = func(context.Context, tool.Target) (Login, error) { return Login{}, os.ErrNotExist }
		})
		failed(t, l.Run(t.Context(), job(host, line("true"))), tool.NotStarted, tool.FailCredentials)
	})
	t.Run("refused login", func(t *testing.T) {
		odd := oddTime(t)
		done := make(chan tool.Report)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- l.Run(ctx, job(host, line("sleep "+odd))) }()
		eventually(t, "another subject's command runs", func() bool { return len(processes(t, odd)) > 0 })

		bad := job(host, line("true"))
		bad.Subject, bad.Target.Credentials = "another", "another"
		l.login("another", stranger)
		failed(t, l.Run(t.Context(), bad), tool.NotStarted, tool.FailAuth)
		failed(t, l.Run(t.Context(), bad), tool.NotStarted, tool.FailBreaker)
		if s := l.Stats(); len(s.Breakers) != 1 || !strings.Contains(s.Breakers[0].Address, host.Address.String()) {
			t.Errorf("breakers %+v", s.Breakers)
		}
		finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
		if n := strings.Count(s.Log(), "Failed publickey") + strings.Count(s.Log(), "Connection closed by authenticating user"); n > 2 {
			t.Errorf("%d failed logins:\n%s", n, s.Log())
		}
		l.login("another", s.Key)
		l.Retire()
		finished(t, l.Run(t.Context(), bad), 0)
		cancel()
		<-done
	})
}

// hops starts two jump hosts and a last host, and an executor that can log in
// to all of them. Each has a key of its own.
func hops(t *testing.T, last sshtest.OpenSSHOptions, change ...func(*Options)) (*lab, []*sshtest.OpenSSH, tool.Target) {
	t.Helper()
	all := []*sshtest.OpenSSH{
		sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{}),
		sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{}),
		sshtest.StartOpenSSH(t, last),
	}
	var known []string
	var chain []tool.Target
	user := login(t)
	for i, s := range all {
		known = append(known, s.KnownLine)
		hop := target(user, s.Addr)
		hop.Alias = fmt.Sprint("hop", i)
		hop.Credentials = hop.Alias
		chain = append(chain, hop)
	}
	l := newLab(t, nil, known, change...)
	for i, s := range all {
		l.login(chain[i].Alias, s.Key)
	}
	end := chain[2]
	end.Via = chain[:2]
	return l, all, end
}

func TestThroughHops(t *testing.T) {
	t.Parallel()
	l, all, host := hops(t, sshtest.OpenSSHOptions{}, func(o *Options) { o.ConnsPerHost = 1 })
	storm(t, l, 40, 8, func(int) tool.Job { return job(host, line("true")) })
	if s := l.Stats(); s.Connections != 3 {
		t.Errorf("%d connections", s.Connections)
	}
	r := l.Run(t.Context(), job(host, line("echo $SSH_CONNECTION")))
	if out := finished(t, r, 0); !strings.Contains(string(out.Stdout.Kept), fmt.Sprint(" ", all[2].Addr.Port(), "\n")) {
		t.Errorf("it ran at %q", out.Stdout.Kept)
	}
	t.Run("the hops are shared", func(t *testing.T) {
		other := host
		other.User, other.Via = sshtest.AddUser(t, false), host.Via
		finished(t, l.Run(t.Context(), job(other, line("true"))), 0)
		if s := l.Stats(); s.Connections != 4 {
			t.Errorf("%d connections", s.Connections)
		}
	})
	t.Run("stop", func(t *testing.T) {
		odd := oddTime(t)
		r := runUntil(t, l, job(host, line("setsid sleep "+odd+"& sleep "+odd)), tool.StopCancelled, func() bool { return len(processes(t, odd)) == 2 })
		if !r.Stopped || len(processes(t, odd)) > 0 {
			t.Errorf("got %s", describe(r))
		}
	})
	t.Run("no common hops, no common connection", func(t *testing.T) {
		direct := host
		direct.Via = nil
		finished(t, l.Run(t.Context(), job(direct, line("true"))), 0)
		if s := l.Stats(); s.Connections != 5 {
			t.Errorf("%d connections", s.Connections)
		}
	})
}

func TestHopsAreIdleToo(t *testing.T) {
	t.Parallel()
	l, _, host := hops(t, sshtest.OpenSSHOptions{}, func(o *Options) { o.IdleClose = 50 * time.Millisecond; o.Keepalive = 20 * time.Millisecond })
	finished(t, l.Run(t.Context(), job(host, line("sleep 0.3"))), 0)
	eventually(t, "all are closed", func() bool { return l.Stats().Connections == 0 })
}

func TestHopFailures(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	l, all, host := hops(t, sshtest.OpenSSHOptions{Config: []string{"AllowTcpForwarding no"}}, func(o *Options) { o.ConnectTimeout = 2 * time.Second })
	finished(t, l.Run(t.Context(), job(host, line("true"))), 0)
	behind := func(l net.Listener) tool.Target {
		h := host
		h.Address, h.Port, h.Alias = addrOf(l).Addr(), int(addrOf(l).Port()), "web1"
		return h
	}
	t.Run("refused", func(t *testing.T) {
		failed(t, l.Run(t.Context(), job(behind(closed), line("true"))), tool.NotStarted, tool.FailRefused)
	})
	t.Run("mute", func(t *testing.T) {
		failed(t, l.Run(t.Context(), job(behind(mute), line("true"))), tool.NotStarted, tool.FailConnectTimeout)
	})
	t.Run("forbidden", func(t *testing.T) {
		h := behind(mute)
		h.Via = append(slices.Clone(host.Via), host)
		h.Via[2].Via = nil
		r := l.Run(t.Context(), job(h, line("true")))
		failed(t, r, tool.NotStarted, tool.FailRefused)
		if !strings.Contains(r.Err.Message, "forbids") {
			t.Errorf("message %q", r.Err.Message)
		}
	})
	t.Run("unknown host key of a hop", func(t *testing.T) {
		l := newLab(t, nil, []string{all[0].KnownLine, all[2].KnownLine})
		for i, s := range all {
			l.login(fmt.Sprint("hop", i), s.Key)
		}
		r := l.Run(t.Context(), job(host, line("true")))
		failed(t, r, tool.NotStarted, tool.FailUnknownHostKey)
		if !strings.Contains(r.Err.Message, "hop1") {
			t.Errorf("the message does not name the hop: %q", r.Err.Message)
		}
	})
}
