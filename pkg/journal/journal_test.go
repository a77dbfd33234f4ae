package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustOpen(t *testing.T, path string, opts Options) *File {
	t.Helper()
	j, err := OpenWith(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func mustAppend(t *testing.T, a Appender, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := a.Append([]byte(line)); err != nil {
			t.Fatalf("append %q: %v", line, err)
		}
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestOpenMakesPrivateFileAndDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "log")
	path := filepath.Join(dir, "audit.log")
	mustAppend(t, mustOpen(t, path, Options{Sync: true}), `{"n":1}`)
	for name, want := range map[string]os.FileMode{path: 0o600, dir: 0o700} {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
	wantFile(t, path, `{"n":1}`+"\n")
}

func TestOpenMendsTheEnd(t *testing.T) {
	long := strings.Repeat("x", 3*chunk)
	tests := map[string]struct {
		before, after string
		cut           int64
	}{
		"empty":                         {"", "", 0},
		"whole":                         {"{}\n{}\n", "{}\n{}\n", 0},
		"torn record":                   {"{}\n{\"a\":", "{}\n", 5},
		"torn first record":             {"{\"a\":", "", 5},
		"torn record longer than reads": {"{}\n{" + long, "{}\n", 3*chunk + 1},
		"torn record after a long one":  {"{" + long + "}\n{\"a", "{" + long + "}\n", 3},
		"zeros after a power cut":       {"{}\n\x00\x00\x00", "{}\n", 3},
		"somebody else's words":         {"{}\nsee ticket 12", "{}\nsee ticket 12\n", 0},
		"somebody else's file":          {"hello", "hello\n", 0},
		"nothing but a newline":         {"\n", "\n", 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(tc.before), 0o600); err != nil {
				t.Fatal(err)
			}
			j := mustOpen(t, path, Options{})
			wantFile(t, path, tc.after)
			for _, want := range []int64{tc.cut, 0} {
				err := j.Extend(func(tail Tail) ([]byte, error) {
					if tail.Cut != want {
						t.Errorf("cut %d bytes, want %d", tail.Cut, want)
					}
					return []byte("{}"), nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			wantFile(t, path, tc.after+"{}\n{}\n")
		})
	}
}

func TestExtendSeesTheLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	one, two := mustOpen(t, path, Options{}), mustOpen(t, path, Options{})
	extend := func(j *File, wantLast, line string) {
		t.Helper()
		err := j.Extend(func(tail Tail) ([]byte, error) {
			if got := string(tail.Last); got != wantLast {
				t.Errorf("last line %q, want %q", got, wantLast)
			}
			return []byte(line), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	extend(one, "", "a")
	extend(two, "a", "b")
	extend(one, "b", "c")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	extend(two, "c", "d")
	extend(one, "d", "e")
	if err := os.Truncate(path, 0); err != nil { // logrotate's copytruncate
		t.Fatal(err)
	}
	extend(one, "e", "f")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	extend(mustOpen(t, path, Options{}), "f", "g")

	stop := errors.New("changed my mind")
	if err := one.Extend(func(Tail) ([]byte, error) { return nil, stop }); !errors.Is(err, stop) || errors.Is(err, ErrUnwritable) {
		t.Errorf("error of next comes back as %v", err)
	}
	wantFile(t, path, "g\n")
}

func TestRotationFromOutside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	path := filepath.Join(dir, "log")
	j := mustOpen(t, path, Options{})
	mustAppend(t, j, "a")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "b")
	wantFile(t, path+".1", "a\n")
	wantFile(t, path, "b\n")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "c")
	wantFile(t, path, "c\n")

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "d")
	wantFile(t, path, "d\n")
}

func TestRotationBySize(t *testing.T) {
	tests := map[string]struct {
		keep int
		want map[string]string
	}{
		"all": {0, map[string]string{"log": "7\n", "log.1": "5\n6\n", "log.2": "3\n4\n", "log.3": "1\n2\n"}},
		"two": {2, map[string]string{"log": "7\n", "log.1": "5\n6\n", "log.2": "3\n4\n"}},
		"one": {1, map[string]string{"log": "7\n", "log.1": "5\n6\n"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := mustOpen(t, filepath.Join(dir, "log"), Options{MaxBytes: 4, Keep: tc.keep})
			mustAppend(t, j, "1", "2", "3", "4", "5", "6", "7")
			got := map[string]string{}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				text, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err != nil {
					t.Fatal(err)
				}
				got[e.Name()] = string(text)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// Several Files on one path, as several processes would have them, each used
// by several goroutines, with rotation: every line is there once and whole, and
// each names the line before it.
func TestConcurrentAppend(t *testing.T) {
	const files, writers, lines = 3, 4, 50
	path := filepath.Join(t.TempDir(), "log")
	var wg sync.WaitGroup
	for f := range files {
		j := mustOpen(t, path, Options{MaxBytes: 2000})
		for w := range writers {
			wg.Go(func() {
				for n := range lines {
					err := j.Extend(func(tail Tail) ([]byte, error) {
						id, _, _ := strings.Cut(string(tail.Last), "<")
						return fmt.Appendf(nil, "%d-%d-%d<%s", f, w, n, id), nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()

	var all []string
	for _, name := range oldestFirst(path) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.SplitAfter(string(text), "\n")...)
	}
	before, count := "", 0
	for _, line := range all {
		if line == "" { // after the last newline of a file
			continue
		}
		id, prev, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "<")
		if !ok || prev != before {
			t.Fatalf("line %d is %q, want one that follows %q", count, line, before)
		}
		before = id
		count++
	}
	if want := files * writers * lines; count != want {
		t.Errorf("%d lines, want %d", count, want)
	}
}

// oldestFirst lists the files of a journal.
func oldestFirst(path string) []string {
	files := []string{path}
	for n := 1; ; n++ {
		if _, err := os.Stat(rotated(path, n)); err != nil {
			slices.Reverse(files)
			return files
		}
		files = append(files, rotated(path, n))
	}
}

func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		path string
		want error
	}{
		"directory":          {dir, syscall.EISDIR},
		"file as directory":  {filepath.Join(file, "log"), syscall.ENOTDIR},
		"pipe nobody reads":  {fifo(t, dir), syscall.ENXIO},
		"name that is empty": {"", os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			j, err := Open(tc.path)
			if err == nil {
				j.Close()
			}
			if !errors.Is(err, ErrUnwritable) || !errors.Is(err, tc.want) {
				t.Errorf("open says %v, want ErrUnwritable and %v", err, tc.want)
			}
		})
	}
}

func fifo(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDevices(t *testing.T) {
	mustAppend(t, mustOpen(t, os.DevNull, Options{MaxBytes: 1}), "a", "b")
	err := mustOpen(t, "/dev/full", Options{}).Append([]byte("a"))
	if !errors.Is(err, ErrUnwritable) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("append to a full device says %v", err)
	}
}

func TestClosed(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "log"), Options{})
	for range 2 {
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Append([]byte("a")); !errors.Is(err, ErrUnwritable) || !errors.Is(err, os.ErrClosed) {
		t.Errorf("append after close says %v", err)
	}
}

func TestLineBreakIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var out bytes.Buffer
	for name, a := range map[string]Appender{"file": mustOpen(t, path, Options{}), "writer": Writer(&out)} {
		if err := a.Append([]byte("a\nb")); !errors.Is(err, errLineBreak) {
			t.Errorf("%s says %v", name, err)
		}
	}
	wantFile(t, path, "")
	if out.Len() != 0 {
		t.Errorf("writer passed %q on", out.String())
	}
}

// A process that was stopped while it holds the lock must not hang this one.
func TestLockHeldByAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	j := mustOpen(t, path, Options{})
	other, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	j.patience = 50 * time.Millisecond
	if err := j.Append([]byte("a")); !errors.Is(err, ErrUnwritable) || !errors.Is(err, errLockHeld) {
		t.Errorf("append under a foreign lock says %v", err)
	}
	if err := syscall.Flock(int(other.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	j.patience = lockPatience
	mustAppend(t, j, "b")
	wantFile(t, path, "b\n")
}

type countingWriter struct {
	writes []string
	err    error
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.writes = append(w.writes, string(p))
	return len(p), w.err
}

func TestWriter(t *testing.T) {
	w := &countingWriter{}
	a := Writer(w)
	mustAppend(t, a, "a", "b")
	if diff := cmp.Diff([]string{"a\n", "b\n"}, w.writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	w.err = syscall.EPIPE
	if err := a.Append([]byte("c")); !errors.Is(err, ErrUnwritable) || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("append to a broken pipe says %v", err)
	}
}

func TestTeeNeedsEverySink(t *testing.T) {
	good, bad, last := &countingWriter{}, &countingWriter{err: syscall.EPIPE}, &countingWriter{}
	err := Tee(Writer(good), Writer(bad), Writer(last)).Append([]byte("a"))
	if !errors.Is(err, ErrUnwritable) || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("append says %v", err)
	}
	for name, w := range map[string]*countingWriter{"before": good, "after": last} {
		if diff := cmp.Diff([]string{"a\n"}, w.writes); diff != "" {
			t.Errorf("sink %s the broken one (-want +got):\n%s", name, diff)
		}
	}
	mustAppend(t, Tee(Writer(good), Writer(last)), "b")
}

func BenchmarkAppend(b *testing.B) {
	j, err := Open(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	line := bytes.Repeat([]byte("x"), 2000)
	for b.Loop() {
		if err := j.Append(line); err != nil {
			b.Fatal(err)
		}
	}
}

// A journal whose file was moved away, and whose next one was filled and moved
// away in turn by another process, goes on from the end of that one.
func TestRotationMissed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	slow, quick := mustOpen(t, path, Options{}), mustOpen(t, path, Options{})
	mustAppend(t, slow, "first")
	for n, line := range []string{"second", "third", "fourth"} {
		mustAppend(t, quick, line)
		for ; n >= 0; n-- { // the older ones first
			from := path
			if n > 0 {
				from = rotated(path, n)
			}
			if err := os.Rename(from, rotated(path, n+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := slow.Extend(func(tail Tail) ([]byte, error) {
		if string(tail.Last) != "fourth" {
			t.Errorf("goes on from %q", tail.Last)
		}
		return []byte("last"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
