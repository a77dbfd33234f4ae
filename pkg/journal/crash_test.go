package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/pkg/journal/ownmounts"
)

// The tests run this program again as another process: the variable says what
// it does there, the arguments to what.
const childVariable = "JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "append":
		appendForEver(os.Args[1], os.Args[2])
	case "fill":
		fillDisk(os.Args[1])
	default:
		os.Exit(m.Run())
	}
}

func child(t *testing.T, what string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.Stderr = os.Stderr
	return cmd
}

// record is the nth line of a writer. At 40 KiB it spans many pages, between
// which a signal can cut a write short.
func record(writer string, n int) []byte {
	return fmt.Appendf(nil, `{"writer":%q,"n":%d,"pad":%q}`, writer, n, strings.Repeat("x", 40<<10))
}

// appendForEver tells on stdout of every line that is on record.
func appendForEver(path, writer string) {
	j, err := OpenWith(path, Options{MaxBytes: 4 << 20})
	for n := 0; err == nil; n++ {
		if err = j.Append(record(writer, n)); err == nil {
			_, err = fmt.Println()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Two processes append to one journal and are killed in the middle, again and
// again: all that was on record is there, once and whole, and after the next
// Open nothing else is.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	acked := map[string]int{} // writer -> lines known to be on record
	for round := range 8 {
		var killed []*exec.Cmd
		for k := range 2 {
			writer := fmt.Sprintf("%d.%d", round, k)
			cmd := child(t, "append", path, writer)
			acked[writer] = 0
			killed = append(killed, cmd)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for n := 0; n < 20+7*round && lines.Scan(); n++ {
				acked[writer]++
			}
			if k == 1 { // the first goes on while the second begins
				for _, c := range killed {
					if err := c.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for _, c := range killed {
			var exit *exec.ExitError
			if err := c.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("child ended with %v, want SIGKILL", err)
			}
		}
	}
	mustOpen(t, path, Options{})
	found := map[string]int{}
	for _, name := range oldestFirst(path) {
		countRecords(t, name, found)
	}
	for writer, n := range acked {
		if found[writer] < n {
			t.Errorf("writer %s has %d lines on record and was told of %d", writer, found[writer], n)
		}
	}
}

// countRecords adds up the lines of each writer, which must be whole and in
// order.
func countRecords(t *testing.T, name string, found map[string]int) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var writer string
		var n int
		if _, err := fmt.Sscanf(string(line), `{"writer":%q,"n":%d,`, &writer, &n); err != nil {
			t.Fatalf("%s holds %.80q", name, line)
		}
		if n != found[writer] || string(line) != string(record(writer, n))+"\n" {
			t.Fatalf("%s holds %.80q (%d bytes) where line %d of the writer should be", name, line, len(line), found[writer])
		}
		found[writer]++
	}
}

// TestFullDisk fills a file system of 64 KiB in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	cmd := child(t, "fill", t.TempDir())
	cmd.SysProcAttr = ownmounts.Attributes()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v; %s", err, ownmounts.Hint)
	}
}

func fillDisk(dir string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		fatal("mount a small tmpfs: %v", err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<10), 0o600); err != nil {
		fatal("%v", err)
	}
	path := filepath.Join(dir, "log")
	j, err := OpenWith(path, Options{Sync: true})
	if err != nil {
		fatal("%v", err)
	}
	line := bytes.Repeat([]byte("x"), 2999) // no divisor of a page: the last write is short
	n := fill(j, line)
	expect(path, line, n)
	if fill(j, line) != 0 {
		fatal("a full disk took another line")
	}
	if _, err := Open(path); err != nil {
		fatal("open on a full disk, where nothing is to be written: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		fatal("%v", err)
	}
	more := fill(j, line)
	if more == 0 {
		fatal("no line was taken after room was made")
	}
	expect(path, line, n+more)
}

// fill appends until the disk is full.
func fill(j *File, line []byte) (n int) {
	for ; ; n++ {
		err := j.Append(line)
		switch {
		case err != nil && errors.Is(err, ErrUnwritable) && errors.Is(err, syscall.ENOSPC):
			return n
		case err != nil:
			fatal("append %d: %v", n, err)
		case n > 100:
			fatal("the disk does not fill up")
		}
	}
}

func expect(path string, line []byte, n int) {
	got, err := os.ReadFile(path)
	if err != nil {
		fatal("%v", err)
	}
	if want := strings.Repeat(string(line)+"\n", n); string(got) != want {
		fatal("the file has %d bytes instead of the %d of %d lines", len(got), len(want), n)
	}
}

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
