package spool

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/journal/ownmounts"
)

// The tests run this program again as another process: the variable says what
// it does there, the arguments to what.
const childVariable = "SPOOL_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "append":
		appendForEver(os.Args[1], os.Args[2], os.Args[3])
	case "fill":
		fillDisk(os.Args[1], os.Args[2])
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

// appendForEver tells on stdout of every line that is kept.
func appendForEver(dir, url, from string) {
	s, err := Open(options(dir, nil).to(url))
	n, _ := strconv.Atoi(from)
	for ; err == nil; n++ {
		if err = s.Append(line(n)); err == nil {
			_, err = fmt.Println(n)
		}
	}
	fatal("%v", err)
}

// to sends to a real HTTP server.
func (o Options) to(url string) Options {
	o.Send = func(ctx context.Context, batch []byte) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(batch))
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", answer.StatusCode)
		}
		return nil
	}
	return o
}

// counting is a collector that knows each line that it was sent, and fails now
// and then: before it has taken a batch, and after.
type counting struct {
	mu   sync.Mutex
	seen map[int]int
	n    int
}

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	batch, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	lines, err := unpack(batch)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if err != nil || c.n%7 == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for _, n := range lines {
		c.seen[n]++
	}
	if c.n%11 == 0 {
		w.WriteHeader(http.StatusBadGateway)
	}
}

// Processes that append and hand over are killed in the middle, again and again:
// every line that was kept arrives.
func TestKill(t *testing.T) {
	c := &counting{seen: map[int]int{}}
	server := httptest.NewServer(c)
	defer server.Close()
	dir := t.TempDir()
	var acked []int
	for round := range 8 {
		cmd := child(t, "append", dir, server.URL, strconv.Itoa(round*1_000_000))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 300+70*round && lines.Scan(); n++ {
			number, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			acked = append(acked, number)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	s := mustOpen(t, options(dir, nil).to(server.URL))
	for deadline := time.Now().Add(time.Minute); s.State().Waiting > 0 || c.lacks(acked) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d lines did not arrive; %+v", c.lacks(acked), len(acked), s.State())
		}
	}
	mustClose(t, s)
	if s.State().Lost != 0 {
		t.Errorf("state %+v", s.State())
	}
}

func (c *counting) lacks(lines []int) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range lines {
		if c.seen[line] == 0 {
			n++
		}
	}
	return n
}

// TestFullDisk fills a file system of 256 KiB in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	c := &counting{seen: map[int]int{}}
	server := httptest.NewServer(c)
	defer server.Close()
	cmd := child(t, "fill", t.TempDir(), server.URL)
	cmd.SysProcAttr = ownmounts.Attributes()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v; %s", err, ownmounts.Hint)
	}
	kept, err := strconv.Atoi(string(out))
	if err != nil || c.lacks(numbers(0, kept)) != 0 {
		t.Errorf("%d lines of %d did not arrive; %v", c.lacks(numbers(0, kept)), kept, err)
	}
}

// fillDisk appends to a full disk while the collector is down, then lets it come
// up, which makes room.
func fillDisk(dir, url string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		fatal("mount a small tmpfs: %v", err)
	}
	var up atomic.Bool
	o := options(filepath.Join(dir, "spool"), nil).to(url)
	send := o.Send
	o.Send = func(ctx context.Context, batch []byte) error {
		if !up.Load() {
			return errors.New("down")
		}
		return send(ctx, batch)
	}
	s, err := Open(o)
	if err != nil {
		fatal("%v", err)
	}
	n := 0
	for ; err == nil; n++ {
		err = s.Append(line(n))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		fatal("append %d says %v", n, err)
	}
	n-- // the last one was not kept
	up.Store(true)
	deadline := time.Now().Add(time.Minute)
	for s.Append(line(n)) != nil {
		if time.Now().After(deadline) {
			fatal("no line is taken although the collector is up: %+v", s.State())
		}
		time.Sleep(time.Millisecond)
	}
	for s.State().Waiting > 0 {
		if time.Now().After(deadline) {
			fatal("lines wait although the collector is up: %+v", s.State())
		}
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(context.Background()); err != nil {
		fatal("%v", err)
	}
	fmt.Print(n + 1)
}

func fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}
