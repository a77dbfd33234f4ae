package sshexec

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCaptureKeepsHeadAndTail(t *testing.T) {
	for _, tc := range []struct {
		name      string
		limit     int64
		text      string
		want      string
		truncated bool
	}{
		{"empty", 100, "", "", false},
		{"below the limit", 100, "hello", "hello", false},
		{"at the limit", 5, "hello", "hello", false},
		{"too short for a notice", 4, "hello", "hel", true},
		{"no limit", 0, "hello", "hello", false},
		{
			"cut", 120, strings.Repeat("a", 500) + strings.Repeat("b", 500),
			strings.Repeat("a", 67) + "\n[... 911 bytes left out ...]\n" + strings.Repeat("b", 22), true,
		},
		{"no half rune at the end of the head", 4, "abé" + "xyz", "ab", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCapture(tc.limit)
			c.write([]byte(tc.text))
			got := c.stream(false)
			if string(got.Kept) != tc.want || got.Bytes != int64(len(tc.text)) || got.Truncated != tc.truncated {
				t.Errorf("kept %q of %d, truncated %v; want %q of %d, %v",
					got.Kept, got.Bytes, got.Truncated, tc.want, len(tc.text), tc.truncated)
			}
		})
	}
}

// However the text is cut into writes and whatever the limit, what is kept is
// never longer than the limit, is the text itself when that fits, stays valid
// UTF-8, and its parts are the true head and tail.
func TestCaptureAnyCut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := strings.Repeat("aé€😀", r.IntN(60))
		limit := int64(1 + r.IntN(300))
		c := newCapture(limit)
		for rest := []byte(text); len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			c.write(rest[:n])
			rest = rest[n:]
		}
		got := c.stream(false)
		if int64(len(got.Kept)) > limit {
			t.Fatalf("kept %d bytes with limit %d", len(got.Kept), limit)
		}
		if !utf8.Valid(got.Kept) {
			t.Fatalf("limit %d of %q: kept invalid %q", limit, text, got.Kept)
		}
		if got.Truncated != (int64(len(text)) > limit) || got.Bytes != int64(len(text)) {
			t.Fatalf("limit %d of %d bytes: %d counted, truncated %v", limit, len(text), got.Bytes, got.Truncated)
		}
		head, rest, _ := bytes.Cut(got.Kept, []byte("\n[..."))
		_, tail, _ := bytes.Cut(rest, []byte("...]\n"))
		if !strings.HasPrefix(text, string(head)) || !strings.HasSuffix(text, string(tail)) {
			t.Fatalf("limit %d of %q: kept %q", limit, text, got.Kept)
		}
	}
}

func TestCaptureFlood(t *testing.T) {
	c := newCapture(1 << 20)
	block := make([]byte, 1<<20)
	for i := range 63 {
		if !c.write(block) {
			t.Fatalf("flood after %d MiB", i+1)
		}
	}
	if c.write(block) {
		t.Error("no flood at 64 MiB")
	}
	if kept := len(c.stream(false).Kept); kept > 1<<20 {
		t.Errorf("kept %d bytes", kept)
	}
}

func TestCaptureCutWhileWritten(t *testing.T) {
	c := newCapture(100)
	c.write([]byte("abc"))
	if got := c.stream(true); !got.Truncated || string(got.Kept) != "abc" {
		t.Errorf("got %+v", got)
	}
}
