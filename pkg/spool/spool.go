// Package spool keeps lines on disk until a collector elsewhere has them.
//
// [Spool.Append] returns once a line is in a file, so what was appended survives
// the process, and whoever may not act without a record can act. A sender in the
// background hands the lines over in their order, in gzip'ed JSON arrays of a
// bounded size, the format of OPA's decision log service. What the collector has
// accepted is forgotten; what it has not is tried again, with growing pauses, for
// as long as it takes, also by a later process. Each line is handed over at least
// once: after a crash in the wrong moment some come twice, and their ids tell.
//
// Nothing is lost in silence. What may wait on the disk is bounded; once it is
// full, Append refuses with [ErrFull], or, if that was chosen, the oldest lines
// make room and are counted. A line that the collector will not have as it is,
// alone and in its format, is put aside in a file and counted, so that it does
// not stop the others.
//
// Several processes may share a directory. Each writes in a slot of its own,
// locked while it lives, and hands over what dead ones have left behind.
package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/journal"
)

// ErrFull says that a line was not taken because as much as may wait is waiting.
var ErrFull = errors.New("spool is full")

// ErrRejected is what [Options.Send] answers when the collector will not take a
// batch however often it is sent: it is too large, or not what it understands.
var ErrRejected = errors.New("batch is rejected")

// Options say where lines wait, for whom, and how many.
type Options struct {
	Dir string
	// MaxBytes bounds what waits on disk, for each process.
	MaxBytes int64
	// DropOldest makes room for new lines when the spool is full, at the cost of
	// the oldest ones. Otherwise new lines are refused.
	DropOldest bool
	// BatchBytes bounds a compressed batch, unless a single line is larger.
	BatchBytes int
	// MinDelay is how long a line waits for others to come along, and the first
	// pause after a failure; pauses double up to MaxDelay.
	MinDelay, MaxDelay time.Duration
	// Send hands over one gzip'ed JSON array of lines. It returns nil once the
	// collector has it; an error that is [ErrRejected] if it never will.
	Send   func(ctx context.Context, batch []byte) error
	Logger *slog.Logger
}

// State is what a spool has done so far.
type State struct {
	Waiting int64     // bytes on disk that the collector does not have yet
	Sent    int64     // lines that it has accepted
	Lost    int64     // lines that made room for others, or were put aside
	Failing time.Time // since when nothing could be handed over; zero if the last try succeeded
	Err     error     // why
}

// Spool is the open spool of one process.
type Spool struct {
	o        Options
	own      *slot
	rejected *journal.File
	wake     chan struct{} // something was appended
	stop     context.CancelFunc
	done     chan struct{}

	mu    sync.Mutex
	state State
}

// rejectedFile is below the directory, for whoever wants to know what a collector
// would not have. It is cut by size, like any log.
const (
	rejectedFile  = "rejected.jsonl"
	rejectedBytes = 16 << 20
)

// Open takes a slot in the directory, finds what earlier processes have left in
// it, and begins to hand over.
func Open(o Options) (*Spool, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	own, err := takeSlot(o.Dir, segmentBytes(o.MaxBytes))
	if err != nil {
		return nil, err
	}
	rejected, err := journal.OpenWith(filepath.Join(o.Dir, rejectedFile), journal.Options{MaxBytes: rejectedBytes, Keep: 1})
	if err != nil {
		own.close()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Spool{o: o, own: own, rejected: rejected, wake: make(chan struct{}, 1), stop: stop, done: make(chan struct{})}
	go s.deliver(ctx)
	return s, nil
}

// segmentBytes is the size of a file: small enough that dropping the oldest costs
// a small part of what waits.
func segmentBytes(most int64) int64 { return min(max(most/16, 4<<10), 16<<20) }

// Append keeps a line, which is to be JSON without a line break. An error says
// that it was not kept: [ErrFull], or what the disk said.
func (s *Spool) Append(line []byte) error {
	dropped, err := s.own.append(line, s.o.MaxBytes, s.o.DropOldest)
	if dropped > 0 {
		s.lost(dropped)
		s.o.Logger.Error("records lost: the spool is full and the oldest make room", "dir", s.o.Dir, "lost", dropped)
	}
	if err != nil {
		return err
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// State tells how far the spool has come.
func (s *Spool) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Waiting = s.own.waiting()
	return st
}

func (s *Spool) count(change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}

func (s *Spool) lost(lines int64) { s.count(func(st *State) { st.Lost += lines }) }

// Close stops handing over, tries once more to be rid of what waits until the
// context ends, and leaves the rest on disk for the next process.
func (s *Spool) Close(ctx context.Context) error {
	s.stop()
	<-s.done
	for s.own.waiting() > 0 && s.handOver(ctx, s.own) == nil {
	}
	return errors.Join(s.own.close(), s.rejected.Close())
}
