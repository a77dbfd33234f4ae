package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/pkg/sshexec"
	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	mib = 1 << 20
	// rangeBytes is how much of a large file is asked for at a time, and ranges how
	// many of them side by side where a host is far away.
	rangeBytes = 8 * mib
	ranges     = 8
	smallFiles = 1000
	cipher     = "aes128-gcm@openssh.com" // which sshexec prefers
)

// transfers compares files over the executor with OpenSSH's scp, with the same
// cipher, from and to memory: a large file down, up and from host to host, on
// the spot and over a long way, and many small ones.
type transfers struct {
	*bench
	dir      string // on both hosts, which are this machine
	here     site
	there    site
	executor *sshexec.Executor
	known    string
}

// site is a host as both reach it.
type site struct {
	at     netip.AddrPort
	target tool.Target
}

func (b *bench) files(bytes, far int64, rounds int) {
	dir, err := os.MkdirTemp("/dev/shm", "bench")
	b.must(err, "temporary folder")
	b.Cleanup(func() { os.RemoveAll(dir) })
	t := &transfers{bench: b, dir: dir, known: filepath.Join(b.dir, "known")}
	other := sshtest.StartOpenSSH(b, sshtest.OpenSSHOptions{Login: b.sshd, Config: []string{"SetEnv HOME=" + b.dir}})
	t.compare(fmt.Sprintf("%d MiB on the spot", bytes/mib), t.on(b.sshd, other, 0), bytes, 1, rounds)
	t.compare(fmt.Sprintf("%d MiB at a round trip of 100 ms", far/mib), t.on(b.sshd, other, 50*time.Millisecond), far, ranges, max(1, rounds/3))
	t.small(t.on(b.sshd, other, 0), rounds)
}

// on places both hosts behind a delay each way.
func (t transfers) on(here, there *sshtest.OpenSSH, delay time.Duration) *transfers {
	t.here, t.there = t.site("here", here, delay), t.site("there", there, delay)
	lines := t.line(t.here, here) + t.line(t.there, there)
	t.must(os.WriteFile(t.known, []byte(lines), 0o600), "known_hosts")
	trust, err := sshexec.NewTrust(sshexec.TrustOptions{KnownHosts: []string{t.known}})
	t.must(err, "known_hosts")
	t.executor = sshexec.New(sshexec.Options{Trust: trust, Logins: func(context.Context, tool.Target) (sshexec.Login, error) {
		return sshexec.Login{Key: here.Key, KeyName: "login"}, nil
	}})
	return &t
}

func (t transfers) site(alias string, s *sshtest.OpenSSH, delay time.Duration) site {
	at := s.Addr
	if delay > 0 {
		at = t.longWay(s.Addr, delay)
	}
	return site{at, tool.Target{
		Alias: alias, Hostname: at.Addr().String(), Port: int(at.Port()), User: "root",
		Address: at.Addr(), Addresses: []netip.Addr{at.Addr()},
	}}
}

// longWay is where a host is reached over a delay. Another process delays, whose
// memory is not ours.
func (t transfers) longWay(to netip.AddrPort, delay time.Duration) netip.AddrPort {
	self, err := os.Executable()
	t.must(err, "this program")
	cmd := exec.Command(self, "-to", to.String(), "-delay", delay.String())
	out, err := cmd.StdoutPipe()
	t.must(err, "pipe")
	t.must(cmd.Start(), "delay")
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	t.must(err, "delay")
	at, err := netip.ParseAddrPort(strings.TrimSpace(line))
	t.must(err, "delay")
	return at
}

// delayed forwards to an address until this program is killed.
func (b *bench) delayed(to string, delay time.Duration) {
	addr, err := netip.ParseAddrPort(to)
	b.must(err, "-to")
	fmt.Println(sshtest.StartProxy(b, addr, delay).Addr())
	select {}
}

func (t transfers) line(s site, server *sshtest.OpenSSH) string {
	return fmt.Sprintf("[%s]:%d %s", s.at.Addr(), s.at.Port(), ssh.MarshalAuthorizedKey(server.HostKey))
}

// compare has both move a large file each way, which is read so many ranges at a
// time.
func (t *transfers) compare(title string, on *transfers, bytes int64, atOnce, rounds int) {
	source := filepath.Join(t.dir, "source")
	content := on.noise(source, bytes)
	dest := filepath.Join(t.dir, "dest")
	fmt.Printf("\n%s\n", title)
	for _, c := range []struct {
		what      string
		ours, scp func() error
	}{
		{"download", func() error { return on.download(source, bytes, atOnce) }, func() error { return on.scp(on.here.path(source), "/dev/null") }},
		{"upload", func() error {
			return on.run(on.here, tool.Write{Path: dest, Content: content})
		}, func() error { return on.scp(source, on.here.path(dest)) }},
		{"host to host", func() error { return on.copy(source, dest) }, func() error { return on.scp("-3", on.here.path(source), on.there.path(dest)) }},
	} {
		ours := &contender{name: "ours, " + c.what, run: c.ours}
		scp := &contender{name: "scp, " + c.what, run: c.scp}
		t.must(on.run(on.here, tool.Read{Path: source, Length: 1}), "warm up")
		t.must(on.run(on.there, tool.Read{Path: source, Length: 1}), "warm up")
		debug.FreeOSMemory()
		idle := anonymous()
		most := watchMemory()
		var oursCPU, scpCPU time.Duration
		for range rounds {
			oursCPU += cpu(syscall.RUSAGE_SELF, func() { ours.round(t.bench) })
			scpCPU += cpu(syscall.RUSAGE_CHILDREN, func() { scp.round(t.bench) })
		}
		perGiB := float64(rounds) * float64(bytes) / (1 << 30)
		fmt.Printf("  %-14s ours %5.0f MB/s %4.1f CPU s/GiB   scp %5.0f MB/s %4.1f CPU s/GiB   ratio %.2f   memory +%d MiB\n",
			c.what, rate(bytes, ours), oursCPU.Seconds()/perGiB, rate(bytes, scp), scpCPU.Seconds()/perGiB,
			float64(scp.median())/float64(ours.median()), (most()-idle)/mib)
	}
	t.must(syscall.Munmap(content), "unmap")
	t.must(on.executor.Close(context.Background()), "close")
}

func rate(bytes int64, c *contender) float64 { return float64(bytes) / 1e6 / c.median().Seconds() }

func (s site) path(file string) string {
	return fmt.Sprintf("scp://root@%s:%d/%s", s.at.Addr(), s.at.Port(), file)
}

// noise makes a file without a pattern, and gives its content from outside of the
// heap: what is collected, and when, must not depend on it.
func (t *transfers) noise(file string, bytes int64) []byte {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	t.must(err, "source")
	defer f.Close()
	t.must(f.Truncate(bytes), "source")
	content, err := syscall.Mmap(int(f.Fd()), 0, int(bytes), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	t.must(err, "source")
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	return content
}

// cpu is how long this process, or the programs that it has run, computed.
func cpu(who int, do func()) time.Duration {
	var before, after syscall.Rusage
	_ = syscall.Getrusage(who, &before)
	do()
	_ = syscall.Getrusage(who, &after)
	return time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
}

// anonymous is how much memory this process has of its own.
func anonymous() int64 {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	var kib int64
	_, _ = fmt.Sscan(rest, &kib)
	return kib << 10
}

// watchMemory looks at it until it is asked what the most was.
func watchMemory() func() int64 {
	over, most := make(chan struct{}), make(chan int64)
	go func() {
		var peak int64
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-tick.C:
				peak = max(peak, anonymous())
			case <-over:
				tick.Stop()
				most <- peak
				return
			}
		}
	}()
	return func() int64 {
		close(over)
		return <-most
	}
}

func (t *transfers) run(s site, do tool.Do) error {
	return failure(t.executor.Run(context.Background(), t.job(s, do)))
}

func (t *transfers) job(s site, do tool.Do) tool.Job {
	return tool.Job{Subject: "bench", Target: s.target, Steps: []tool.Step{{Do: do}}, Limits: tool.Limits{OutputBytes: 4 * rangeBytes}}
}

func failure(r tool.Report) error {
	if r.Err != nil {
		return r.Err
	}
	return nil
}

// download reads a file range by range, as a client does with a cursor, or with
// several of them.
func (t *transfers) download(source string, bytes int64, atOnce int) error {
	return side(atOnce, int((bytes+rangeBytes-1)/rangeBytes), func(i int) error {
		return t.run(t.here, tool.Read{Path: source, Offset: int64(i) * rangeBytes, Length: rangeBytes})
	})
}

func (t *transfers) copy(source, dest string) error {
	_, received := t.executor.Copy(context.Background(), t.job(t.here, tool.Send{Path: source}), t.job(t.there, tool.Receive{Path: dest}))
	return failure(received)
}

func (t *transfers) scp(args ...string) error {
	args = append([]string{
		"-q", "-F", "none", "-c", cipher, "-i", filepath.Join(t.bench.dir, "keys/login"), "-o", "UserKnownHostsFile=" + t.known, "-o", "BatchMode=yes",
	}, args...)
	out, err := exec.Command("scp", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

// small has both move many small files, ours with as many calls as a connection
// takes at once.
func (t *transfers) small(on *transfers, rounds int) {
	up, down, scpUp := filepath.Join(t.dir, "up"), filepath.Join(t.dir, "down"), filepath.Join(t.dir, "scp")
	for _, d := range []string{up, down, scpUp} {
		t.must(os.Mkdir(d, 0o755), "folder")
	}
	content, round := make([]byte, 4096), 0
	for i := range smallFiles {
		t.must(os.WriteFile(fmt.Sprintf("%s/%d", down, i), content, 0o644), "file")
	}
	fmt.Printf("\n%d files of 4 KiB on the spot\n", smallFiles)
	for _, c := range []struct {
		what      string
		ours, scp func() error
	}{
		{"download", func() error {
			return on.each(func(i int) tool.Do { return tool.Read{Path: fmt.Sprintf("%s/%d", down, i)} })
		}, func() error { return on.scp("-r", on.here.path(down), filepath.Join(t.dir, "got")) }},
		{"upload", func() error {
			round++
			return on.each(func(i int) tool.Do { return tool.Write{Path: fmt.Sprintf("%s/%d-%d", up, round, i), Content: content} })
		}, func() error { return on.scp("-r", down, on.here.path(scpUp)) }},
	} {
		ours, scp := &contender{name: "ours", run: c.ours}, &contender{name: "scp", run: c.scp}
		for range rounds {
			ours.round(t.bench)
			scp.round(t.bench)
		}
		fmt.Printf("  %-14s ours %6.0f ms   scp -r %6.0f ms   ratio %.2f\n", c.what, ms(ours.median()), ms(scp.median()),
			float64(scp.median())/float64(ours.median()))
	}
	t.must(on.executor.Close(context.Background()), "close")
}

func (t *transfers) each(do func(i int) tool.Do) error {
	return side(16, smallFiles, func(i int) error { return t.run(t.here, do(i)) })
}

// side does something for every number below n, so many side by side.
func side(by, n int, do func(int) error) error {
	var all sync.WaitGroup
	errs := make(chan error, n)
	next := make(chan int)
	for range by {
		all.Go(func() {
			for i := range next {
				errs <- do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
