package sshexec

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// noise is content without a pattern.
func noise(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.NewChaCha8([32]byte{byte(bytes)}).Read(b)
	return string(b)
}

// halves are the jobs of a copy.
func halves(from, to tool.Target, source, dest string) (tool.Job, tool.Job) {
	to.Alias = "web2"
	return fileJob(from, tool.Send{Path: source}), fileJob(to, tool.Receive{Path: dest})
}

// copied runs a copy, which must succeed.
func copied(t testing.TB, l *lab, from, to tool.Target, source, dest string) tool.Copied {
	t.Helper()
	a, b := l.Copy(t.Context(), first(halves(from, to, source, dest)), second(halves(from, to, source, dest)))
	for _, r := range []tool.Report{a, b} {
		if r.Outcome != tool.Finished || r.Err != nil || len(r.Outputs) != 1 {
			t.Fatalf("%s, %s", describe(a), describe(b))
		}
	}
	if mustRead(t, source) != mustRead(t, dest) {
		t.Fatal("content differs")
	}
	return b.Outputs[0].Answer.(tool.Copied)
}

func first[T any](a, _ T) T  { return a }
func second[T any](_, b T) T { return b }

func TestCopy(t *testing.T) {
	onFileServers(t, func(t *testing.T, l *lab, host tool.Target) {
		dir := openDir(t)
		for i, content := range []string{"hello", "", noise(3 << 20)} {
			source, dest := put(t, dir, "source", content), dir+"/dest"
			mode := os.FileMode([]int{0o640, 0o755, 0o600}[i])
			if err := os.Chmod(source, mode|os.ModeSetuid); err != nil {
				t.Fatal(err)
			}
			give(t, host, source)
			got := copied(t, l, host, host, source, dest)
			want := tool.Copied{Bytes: int64(len(content)), Digest: digestOf(content), Mode: octal(uint32(mode)), Created: i == 0}
			if is, _, _ := modeAndOwner(t, dest); got != want || is != uint32(mode) {
				t.Errorf("mode %o, %+v", is, got)
			}
			if names(t, dir) != "dest source" {
				t.Errorf("in the directory: %s", names(t, dir))
			}
		}
	})
}

func TestCopyBetweenHosts(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	other := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{Login: s, SFTP: "/usr/lib/openssh/sftp-server"})
	l := newLab(t, s.Key, []string{s.KnownLine, other.KnownLine})
	from, to := target(login(t), s.Addr), target(login(t), other.Addr)
	dir := openDir(t)
	source := put(t, dir, "source", noise(5<<20))
	var told sync.Map
	a, b := halves(from, to, source, dir+"/dest")
	a.Progress = func(p tool.Progress) { told.Store("from", p.Bytes) }
	b.Progress = func(p tool.Progress) { told.Store("to", p.Bytes) }
	sent, received := l.Copy(t.Context(), a, b)
	if sent.Err != nil || received.Err != nil || sent.Address != "127.0.0.1" || received.Duration == 0 {
		t.Fatalf("%s, %s", describe(sent), describe(received))
	}
	for _, side := range []string{"from", "to"} {
		if _, ok := told.Load(side); !ok {
			t.Errorf("no progress on %s", side)
		}
	}
}

func TestCopyRefuses(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	file, linked := put(t, dir, "file", "old"), put(t, dir, "linked", "old")
	give(t, host, file, linked)
	if err := os.Link(linked, dir+"/other"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(dir+"/fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	for _, tc := range []struct {
		source, dest string
		code         tool.FailureCode
		says         string
	}{
		{dir + "/none", dir + "/new", tool.FailNotFound, "web1"},
		{dir + "/link", dir + "/new", tool.FailChanged, "web1"},
		{dir + "/fifo", dir + "/new", tool.FailSpecialFile, "web1"},
		{"/dev/zero", dir + "/new", tool.FailSpecialFile, "web1"},
		{dir, dir + "/new", tool.FailNotFile, "web1"},
		{file, dir + "/link", tool.FailChanged, "web2"},
		{file, linked, tool.FailHardLinked, "web2"},
		{file, dir, tool.FailNotFile, "web2"},
		{file, dir + "/none/new", tool.FailNotFound, "web2"},
		{"file", dir + "/new", tool.FailName, "web1"},
		{file, "/", tool.FailNotFile, "web2"},
	} {
		a, b := halves(host, host, tc.source, tc.dest)
		sent, received := l.Copy(t.Context(), a, b)
		for _, r := range []tool.Report{sent, received} {
			failed(t, r, tool.NotStarted, tc.code)
			if !strings.Contains(r.Err.Message, tc.says) {
				t.Errorf("does not name the host: %s", r.Err.Message)
			}
		}
	}
	a, b := halves(host, host, file, dir+"/new")
	failed(t, second(l.Copy(t.Context(), a, fileJob(host, tool.Write{Path: file}))), tool.NotStarted, tool.FailInternal)
	failed(t, second(l.Copy(t.Context(), b, a)), tool.NotStarted, tool.FailInternal)
	failed(t, l.Run(t.Context(), a), tool.NotStarted, tool.FailInternal)
	if names(t, dir) != before || mustRead(t, linked) != "old" {
		t.Errorf("in the directory: %s", names(t, dir))
	}
}

// Where the host runs no commands, the gateway reads back what it has written.
func TestCopyVerifiesWithoutCommands(t *testing.T) {
	l, _, host := faulty(t, sshtest.Faults{Refuse: commands})
	dir := openDir(t)
	copied(t, l, host, host, put(t, dir, "source", noise(7<<20)), dir+"/dest")
}

// A copy whose connection is lost goes on where it was.
func TestCopyGoesOn(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{s.KnownLine, known(p.Addr(), s)}, hasty)
	me := login(t)
	dir := openDir(t)
	source := put(t, dir, "source", noise(40<<20))
	p.CutAfter(25 << 20)
	got := copied(t, l, target(me, s.Addr), target(me, p.Addr()), source, dir+"/dest")
	if got.Resumed < leftoverBytes || got.Resumed > 25<<20 || got.Digest != digestOf(mustRead(t, source)) {
		t.Errorf("%+v", got)
	}
	if names(t, dir) != "dest source" {
		t.Errorf("in the directory: %s", names(t, dir))
	}
}

// What a copy has left that ran out of time is used by the next, unless it is not
// any more what was left; and a copy that is cancelled leaves nothing.
func TestCopyLeftovers(t *testing.T) {
	t.Parallel()
	s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
	p := sshtest.StartProxy(t, s.Addr, 0)
	l := newLab(t, s.Key, []string{s.KnownLine, known(p.Addr(), s)}, hasty)
	me := login(t)
	from, to := target(me, s.Addr), target(me, p.Addr())
	dir := openDir(t)
	source, dest := put(t, dir, "source", noise(40<<20)), dir+"/dest"
	stop := func(cause error) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		reports := make(chan tool.Report, 1)
		a, b := halves(from, to, source, dest)
		p.Throttle(40 << 20)
		go func() { reports <- second(l.Copy(ctx, a, b)) }()
		eventually(t, "something is copied", func() bool {
			info, err := os.Stat(dir + "/.dest" + temporary)
			return err == nil && info.Size() > 20<<20
		})
		cancel(cause)
		r := <-reports
		p.Throttle(0)
		if r.Outcome != tool.NotStarted || r.Stop == "" {
			t.Fatal(describe(r))
		}
	}
	litter := func() []string {
		found, err := filepath.Glob(dir + "/.dest*")
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	stop(tool.StopCancelled)
	eventually(t, "nothing is left", func() bool { return len(litter()) == 0 })
	stop(tool.StopTimeout)
	if got := copied(t, l, from, to, source, dest); got.Resumed < leftoverBytes {
		t.Errorf("%+v", got)
	}
	stop(tool.StopTimeout)
	eventually(t, "it has ended", func() bool {
		l.leftovers.mu.Lock()
		defer l.leftovers.mu.Unlock()
		return len(l.leftovers.left) == 1
	})
	f, err := os.OpenFile(litter()[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("not so"), 1000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got := copied(t, l, from, to, source, dest); got.Resumed != 0 {
		t.Errorf("%+v", got)
	}
	if len(litter()) > 0 {
		t.Errorf("left: %s", litter())
	}
}

func TestCopySeesAChange(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	source := put(t, dir, "source", noise(30<<20))
	a, b := halves(host, host, source, dir+"/dest")
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for !isClosed(over) {
			f, err := os.OpenFile(source, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, _ = f.WriteString("more")
				f.Close()
			}
			time.Sleep(time.Millisecond)
		}
	})
	sent, received := l.Copy(t.Context(), a, b)
	close(over)
	writing.Wait()
	failed(t, sent, tool.NotStarted, tool.FailChanged)
	failed(t, received, tool.NotStarted, tool.FailChanged)
	if names(t, dir) != "source" {
		t.Errorf("in the directory: %s", names(t, dir))
	}
}

// A file of any size goes through a bounded amount of memory.
func TestCopyIsBounded(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	source := put(t, dir, "source", "")
	if err := os.Truncate(source, 150<<20); err != nil { // sparse
		t.Fatal(err)
	}
	copied(t, l, host, host, put(t, dir, "small", "x"), dir+"/warm")
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	a, b := halves(host, host, source, dir+"/dest")
	done := make(chan tool.Report, 1)
	go func() { done <- second(l.Copy(t.Context(), a, b)) }()
	for peak := uint64(0); ; time.Sleep(5 * time.Millisecond) {
		select {
		case r := <-done:
			if r.Err != nil {
				t.Fatal(describe(r))
			}
			t.Logf("%d MiB", peak>>20)
			return
		default:
		}
		runtime.ReadMemStats(&now)
		if peak = max(peak, now.HeapInuse-min(before.HeapInuse, now.HeapInuse)); peak > 100<<20 {
			t.Fatalf("%d MiB in use", peak>>20)
		}
	}
}
