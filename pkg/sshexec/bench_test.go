package sshexec

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// bare is x/crypto/ssh as its examples use it, for comparison.
type bare struct {
	addr   string
	config *ssh.ClientConfig
}

func newBare(b *testing.B, s *sshtest.OpenSSH, host tool.Target) bare {
	b.Helper()
	key, err := ssh.ParsePrivateKey(s.Key)
	if err != nil {
		b.Fatal(err)
	}
	return bare{s.Addr.String(), &ssh.ClientConfig{
		User: host.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(s.HostKey),
	}}
}

func (x bare) dial(b *testing.B) *ssh.Client {
	b.Helper()
	c, err := ssh.Dial("tcp", x.addr, x.config)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func bareRun(b *testing.B, c *ssh.Client, line string) {
	b.Helper()
	s, err := c.NewSession()
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Run(line); err != nil {
		b.Fatal(err)
	}
}

// race times contestants by turns and reports the median of each, and how often
// it is the first one's, so that a busy machine is busy for all of them. What one
// leaves behind, such as a session that is being closed, is there for each of the
// others as often.
func race(b *testing.B, names []string, contestants ...func()) {
	b.Helper()
	times := make([][]time.Duration, len(contestants))
	for b.Loop() {
		for _, i := range rand.Perm(len(contestants)) {
			began := time.Now()
			contestants[i]()
			times[i] = append(times[i], time.Since(began))
		}
	}
	median := func(i int) float64 {
		slices.Sort(times[i])
		return float64(times[i][len(times[i])/2].Microseconds())
	}
	for i, name := range names {
		b.ReportMetric(median(i), "µs/"+name)
		if i > 0 {
			b.ReportMetric(median(0)/median(i), "ratio-to-"+name)
		}
	}
}

func mustRun(b *testing.B, l *lab, j tool.Job) {
	b.Helper()
	if r := l.Run(context.Background(), j); r.Outcome != tool.Finished {
		b.Fatal(describe(r))
	}
}

// BenchmarkWarm runs a command on a live connection: through the executor, over
// a bare x/crypto session (the command, and the very line that the executor
// sends), and with OpenSSH and a control master.
func BenchmarkWarm(b *testing.B) {
	l, s, host := sshd(b, sshtest.OpenSSHOptions{})
	c := newBare(b, s, host).dial(b)
	defer c.Close()
	master := controlMaster(b, s, host)
	j := job(host, line("true"))
	mustRun(b, l, j)
	sent := shell.RemoteEnv([]string{taskVariable + "=x"}, "true")
	race(b, []string{"run", "bare", "bare-same-line", "controlmaster"},
		func() { mustRun(b, l, j) }, func() { bareRun(b, c, "true") }, func() { bareRun(b, c, sent) }, master)
}

// BenchmarkWarmFar runs commands on a live connection to a host that is 40 ms away
// and back, one right after the other as well as now and then: through the
// executor, and over a bare x/crypto session.
func BenchmarkWarmFar(b *testing.B) {
	for name, inARow := range map[string]int{"one": 1, "ten in a row": 10} {
		b.Run(name, func(b *testing.B) {
			s := sshtest.StartOpenSSH(b, sshtest.OpenSSHOptions{})
			p := sshtest.StartProxy(b, s.Addr, 20*time.Millisecond)
			l := newLab(b, s.Key, []string{known(p.Addr(), s)})
			host := target(login(b), p.Addr())
			x := newBare(b, s, host)
			x.addr = p.Addr().String()
			c := x.dial(b)
			defer c.Close()
			j := job(host, line("true"))
			mustRun(b, l, j)
			times := func(run func()) func() {
				return func() {
					for range inARow {
						run()
					}
				}
			}
			race(b, []string{"run", "bare"}, times(func() { mustRun(b, l, j) }), times(func() { bareRun(b, c, "true") }))
		})
	}
}

// BenchmarkCold connects, runs a command and disconnects.
func BenchmarkCold(b *testing.B) {
	l, s, host := sshd(b, sshtest.OpenSSHOptions{})
	x := newBare(b, s, host)
	j := job(host, line("true"))
	n := 0
	race(b, []string{"run", "bare"}, func() {
		n++
		j.Subject = fmt.Sprint("subject ", n) // no connection to share
		mustRun(b, l, j)
	}, func() {
		c := x.dial(b)
		defer c.Close()
		bareRun(b, c, "true")
	})
}

// BenchmarkColdThroughHop is BenchmarkCold behind a live connection to a jump
// host.
func BenchmarkColdThroughHop(b *testing.B) {
	l, s, hop := sshd(b, sshtest.OpenSSHOptions{})
	x := newBare(b, s, hop)
	via := x.dial(b)
	defer via.Close()
	host := hop
	host.Alias, host.Via = "web2", []tool.Target{hop}
	j := job(host, line("true"))
	n := 0
	race(b, []string{"run", "bare"}, func() {
		n++
		j.Target.Credentials = fmt.Sprint("login ", n) // a connection of its own, behind the same hop
		l.login(j.Target.Credentials, s.Key)
		mustRun(b, l, j)
	}, func() {
		tunnel, err := via.Dial("tcp", x.addr)
		if err != nil {
			b.Fatal(err)
		}
		conn, chans, reqs, err := ssh.NewClientConn(tunnel, x.addr, x.config)
		if err != nil {
			b.Fatal(err)
		}
		c := ssh.NewClient(conn, chans, reqs)
		defer c.Close()
		bareRun(b, c, "true")
	})
}

// controlMaster starts an OpenSSH control master and gives a function that runs
// a command over it.
func controlMaster(b *testing.B, s *sshtest.OpenSSH, host tool.Target) func() {
	b.Helper()
	program := sshtest.Require(b, "ssh", "openssh-client")
	dir := b.TempDir()
	key, known := filepath.Join(dir, "key"), filepath.Join(dir, "known_hosts")
	for file, text := range map[string][]byte{key: s.Key, known: []byte(s.KnownLine + "\n")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	args := []string{
		"-F", "none", "-i", key, "-o", "UserKnownHostsFile=" + known, "-o", "ControlPath=" + filepath.Join(dir, "m"),
		"-p", fmt.Sprint(s.Addr.Port()), host.User + "@" + s.Addr.Addr().String(),
	}
	run := func(extra ...string) {
		if out, err := exec.Command(program, append(extra, args...)...).CombinedOutput(); err != nil {
			b.Fatalf("ssh: %v: %s", err, out)
		}
	}
	run("-M", "-f", "-N")
	b.Cleanup(func() { run("-O", "exit") })
	line := append(args, "true")
	return func() {
		if out, err := exec.Command(program, line...).CombinedOutput(); err != nil {
			b.Fatalf("ssh: %v: %s", err, out)
		}
	}
}

// BenchmarkIdleConnection tells what an idle connection costs in memory: a pooled
// one, and one of a thousand that are kept open.
func BenchmarkIdleConnection(b *testing.B) {
	for name, conns := range map[string]int{"pooled": 200, "kept open": 1000} {
		b.Run(name, func(b *testing.B) {
			l, _, host := sshd(b, sshtest.OpenSSHOptions{})
			j := job(host, line("true"))
			mustRun(b, l, j)
			before, routines := memory(), runtime.NumGoroutine()
			for i := range conns {
				if name == "pooled" {
					j.Subject = fmt.Sprint("subject ", i)
				} else {
					j.Target = kept(fmt.Sprint("connection ", i), host)
				}
				mustRun(b, l, j)
			}
			for b.Loop() {
			}
			eventually(b, "all sessions are free", func() bool { return l.Stats().Sessions == 0 })
			b.ReportMetric(float64(memory()-before)/float64(conns), "B/conn")
			b.ReportMetric(float64(runtime.NumGoroutine()-routines)/float64(conns), "goroutines/conn")
			b.ReportMetric(float64(resident(b))/1e6, "MB-resident")
			began := time.Now()
			for i := range conns {
				l.Disconnect([]string{fmt.Sprint("connection ", i)})
			}
			b.ReportMetric(time.Since(began).Seconds(), "s-to-close")
		})
	}
}

// memory is what lives on the heap and on the stacks.
func memory() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// resident is what the kernel counts.
func resident(b *testing.B) (bytes int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(rest, &bytes)
	if err != nil {
		b.Fatal(err)
	}
	return bytes << 10
}

// BenchmarkStream moves much output through a cap.
func BenchmarkStream(b *testing.B) {
	l, _, host := sshd(b, sshtest.OpenSSHOptions{})
	const size = 60 << 20
	j := job(host, line(fmt.Sprint("head -c ", size, " /dev/zero")))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		mustRun(b, l, j)
	}
}
