package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What somebody who owns the permitted directory can do to have the gateway read or
// write something else, on a real host where the account itself may do everything.

// treasure is what stands outside of the permitted directory.
const treasure = "this is outside"

// outsideIs fails the test unless all that is outside is as it was.
func (s *fileSite) outsideIs(t *testing.T, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(s.other)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Fatalf("outside there are %q, not %q", names, want)
	}
	if got := contentOf(t, filepath.Join(s.other, "secret")); got != treasure {
		t.Fatalf("outside it says %.40q", got)
	}
}

// refuses fails the test unless no tool for files does anything with a path. Each
// code must be one of those that are expected.
func (s *fileSite) refuses(t *testing.T, path string, codes ...string) {
	t.Helper()
	for tool, more := range map[string][]any{
		"read": nil, "write": {"content", "changed"}, "edit": {"operation", "append", "content", "changed"}, "validate": {"type", "json"},
	} {
		r := s.do(t, tool, path, more...)
		if !r.IsError || len(codes) > 0 && !slices.Contains(codes, r.code()) {
			t.Errorf("%s of %q: %.400s", tool, path, r.Structured)
		}
		if strings.Contains(string(r.Structured), treasure) {
			t.Errorf("%s of %q shows what is outside", tool, path)
		}
	}
}

func TestFileAttacks(t *testing.T) {
	s := newFileSite(t)
	secret := filepath.Join(s.other, "secret")
	s.put(t, secret, treasure)
	in := func(name string) string { return filepath.Join(s.root, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("names that lead out", func(t *testing.T) {
		for name, to := range map[string]string{
			"file": secret, "dir": s.other, "up": "../ab", "deep": "dir/secret", "proc": "/proc/self/root", "cwd": "/proc/self/cwd",
			"one": "/proc/1/root", "new": filepath.Join(s.other, "new"), "loop": "loop", "odd": s.other + "/\xff\xfe",
		} {
			must(os.Symlink(to, in(name)))
		}
		for _, path := range []string{
			"file", "dir/secret", "up/secret", "deep", "proc" + secret, "one" + secret, "new", "dir/new", "up/../ab/secret", "loop", "odd",
			"../ab/secret", "./../ab/secret", "x/../../ab/secret", "dir/../ab/secret",
		} {
			s.refuses(t, s.root+"/"+path)
		}
		for _, path := range []string{secret, "/proc/self/root" + secret, "/proc/self/cwd/.." + secret, "//" + secret, "/./" + secret, s.root + "b/secret"} {
			s.refuses(t, path)
		}
		for _, path := range []string{"dir", "up", "proc", "one"} {
			if r := s.do(t, "list_dir", in(path)); !r.IsError || strings.Contains(string(r.Structured), "secret") {
				t.Errorf("list of %s: %s", path, r.Structured)
			}
		}
		s.outsideIs(t, "secret")
	})

	t.Run("what is no file", func(t *testing.T) {
		must(syscall.Mkfifo(in("fifo"), 0o666))
		must(syscall.Mknod(in("char"), syscall.S_IFCHR|0o666, 1<<8|5)) // zero
		must(syscall.Mknod(in("block"), syscall.S_IFBLK|0o666, 7<<8))
		l, err := net.Listen("unix", in("socket"))
		must(err)
		defer l.Close()
		for _, name := range []string{"fifo", "char", "block", "socket"} {
			before, err := os.Lstat(in(name))
			must(err)
			s.refuses(t, in(name), "file_special")
			if after, err := os.Lstat(in(name)); err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
				t.Errorf("%s is not what it was: %v", name, err)
			}
		}
		for _, path := range []string{"/dev/zero", "/dev/stdin", "/proc/self/fd/0", "/proc/self/environ", "/proc/self/mem"} {
			s.refuses(t, path)
		}
	})

	t.Run("a second name of what is outside", func(t *testing.T) {
		must(os.Link(secret, in("hard")))
		s.refuses(t, in("hard"))
		must(os.Remove(in("hard")))
		s.outsideIs(t, "secret")
	})

	t.Run("a terabyte of nothing", func(t *testing.T) {
		f, err := os.Create(in("sparse"))
		must(err)
		must(f.Truncate(1 << 40))
		must(f.Close())
		if r := s.do(t, "read", in("sparse"), "length", 10, "offset", 1<<39); r.IsError || r.Content != strings.Repeat("\x00", 10) && r.Bytes != 10 || !r.More || r.Size != 1<<40 {
			t.Errorf("%.300s", r.Structured)
		}
		if r := s.do(t, "read", in("sparse"), "length", 1<<20); r.IsError || !r.More || r.Bytes != 1<<20 {
			t.Errorf("%v, %d bytes", r.IsError, r.Bytes)
		}
		for tool, more := range map[string][]any{"edit": {"old_text", "a", "new_text", "b"}, "validate": {"type", "json"}} {
			if r := s.do(t, tool, in("sparse"), more...); r.code() != "too_large" {
				t.Errorf("%s: %.300s", tool, r.Structured)
			}
		}
		must(os.Remove(in("sparse")))
	})

	t.Run("names that are not what they look like", func(t *testing.T) {
		names := []string{"two\nlines", "cr\r", "tab\t", "esc\x1b[2J", " blank ", "-rf", "--", "$(touch marker)", "`touch marker`", "*", "a'b\"c", "\u202egnp.exe", "…", "\\", "%2e%2e"}
		for _, name := range names {
			want := "content of " + name
			if r := s.do(t, "write", in(name), "content", want, "skip_validate", true); r.IsError || contentOf(t, in(name)) != want {
				t.Errorf("write of %q: %s", name, r.Structured)
				continue
			}
			if r := s.do(t, "read", in(name)); r.IsError || r.Content != want || r.Path != in(name) {
				t.Errorf("read of %q: %s", name, r.Structured)
			}
		}
		odd := "odd\xff\xfename"
		s.put(t, in(odd), treasure)
		listed := s.do(t, "list_dir", s.root)
		for _, name := range append(names, strings.ToValidUTF8(odd, "\ufffd")) {
			if !slices.ContainsFunc(listed.Entries, func(e struct {
				Name, Type, Permissions string
				Size                    int64
				LinkTarget              string `json:"link_target"`
			},
			) bool {
				return e.Name == name
			}) {
				t.Errorf("%q is not listed", name)
			}
		}
		s.refuses(t, in(strings.ToValidUTF8(odd, "\ufffd"))+"/x")
		if r := s.do(t, "read", in(strings.ToValidUTF8(odd, "\ufffd"))); r.code() != "not_found" {
			t.Errorf("a name that is none was read: %s", r.Structured)
		}
		for _, path := range []string{"", "\x00", s.root + "/a\x00b", s.root + "/" + strings.Repeat("a", 256), "/" + strings.Repeat("a/", 3000)} {
			s.refuses(t, path)
		}
		if _, err := os.Stat(in("marker")); err == nil {
			t.Error("a name was executed")
		}
		s.outsideIs(t, "secret")
	})
}

// Between the look at a path, the decision about it and its use, somebody puts
// something else in its place, again and again.
func TestFileSwaps(t *testing.T) {
	for _, attack := range []struct {
		name, good string // good changes places with evil
		path       string
		evil       func(s *fileSite, evil string) error
	}{
		{"file with link", "f", "f", func(s *fileSite, evil string) error { return os.Symlink(s.other+"/secret", evil) }},
		{"file with hard link", "f", "f", func(s *fileSite, evil string) error { return os.Link(s.other+"/secret", evil) }},
		{"parent with link", "d", "d/secret", func(s *fileSite, evil string) error { return os.Symlink(s.other, evil) }},
		{"parent of the parent", "d", "d/e/secret", func(s *fileSite, evil string) error { return os.Symlink(filepath.Dir(s.other), evil) }},
	} {
		t.Run(attack.name, func(t *testing.T) {
			t.Parallel()
			s := newFileSite(t)
			s.put(t, s.other+"/secret", treasure)
			path := filepath.Join(s.root, attack.path)
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			s.put(t, path, "inside")
			good, evil := filepath.Join(s.root, attack.good), filepath.Join(s.root, "evil")
			if err := attack.evil(s, evil); err != nil {
				t.Fatal(err)
			}
			stop := swapping(good, evil)
			defer stop()
			came := map[string]int{}
			for i := range long(12, 1000) {
				content := fmt.Sprint("inside ", i)
				for _, r := range []fileReply{
					s.do(t, "read", path), s.do(t, "write", path, "content", content),
					s.do(t, "edit", path, "operation", "append", "content", "more"), s.do(t, "list_dir", filepath.Dir(path)),
				} {
					if strings.Contains(string(r.Structured), treasure) {
						t.Fatalf("what is outside was read: %s", r.Structured)
					}
					came[r.Status+" "+r.code()]++
				}
				s.outsideIs(t, "secret")
			}
			t.Logf("%v", came)
		})
	}
}

// swapping exchanges two names until it is stopped.
func swapping(a, b string) (stop func()) {
	over := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	})
	return func() {
		close(over)
		running.Wait()
	}
}
