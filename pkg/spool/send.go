package spool

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"time"
)

// deliver hands over until it is stopped: its own lines as they come, and what
// dead processes have left.
func (s *Spool) deliver(ctx context.Context) {
	defer close(s.done)
	pause := s.o.MinDelay
	for ctx.Err() == nil {
		err := s.all(ctx)
		switch {
		case err == nil:
			pause = s.o.MinDelay
			s.await(ctx)
		default:
			s.failed(ctx, err)
			rest(ctx, pause/2+rand.N(pause/2+1))
			pause = min(2*pause, s.o.MaxDelay)
		}
	}
}

// await waits for a line, and then for others to come along with it. From time
// to time it looks for what dead processes have left.
func (s *Spool) await(ctx context.Context) {
	look := time.NewTimer(s.o.MaxDelay)
	defer look.Stop()
	select {
	case <-ctx.Done():
		return
	case <-look.C:
		return
	case <-s.wake:
	}
	rest(ctx, s.o.MinDelay)
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// failed says once that nothing can be handed over, and why.
func (s *Spool) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	first := false
	s.count(func(st *State) {
		first = st.Failing.IsZero()
		if first {
			st.Failing = time.Now()
		}
		st.Err = err
	})
	if first {
		s.o.Logger.Error("records wait on disk: they cannot be handed over", "dir", s.o.Dir, "err", err)
	}
}

func (s *Spool) succeeded(lines int64) {
	var down time.Duration
	s.count(func(st *State) {
		st.Sent += lines
		if !st.Failing.IsZero() {
			down = time.Since(st.Failing)
		}
		st.Failing, st.Err = time.Time{}, nil
	})
	if down > 0 {
		s.o.Logger.Info("records are handed over again", "dir", s.o.Dir, "after", down.Round(time.Millisecond))
	}
}

// all hands over everything that waits, the older processes' first.
func (s *Spool) all(ctx context.Context) error {
	left, err := filepath.Glob(filepath.Join(s.o.Dir, slotPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if dir == s.own.dir {
			continue
		}
		if err := s.adopt(ctx, dir); err != nil {
			return err
		}
	}
	return s.empty(ctx, s.own)
}

// adopt hands over what a slot holds that nobody has.
func (s *Spool) adopt(ctx context.Context, dir string) error {
	other, err := openSlot(dir, s.own.size)
	if errors.Is(err, errTaken) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(s.empty(ctx, other), other.close())
}

func (s *Spool) empty(ctx context.Context, from *slot) error {
	for from.waiting() > 0 {
		if err := s.handOver(ctx, from); err != nil {
			return err
		}
	}
	return nil
}

// A batch is read in pieces of text that become about BatchBytes when compressed:
// records compress to a tenth or less. Memory is bounded by mostText.
const (
	compression = 8
	mostText    = 4 << 20
)

// handOver hands over the next batch of a slot.
func (s *Spool) handOver(ctx context.Context, from *slot) error {
	c, err := from.next(min(s.o.BatchBytes*compression, mostText))
	if err != nil || c == nil {
		return err
	}
	for len(c.text) > 0 {
		n, err := s.sendSome(ctx, c.text)
		if err != nil {
			s.lost(from.missed(c))
			return err
		}
		if err := from.sent(c, n); err != nil {
			return err
		}
	}
	return nil
}

// sendSome hands over the first lines of a text, as many as fit into a batch, or
// puts the first one aside. It returns of how many bytes the spool is rid.
func (s *Spool) sendSome(ctx context.Context, text []byte) (int, error) {
	lines := bytes.SplitAfter(text, []byte{'\n'})
	n := len(lines) - 1 // behind the last newline is nothing
	for {
		batch := pack(lines[:n])
		if len(batch) > s.o.BatchBytes && n > 1 {
			n = max(1, min(n-1, n*s.o.BatchBytes/len(batch)))
			continue
		}
		err := s.o.Send(ctx, batch)
		switch {
		case err == nil:
			s.succeeded(int64(n))
		case !errors.Is(err, ErrRejected):
			return 0, err
		case n > 1:
			n /= 2
			continue
		default:
			err = s.putAside(lines[0], err)
		}
		return textBytes(lines[:n]), err
	}
}

func textBytes(lines [][]byte) (n int) {
	for _, line := range lines {
		n += len(line)
	}
	return n
}

// putAside keeps a line that the collector will not have.
func (s *Spool) putAside(line []byte, why error) error {
	if err := s.rejected.Append(bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
		return err
	}
	s.lost(1)
	s.o.Logger.Error("a record is put aside: the collector rejects it", "file", s.rejected.Path(), "err", why)
	return nil
}

// pack makes one gzip'ed JSON array of lines of JSON.
func pack(lines [][]byte) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed) // the level is a valid one
	before := byte('[')
	for _, line := range lines {
		_, _ = z.Write([]byte{before})
		_, _ = z.Write(bytes.TrimSuffix(line, []byte{'\n'}))
		before = ','
	}
	_, _ = z.Write([]byte{']'})
	_ = z.Close() // a buffer takes everything
	return out.Bytes()
}
