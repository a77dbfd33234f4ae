package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/sallyport/sallyport/pkg/journal"
)

// Options say where a stream goes. With neither sink there is nothing to open.
type Options struct {
	File    string          // path; empty for none
	Journal journal.Options // how the file grows
	Writer  io.Writer       // stderr, say; nil for none
	Now     func() time.Time
}

// Stream takes events. It is safe for concurrent use.
type Stream struct {
	id     string
	now    func() time.Time
	file   *journal.File    // may be nil
	writer journal.Appender // may be nil

	mu     sync.Mutex
	last   link   // of the last line this process knows
	line   []byte // that line, if this process wrote it
	closed bool
}

// timestamp is RFC 3339 in a fixed width, so that times sort as text.
const timestamp = "2006-01-02T15:04:05.000000Z07:00"

// link is a line's place in the chain. The zero link is before line 1.
type link struct {
	seq   uint64
	chain string
}

var (
	errNowhere = errors.New("audit stream has neither a file nor a writer")
	errForeign = errors.New("its last line is not an audit record; move the file away")
	errClosed  = errors.New("audit stream is closed")
)

// Open opens the stream and records that it did, so it fails where Write would
// fail.
func Open(o Options) (*Stream, error) {
	if o.File == "" && o.Writer == nil {
		return nil, errNowhere
	}
	s := &Stream{now: o.Now}
	if s.now == nil {
		s.now = time.Now
	}
	s.id = ulid.MustNew(ulid.Timestamp(s.now()), ulid.DefaultEntropy()).String()
	if o.Writer != nil {
		s.writer = journal.Writer(o.Writer)
	}
	if o.File != "" {
		var err error
		if s.file, err = journal.OpenWith(o.File, o.Journal); err != nil {
			return nil, err
		}
	}
	if err := s.Write(context.Background(), Event{Type: Start}); err != nil {
		return nil, errors.Join(err, s.closeFile())
	}
	return s, nil
}

// Write records an event. Its context is not looked at: what happened has
// happened. An error means that at least one sink does not have the event.
func (s *Stream) Write(_ context.Context, e Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return s.record(e)
}

// Close records the end of the stream and closes its file; the writer stays
// open.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.record(Event{Type: Stop}), s.closeFile())
}

func (s *Stream) closeFile() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// record adds the event to the chain and gives the line to every sink. The
// file comes first: with it, the chain is the file's.
func (s *Stream) record(e Event) error {
	e.TS = s.now().UTC().Format(timestamp)
	e.Stream = s.id
	line, at, err := s.append(e)
	if err != nil {
		return err
	}
	s.line, s.last = line, at
	if s.writer == nil {
		return nil
	}
	return s.writer.Append(line)
}

func (s *Stream) append(e Event) (line []byte, at link, err error) {
	if s.file == nil {
		return seal(e, s.last)
	}
	err = s.file.Extend(func(tail journal.Tail) ([]byte, error) {
		before, err := s.before(tail.Last)
		if err != nil {
			return nil, err
		}
		e.Cut = tail.Cut
		line, at, err = seal(e, before)
		return line, err
	})
	return line, at, err
}

// before is the link that the next line follows. It is the file's last one,
// unless that is older than, or not the same as, the one this process
// remembers: then somebody has tampered with the file, and the chain goes on
// from memory so that the break stays visible.
func (s *Stream) before(line []byte) (link, error) {
	if len(line) == 0 || bytes.Equal(line, s.line) {
		return s.last, nil
	}
	found, _, err := unseal(line)
	switch {
	case err != nil && s.last.seq == 0:
		return link{}, fmt.Errorf("%s: %w", s.file.Path(), errForeign)
	case err != nil, found.Seq <= s.last.seq:
		return s.last, nil
	}
	return link{found.Seq, found.chain}, nil
}
