package journal

import (
	"bytes"
	"io"
	"os"
)

// chunk is how much is read at a time, from the end of a file backwards.
const chunk = 8 << 10

// backwards reads a file from its end. The chunk that it has read last stays at
// hand: the last line and where it begins are mostly found with one read.
type backwards struct {
	f    io.ReaderAt
	part []byte // of the file, from from on
	from int64
}

// upTo is the rest, up to an offset, of the chunk before that offset.
func (r *backwards) upTo(to int64) (part []byte, from int64, err error) {
	from = (to - 1) / chunk * chunk
	n := to - from
	if from != r.from || n > int64(len(r.part)) {
		r.part, r.from = make([]byte, n), from
		if err := readAt(r.f, r.part, from); err != nil {
			return nil, 0, err
		}
	}
	return r.part[:n], from, nil
}

// lineEnd returns the offset after the last newline before size, zero if there
// is none.
func (r *backwards) lineEnd(size int64) (int64, error) {
	for to := size; to > 0; {
		part, from, err := r.upTo(to)
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		to = from
	}
	return 0, nil
}

// lineBefore returns the line, without its newline, that ends at end.
func (r *backwards) lineBefore(end int64) ([]byte, error) {
	start, err := r.lineEnd(end - 1)
	if err != nil {
		return nil, err
	}
	line := make([]byte, end-1-start)
	if at := start - r.from; at >= 0 && copy(line, r.part[at:]) == len(line) {
		return line, nil
	}
	return line, readAt(r.f, line, start)
}

// readAt is ReadAt, but for a file that others have cut meanwhile: what is gone
// stays zero.
func readAt(f io.ReaderAt, p []byte, at int64) error {
	_, err := f.ReadAt(p, at)
	if err == io.EOF {
		return nil
	}
	return err
}

// lastLineOf returns the last complete line of the file at path, nil if it has
// none or cannot be read.
func lastLineOf(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	r := backwards{f: f}
	end, err := r.lineEnd(st.Size())
	if err != nil || end == 0 {
		return nil
	}
	line, err := r.lineBefore(end)
	if err != nil {
		return nil
	}
	return line
}
