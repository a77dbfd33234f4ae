package sshexec

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A session takes 2 MiB at a time, the size of the window that x/crypto/ssh and
// OpenSSH give it. On a long way that is little, so a large file then goes over
// several sessions of the same connection, each a lane with the file open.

const (
	// movers is how many reads or writes of one file are under way at once on one
	// lane, laneMovers for each trip on each of several: enough to fill its window.
	movers     = 24
	laneMovers = 10
	// A lane more is taken for every laneTrip that a round trip lasts, and as long
	// as there are laneBytes for it, up to mostLanes. To open one takes ten round
	// trips.
	laneTrip  = 12 * time.Millisecond
	laneBytes = 8 << 20
	mostLanes = 8
)

// crew does something for every number below n, in that order but many at once,
// until it fails or time is up.
type crew struct {
	ctx    context.Context
	n      int
	next   atomic.Int64
	failed atomic.Pointer[error]

	mu   sync.Mutex
	over bool           // nobody joins any more
	late sync.WaitGroup // those who have joined
}

// join has somebody work along, unless there is nothing left to do.
func (c *crew) join(work func()) {
	c.mu.Lock()
	over := c.over
	if !over {
		c.late.Add(1)
	}
	c.mu.Unlock()
	if !over {
		defer c.late.Done()
		work()
	}
}

// rest waits for those who have joined.
func (c *crew) rest() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.late.Wait()
}

// work sends workers, and waits for them to be done.
func (c *crew) work(workers int, do func(int) error) {
	var mine sync.WaitGroup
	for range min(workers, c.n) {
		mine.Go(func() {
			for c.failed.Load() == nil && c.ctx.Err() == nil {
				i := int(c.next.Add(1)) - 1
				if i >= c.n {
					return
				}
				if err := do(i); err != nil {
					c.failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	mine.Wait()
}

func (c *crew) result() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return c.ctx.Err()
}

// each does something for every number below n, many at once.
func (w *fileWork) each(n int, do func(int) error) error {
	c := &crew{ctx: w.ctx, n: n}
	c.work(movers, do)
	return c.result()
}

// lane is where a piece of a file comes from, goes to, or both.
type lane struct{ from, to *handle }

// lanes is how many are worth opening for so many bytes over a way.
func lanes(trip time.Duration, bytes int64) int {
	return int(max(1, min(int64(1+trip/laneTrip), bytes/laneBytes, mostLanes)))
}

// load is what is to be moved, and how.
type load struct {
	bytes, piece int64
	lanes        int
	trips        int // to a host and back, that a piece takes
	first        lane
	// more opens a further lane, and returns what closes it.
	more func(i int) (lane, func(), error)
	move func(l lane, i int, from, to int64) error
}

// haul moves a load piece by piece. The first lane is open; the others are used
// as soon as they are, and not waited for.
func (w *fileWork) haul(l load) error {
	c := &crew{ctx: w.ctx, n: int((l.bytes + l.piece - 1) / l.piece)}
	workers := movers
	if l.lanes > 1 {
		workers = laneMovers * l.trips
	}
	on := func(by lane) {
		c.work(workers, func(i int) error {
			from := int64(i) * l.piece
			return l.move(by, i, from, min(from+l.piece, l.bytes))
		})
	}
	for i := 1; i < l.lanes; i++ {
		w.conn.spawn(func() {
			if by, done, err := l.more(i); err == nil {
				defer done()
				c.join(func() { on(by) })
			}
		})
	}
	on(l.first)
	c.rest()
	return c.result()
}

// another opens an open file once more, on a session of its own, and returns what
// closes it. It must be the same file, by what the kernel says.
func (w *fileWork) another(h *handle, flags int) (*handle, func(), error) {
	f := w.conn.e.pool.extraFiles(w.files)
	if f == nil {
		return nil, nothing, errNoSessions
	}
	inode, err := w.inode(h)
	if err == nil && inode == 0 {
		err = errElsewhere
	}
	if err = cmp.Or(f.opened(w.ctx), err); err != nil {
		f.close()
		return nil, nothing, err
	}
	beside := &fileWork{files: f, ctx: w.ctx, r: w.r}
	h2, err := beside.hold(openRequest{asked: h.path, real: h.path, flags: flags})
	if err != nil {
		f.close()
		return nil, nothing, err
	}
	if same, err := beside.inode(h2); err != nil || same != inode {
		f.close()
		return nil, nothing, errElsewhere
	}
	return h2, f.close, nil
}

func nothing() {}

// pour writes b to a new file. Where that fails it may have gaps.
func (w *fileWork) pour(h *handle, b []byte) error {
	bytes := int64(len(b))
	return w.haul(load{
		bytes: bytes, piece: int64(w.packet), lanes: lanes(w.trip, bytes), trips: 1, first: lane{to: h},
		more: func(int) (lane, func(), error) {
			h2, done, err := w.another(h, os.O_WRONLY)
			return lane{to: h2}, done, err
		},
		move: func(l lane, _ int, from, to int64) error {
			n, err := l.to.WriteAt(b[from:to], from)
			w.bytes.Add(int64(n))
			return err
		},
	})
}

// fill reads into b. It returns how much it has read without a gap; less than
// there was room for means that the file ended there.
func (w *fileWork) fill(h *handle, b []byte, offset int64) (int, error) {
	var mu sync.Mutex
	end := int64(len(b))
	err := w.haul(load{
		bytes: end, piece: int64(w.packet), lanes: lanes(w.trip, end), trips: 1, first: lane{from: h},
		more: func(int) (lane, func(), error) {
			h2, done, err := w.another(h, os.O_RDONLY)
			return lane{from: h2}, done, err
		},
		move: func(l lane, _ int, from, to int64) error {
			n, err := l.from.ReadAt(b[from:to], offset+from)
			w.bytes.Add(int64(n))
			if errors.Is(err, io.EOF) {
				mu.Lock()
				defer mu.Unlock()
				end = min(end, from+int64(n))
				return nil
			}
			return err
		},
	})
	return int(end), err
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
