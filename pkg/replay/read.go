package replay

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	// chunkBytes is how much is handed to a worker at a time.
	chunkBytes = 256 << 10
	// maxLine is how long a line may be. The longest record of a call is far
	// below.
	maxLine = 16 << 20
)

// lines are lines of text in one buffer.
type lines struct {
	text []byte
	ends []int
}

// buffers are used again by later chunks.
var buffers = sync.Pool{New: func() any { return &lines{} }}

func newLines() *lines {
	l := buffers.Get().(*lines)
	l.text, l.ends = l.text[:0], l.ends[:0]
	return l
}

func (l *lines) add(line []byte) {
	l.text = append(l.text, line...)
	l.ends = append(l.ends, len(l.text))
}

func (l *lines) each() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		from := 0
		for _, to := range l.ends {
			if !yield(l.text[from:to]) {
				return
			}
			from = to
		}
	}
}

// source is one log.
type source struct {
	name string
	from io.Reader
	file *os.File // nil for standard input
}

// open opens all logs before any is read: one that is missing is told at once.
func open(o Options) ([]source, error) {
	var all []source
	for _, name := range o.Logs {
		if name == "-" {
			all = append(all, source{"standard input", o.Stdin, nil})
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("log: %w", err)
		}
		all = append(all, source{name, f, f})
	}
	return all, nil
}

func closeAll(sources []source) {
	for _, s := range sources {
		if s.file != nil {
			s.file.Close()
		}
	}
}

// readings are what reading the logs told beside the decisions.
type readings struct {
	logs     []Log
	problems []Problem
	err      error
}

// readAll hands the lines of all logs to the workers and to the one who counts,
// in order.
func readAll(ctx context.Context, sources []source, work, order chan<- *chunk) (found readings) {
	defer close(order)
	defer close(work)
	for _, s := range sources {
		n, err := s.read(ctx, func(c *chunk) {
			order <- c
			work <- c
		})
		found.logs = append(found.logs, Log{s.name, n})
		switch p := (Problem{}); {
		case errors.As(err, &p):
			found.problems = append(found.problems, p)
		case err != nil:
			found.err = err
			return found
		}
	}
	return found
}

// read cuts a log into chunks and counts its lines. An error that is a Problem
// says that the rest of this log cannot be read.
func (s source) read(ctx context.Context, give func(*chunk)) (n int, err error) {
	r, err := s.unpacked()
	if err != nil {
		return 0, err
	}
	c := s.chunk(1)
	for err == nil && ctx.Err() == nil {
		var line []byte
		line, err = nextLine(r)
		if err == nil || errors.Is(err, io.EOF) && len(line) > 0 {
			c.lines.add(line)
			n++
		}
		if len(c.lines.text) >= chunkBytes {
			give(c)
			c = s.chunk(n + 1)
		}
	}
	give(c)
	switch {
	case ctx.Err() != nil:
		return n, context.Cause(ctx)
	case errors.Is(err, io.EOF):
		return n, nil
	case packed(err):
		return n, Problem{s.name, n + 1, "the compressed file is broken from here on: " + err.Error()}
	}
	return n, fmt.Errorf("log %s: %w", s.name, err)
}

func (s source) chunk(first int) *chunk {
	return &chunk{log: s.name, first: first, lines: newLines(), done: make(chan judged, 1)}
}

// unpacked reads through gzip, which is told by how the file begins.
func (s source) unpacked() (*bufio.Reader, error) {
	r := bufio.NewReaderSize(s.from, 64<<10)
	begin, err := r.Peek(2)
	if err != nil || !bytes.Equal(begin, []byte{0x1f, 0x8b}) {
		return r, nil // what is wrong with it shows when it is read
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, Problem{s.name, 1, "the compressed file is broken: " + err.Error()}
	}
	return bufio.NewReaderSize(z, 64<<10), nil
}

// packed says that an error is one of what was compressed.
func packed(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) ||
		errors.As(err, new(flate.CorruptInputError))
}

// nextLine is the next line, valid until the next call. Of one that is too long
// it gives the first maxLine bytes.
func nextLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = r.ReadSlice('\n')
		if len(long) <= maxLine {
			long = append(long, line...)
		}
	}
	return long[:min(len(long), maxLine)], err
}

// Rotated lists a log behind the files that it was rotated away to, the oldest
// first: LOG-20261101.gz, LOG.2.gz, LOG.1, LOG.
func Rotated(log string) ([]string, error) {
	dir, err := os.ReadDir(filepath.Dir(log))
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	ages := map[string]int{} // the greater, the older
	for _, f := range dir {
		rest, ok := strings.CutPrefix(f.Name(), filepath.Base(log))
		m := rotatedName.FindStringSubmatch(rest)
		if !ok || m == nil {
			continue
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			continue
		}
		if m[1] == "-" {
			n = dateAge - n
		}
		ages[filepath.Join(filepath.Dir(log), f.Name())] = n
	}
	older := slices.SortedFunc(maps.Keys(ages), func(a, b string) int {
		return cmp.Or(ages[b]-ages[a], strings.Compare(a, b))
	})
	return append(older, log), nil
}

var rotatedName = regexp.MustCompile(`^([.-])([0-9]+)(?:\.gz)?$`)

// dateAge makes an age of a date: of dates the greater is the younger.
const dateAge = 1_000_000_000_000
