package sshexec

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

// secret is what must not be read from outside of the permitted directory.
const secret = "this is outside"

// ground is a permitted directory and one outside of it, in both of which an
// attacker may do everything.
type ground struct{ in, out string }

func newGround(t testing.TB, host tool.Target) ground {
	t.Helper()
	dir := openDir(t)
	g := ground{dir + "/in", dir + "/out"}
	for _, d := range []string{g.in, g.out, g.in + "/dir", g.out + "/dir"} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "dir/file"} {
		give(t, host, put(t, g.in, name, "inside"), put(t, g.out, name, secret))
	}
	return g
}

// permits is what a policy would say of a path that the host has resolved.
func (g ground) permits(f tool.FileFacts) bool {
	return slices.Contains(f.Under, g.in) && (f.Type == tool.RegularFile && f.Links == 1 || !f.Exists)
}

// untouched sees that nothing outside was changed.
func (g ground) untouched(t testing.TB) {
	t.Helper()
	if n := names(t, g.out) + " " + names(t, g.out+"/dir"); n != "dir file file" {
		t.Fatalf("outside: %s", n)
	}
	if mustRead(t, g.out+"/file") != secret || mustRead(t, g.out+"/dir/file") != secret {
		t.Fatal("a file outside was written to")
	}
}

// swap exchanges two names until the test is over.
func swap(t testing.TB, a, b string) {
	t.Helper()
	over := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for !isClosed(over) {
			_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
		}
	})
	t.Cleanup(func() {
		close(over)
		running.Wait()
	})
}

// swaps are what an attacker puts in the place of what was judged. Each makes
// NAME beside the file or directory with which it then changes places.
var swaps = []struct {
	name string
	what string // that changes places
	make func(g ground, evil string) error
}{
	{"file with link", "file", func(g ground, evil string) error { return os.Symlink(g.out+"/file", evil) }},
	{"file with hard link", "file", func(g ground, evil string) error { return os.Link(g.out+"/file", evil) }},
	{"file with link to self", "file", func(g ground, evil string) error {
		return os.Symlink("/proc/self/root"+g.out+"/file", evil)
	}},
	{"directory with link", "dir", func(g ground, evil string) error { return os.Symlink(g.out+"/dir", evil) }},
	{"file with directory", "file", func(g ground, evil string) error { return os.Mkdir(evil, 0o777) }},
	{"file with device", "file", func(_ ground, evil string) error { return syscall.Mknod(evil, syscall.S_IFCHR|0o666, 1<<8|5) }},
}

// tolerable are the failures that an attack may lead to.
var tolerable = []tool.FailureCode{
	tool.FailChanged, tool.FailNotFile, tool.FailNotFound, tool.FailNotDirectory, tool.FailSpecialFile,
	tool.FailHardLinked, tool.FailAttributes, tool.FailExists, tool.FailPermission, tool.FailFile,
}

// step runs a step; nil when it failed in a way that it may.
func (g ground) step(t testing.TB, l *lab, j tool.Job) any {
	t.Helper()
	r := l.Run(t.Context(), j)
	if r.Err != nil {
		if !slices.Contains(tolerable, r.Err.Code) || r.Outcome == tool.Unknown {
			t.Errorf("%+v: %s", j.Steps[0].Do, describe(r))
		}
		return nil
	}
	return r.Outputs[0].Answer
}

// locate is the first phase of a call: nil when policy refuses, or it fails.
func (g ground) locate(t testing.TB, l *lab, host tool.Target, path string, missing bool) *tool.FileFacts {
	t.Helper()
	facts, ok := g.step(t, l, fileJob(host, tool.Locate{Path: path, Missing: missing})).(tool.FileFacts)
	if !ok || !g.permits(facts) {
		return nil
	}
	return &facts
}

func TestSwap(t *testing.T) {
	t.Parallel()
	user := login(t)
	for _, attack := range swaps {
		t.Run(attack.name, func(t *testing.T) {
			s := sshtest.StartOpenSSH(t, sshtest.OpenSSHOptions{})
			l := newLab(t, s.Key, []string{s.KnownLine})
			host := target(user, s.Addr)
			g := newGround(t, host)
			if err := attack.make(g, g.in+"/evil"); err != nil {
				t.Skip(err)
			}
			good := g.in + "/" + attack.what
			swap(t, good, g.in+"/evil")
			path := good
			if attack.what == "dir" {
				path += "/file"
			}
			var read, wrote int
			for i := range long(15, 2000) {
				if facts := g.locate(t, l, host, path, false); facts != nil {
					if c, ok := g.step(t, l, fileJob(host, tool.Read{Path: facts.Path}, facts)).(tool.FileContent); ok {
						if strings.Contains(string(c.Bytes), secret) {
							t.Fatal("content from outside was read")
						}
						read++
					}
				}
				facts := g.locate(t, l, host, path, true)
				if facts == nil {
					continue
				}
				do := tool.Write{Path: facts.Path, Content: []byte("inside")}
				if i%4 == 3 {
					do.Path, facts = filepath.Dir(path)+"/new", &tool.FileFacts{}
				}
				if _, ok := g.step(t, l, fileJob(host, do, facts)).(tool.Written); ok {
					wrote++
				}
				_ = os.Remove(filepath.Dir(path) + "/new")
				g.untouched(t)
			}
			t.Logf("%d reads and %d writes came through", read, wrote)
		})
	}
}
