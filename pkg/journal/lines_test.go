package journal

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// counted counts the reads of a file.
type counted struct {
	*bytes.Reader
	reads int
}

func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	c.reads++
	return c.Reader.ReadAt(p, at)
}

// The last line is found wherever its newlines lie between the chunks.
func TestLastLine(t *testing.T) {
	for range 2000 {
		var lines []string
		for range rand.IntN(4) {
			lines = append(lines, strings.Repeat("x", rand.IntN(chunk+chunk/2)+rand.IntN(3)*chunk-rand.IntN(2)*chunk/4+chunk/4))
		}
		text := strings.Join(lines, "\n")
		r := backwards{f: bytes.NewReader([]byte(text))}
		end, err := r.lineEnd(int64(len(text)))
		if want := strings.LastIndexByte(text, '\n') + 1; err != nil || end != int64(want) {
			t.Fatalf("%d bytes: the last line ends at %d, want %d (%v)", len(text), end, want, err)
		}
		if end == 0 {
			continue
		}
		line, err := r.lineBefore(end)
		if want := lines[len(lines)-2]; err != nil || string(line) != want {
			t.Fatalf("%d bytes: the line before %d has %d bytes, want %d (%v)", len(text), end, len(line), len(want), err)
		}
	}
}

// What another process has appended is learned with one read of the file.
func TestLastLineIsReadOnce(t *testing.T) {
	text := strings.Repeat(strings.Repeat("x", 200)+"\n", 500)[:10*chunk+chunk/2]
	f := &counted{Reader: bytes.NewReader([]byte(text))}
	r := backwards{f: f}
	end, err := r.lineEnd(int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.lineBefore(end); err != nil || f.reads != 1 {
		t.Errorf("%d reads of the file (%v)", f.reads, err)
	}
}
