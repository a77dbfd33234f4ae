package spool

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// collector keeps what it is sent, unless it is told to do otherwise.
type collector struct {
	mu      sync.Mutex
	down    error
	refuse  func(batch []int) error
	got     []int
	largest int // compressed batch
	taken   chan struct{}
}

func newCollector() *collector { return &collector{taken: make(chan struct{}, 1)} }

func (c *collector) send(_ context.Context, batch []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return c.down
	}
	lines, err := unpack(batch)
	if err != nil {
		return err
	}
	if c.refuse != nil {
		if err := c.refuse(lines); err != nil {
			return err
		}
	}
	c.largest = max(c.largest, len(batch))
	c.got = append(c.got, lines...)
	select {
	case c.taken <- struct{}{}:
	default:
	}
	return nil
}

func (c *collector) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// wait returns once the collector has as many lines.
func (c *collector) wait(t *testing.T, n int) []int {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		c.mu.Lock()
		got := slices.Clone(c.got)
		c.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-c.taken:
		case <-deadline:
			t.Fatalf("the collector has %d lines of %d", len(got), n)
		}
	}
}

func unpack(batch []byte) ([]int, error) {
	z, err := gzip.NewReader(bytes.NewReader(batch))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	var lines []struct{ N int }
	if err := json.Unmarshal(text, &lines); err != nil {
		return nil, err
	}
	var ns []int
	for _, l := range lines {
		ns = append(ns, l.N)
	}
	return ns, nil
}

func line(n int) []byte { return fmt.Appendf(nil, `{"N":%d,"pad":%q}`, n, strings.Repeat("x", 200)) }

func options(dir string, c *collector) Options {
	return Options{
		Dir: dir, MaxBytes: 1 << 20, BatchBytes: 1 << 10, MinDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond,
		Send: c.send, Logger: slog.New(slog.DiscardHandler),
	}
}

func mustOpen(t *testing.T, o Options) *Spool {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Spool) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func appendLines(t *testing.T, s *Spool, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := s.Append(line(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers(from, to int) []int {
	var ns []int
	for n := from; n < to; n++ {
		ns = append(ns, n)
	}
	return ns
}

func wantLines(t *testing.T, got, want []int) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestHandsOverInOrder(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := newCollector()
	s := mustOpen(t, options(t.TempDir(), c))
	appendLines(t, s, 0, 3000) // several segments
	wantLines(t, c.wait(t, 3000), numbers(0, 3000))
	mustClose(t, s)
	if c.largest > 1<<10 {
		t.Errorf("a batch has %d bytes", c.largest)
	}
	if st := s.State(); st.Sent != 3000 || st.Lost != 0 || st.Waiting != 0 || st.Err != nil {
		t.Errorf("state %+v", st)
	}
}

// What a collector that is down does not get waits, over restarts, and comes in
// order and once when it is up again.
func TestOutage(t *testing.T) {
	dir, c := t.TempDir(), newCollector()
	c.down = errors.New("connection refused")
	for round := range 3 {
		s := mustOpen(t, options(dir, c))
		appendLines(t, s, round*100, round*100+100)
		if st := s.State(); st.Waiting == 0 || st.Sent != 0 {
			t.Errorf("state %+v", st)
		}
		mustClose(t, s)
	}
	c.set(func() { c.down = nil })
	s := mustOpen(t, options(dir, c))
	wantLines(t, c.wait(t, 300), numbers(0, 300))
	appendLines(t, s, 300, 310)
	wantLines(t, c.wait(t, 310), numbers(0, 310))
	mustClose(t, s)
}

func TestFullRefuses(t *testing.T) {
	c := newCollector()
	c.down = errors.New("down")
	o := options(t.TempDir(), c)
	o.MaxBytes = 20_000
	s := mustOpen(t, o)
	defer mustClose(t, s)
	var n int
	var err error
	for ; err == nil; n++ {
		err = s.Append(line(n))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("append says %v", err)
	}
	if size := diskUse(t, o.Dir); size > o.MaxBytes+100 {
		t.Errorf("%d bytes are on disk", size)
	}
	c.set(func() { c.down = nil })
	wantLines(t, c.wait(t, n-1), numbers(0, n-1))
	appendLines(t, s, n-1, n)
	wantLines(t, c.wait(t, n), numbers(0, n))
	if st := s.State(); st.Lost != 0 {
		t.Errorf("state %+v", st)
	}
}

func TestFullDropsOldest(t *testing.T) {
	c := newCollector()
	c.down = errors.New("down")
	o := options(t.TempDir(), c)
	o.MaxBytes, o.DropOldest = 20_000, true
	s := mustOpen(t, o)
	defer mustClose(t, s)
	appendLines(t, s, 0, 500)
	lost := int(s.State().Lost)
	if lost == 0 || lost > 450 {
		t.Fatalf("%d lines of 500 are lost", lost)
	}
	c.set(func() { c.down = nil })
	got := c.wait(t, 500-lost)
	// Lines that were on their way when their file was dropped may have arrived.
	if n := len(slices.Compact(got)); n+int(s.State().Lost) != 500 || !slices.IsSorted(got) || got[n-1] != 499 {
		t.Errorf("%d lines arrived and %d are lost: %v", n, s.State().Lost, got)
	}
}

// A line that the collector will never have does not stop those behind it, and
// is not gone.
func TestRejected(t *testing.T) {
	dir, c := t.TempDir(), newCollector()
	c.refuse = func(batch []int) error {
		if slices.Contains(batch, 5) {
			return fmt.Errorf("%w: 413", ErrRejected)
		}
		return nil
	}
	s := mustOpen(t, options(dir, c))
	appendLines(t, s, 0, 20)
	wantLines(t, c.wait(t, 19), slices.DeleteFunc(numbers(0, 20), func(n int) bool { return n == 5 }))
	mustClose(t, s)
	if st := s.State(); st.Sent != 19 || st.Lost != 1 {
		t.Errorf("state %+v", st)
	}
	aside, err := os.ReadFile(filepath.Join(dir, rejectedFile))
	if err != nil || string(aside) != string(line(5))+"\n" {
		t.Errorf("put aside is %q, %v", aside, err)
	}
}

// Two processes share a directory; the lines of one that is dead are handed over
// by the other.
func TestSlots(t *testing.T) {
	dir, c := t.TempDir(), newCollector()
	c.down = errors.New("down")
	one, two := mustOpen(t, options(dir, c)), mustOpen(t, options(dir, c))
	appendLines(t, one, 0, 50)
	appendLines(t, two, 50, 100)
	mustClose(t, one)
	c.set(func() { c.down = nil })
	got := c.wait(t, 100)
	slices.Sort(got)
	wantLines(t, got, numbers(0, 100))
	mustClose(t, two)
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*"+segmentType)); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// One line larger than a batch goes alone.
func TestLongLine(t *testing.T) {
	c := newCollector()
	o := options(t.TempDir(), c)
	o.BatchBytes = 64
	s := mustOpen(t, o)
	defer mustClose(t, s)
	appendLines(t, s, 0, 10)
	wantLines(t, c.wait(t, 10), numbers(0, 10))
}

// A mark that is no mark, as a power cut may leave it, loses nothing.
func TestTornMark(t *testing.T) {
	dir, c := t.TempDir(), newCollector()
	s := mustOpen(t, options(dir, c))
	appendLines(t, s, 0, 10)
	c.wait(t, 10)
	c.set(func() { c.down = errors.New("down") })
	appendLines(t, s, 10, 20)
	mustClose(t, s)
	if err := os.WriteFile(filepath.Join(dir, slotPrefix+"0", sentFile), make([]byte, 12), 0o600); err != nil {
		t.Fatal(err)
	}
	c.set(func() { c.down, c.got = nil, nil })
	s = mustOpen(t, options(dir, c))
	defer mustClose(t, s)
	wantLines(t, c.wait(t, 20), numbers(0, 20))
}

func diskUse(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
