package sshexec

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// movers is how many reads or writes of one file are under way at once.
const movers = 24

// pour writes b to a new file with many requests at once. One that failed may
// leave gaps.
func (w *fileWork) pour(h *handle, b []byte) error {
	return w.chunks(int64(len(b)), func(from, to int64) error {
		n, err := h.WriteAt(b[from:to], from)
		w.bytes.Add(int64(n))
		return err
	})
}

// fill reads into b. It returns how much it has read without a gap; less than
// there was room for means that the file ended there.
func (w *fileWork) fill(h *handle, b []byte, offset int64) (int, error) {
	var mu sync.Mutex
	end := int64(len(b))
	err := w.chunks(end, func(from, to int64) error {
		n, err := h.ReadAt(b[from:to], offset+from)
		w.bytes.Add(int64(n))
		if errors.Is(err, io.EOF) {
			mu.Lock()
			defer mu.Unlock()
			end = min(end, from+int64(n))
			return nil
		}
		return err
	})
	return int(end), err
}

// chunks has move done for every piece of so many bytes, many at once.
func (w *fileWork) chunks(bytes int64, move func(from, to int64) error) error {
	size := int64(w.packet)
	return w.each(int((bytes+size-1)/size), func(i int) error {
		from := int64(i) * size
		return move(from, min(from+size, bytes))
	})
}

// each does something for every number below n, many at once and in that order,
// until it fails or time is up.
func (w *fileWork) each(n int, do func(int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for range min(movers, n) {
		all.Go(func() {
			for failed.Load() == nil && w.ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return w.ctx.Err()
}

// digest is the SHA-256 of an open file, which is read once more for it.
func (w *fileWork) digest(h *handle) (string, error) {
	sum := sha256.New()
	buf := make([]byte, movers*w.packet)
	for at := int64(0); ; {
		n, err := w.fill(h, buf, at)
		if err != nil {
			return "", err
		}
		sum.Write(buf[:n])
		if at += int64(n); n < len(buf) {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
	}
}
