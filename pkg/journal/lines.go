package journal

import (
	"bytes"
	"io"
	"os"
)

// chunk is how much is read at a time, from the end of a file backwards.
const chunk = 8 << 10

// lineEnd returns the offset after the last newline before size, zero if there
// is none.
func lineEnd(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, chunk)
	for to := size; to > 0; {
		from := max(to-chunk, 0)
		part := buf[:to-from]
		if _, err := f.ReadAt(part, from); err != nil && err != io.EOF {
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
func lineBefore(f io.ReaderAt, end int64) ([]byte, error) {
	start, err := lineEnd(f, end-1)
	if err != nil {
		return nil, err
	}
	line := make([]byte, end-1-start)
	_, err = f.ReadAt(line, start)
	if err == io.EOF {
		err = nil
	}
	return line, err
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
	end, err := lineEnd(f, st.Size())
	if err != nil || end == 0 {
		return nil
	}
	line, err := lineBefore(f, end)
	if err != nil {
		return nil
	}
	return line
}
