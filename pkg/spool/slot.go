package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/sallyport/sallyport/pkg/journal"
)

// slot is a directory of segments, locked by the process that writes in it: files
// of lines with rising numbers, and how far the collector has them.
type slot struct {
	dir  string
	mark *os.File // which says how far; it is the lock as well
	size int64    // at which the next segment begins

	mu       sync.Mutex
	segments []segment // oldest first; the last one is written to
	current  *journal.File
	last     int   // number of the segment that the mark is in
	read     int64 // offset in the oldest segment up to which the collector has it
	out      int64 // offset up to which lines are being handed over just now, or 0
}

type segment struct {
	number int
	size   int64 // whole lines
}

const (
	slotPrefix  = "slot-"
	sentFile    = "sent"
	segmentType = ".jsonl"
	// markFormat is the number of a segment and the offset in it of what is next.
	// It is written over itself: that needs no room on a full disk.
	markFormat = "%010d %020d\n"
)

var errTaken = errors.New("slot is another process's")

// takeSlot takes the first slot that no living process has.
func takeSlot(dir string, size int64) (*slot, error) {
	for n := 0; ; n++ {
		s, err := openSlot(filepath.Join(dir, slotPrefix+strconv.Itoa(n)), size)
		if !errors.Is(err, errTaken) {
			return s, err
		}
	}
}

// openSlot makes or takes one slot, and finds what waits in it.
func openSlot(dir string, size int64) (*slot, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	mark, err := os.OpenFile(filepath.Join(dir, sentFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s := &slot{dir: dir, mark: mark, size: size}
	switch err := syscall.Flock(int(mark.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		mark.Close()
		return nil, errTaken
	case err != nil:
		mark.Close()
		return nil, fmt.Errorf("spool: lock %s: %w", dir, err)
	}
	if err := s.find(); err != nil {
		mark.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	return s, nil
}

// find learns the segments and how far they were handed over.
func (s *slot) find() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+segmentType))
	if err != nil {
		return err
	}
	for _, name := range names {
		number, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(name), segmentType))
		if err != nil {
			continue // not one of ours
		}
		// Opening puts a torn end right, so that what is read is whole lines.
		j, err := journal.Open(name)
		if err != nil {
			return err
		}
		st, err := os.Stat(name)
		if err = errors.Join(err, j.Close()); err != nil {
			return err
		}
		s.segments = append(s.segments, segment{number, st.Size()})
	}
	slices.SortFunc(s.segments, func(a, b segment) int { return a.number - b.number })
	return s.resume()
}

// resume goes on where the last process stopped. A mark that cannot be read, as
// a power cut may leave it, means that lines are handed over twice.
func (s *slot) resume() error {
	var offset int64
	if n, _ := fmt.Fscanf(io.NewSectionReader(s.mark, 0, 64), markFormat, &s.last, &offset); n != 2 {
		s.last = 0
		return s.write(0, 0) // while there is room for it
	}
	for len(s.segments) > 0 && s.segments[0].number < s.last {
		if err := s.forget(); err != nil {
			return err
		}
	}
	if len(s.segments) > 0 && s.segments[0].number == s.last && offset <= s.segments[0].size {
		s.read = offset
	}
	return nil
}

// write marks how far the collector has the lines.
func (s *slot) write(number int, offset int64) error {
	_, err := s.mark.WriteAt(fmt.Appendf(nil, markFormat, number, offset), 0)
	return err
}

func (s *slot) path(number int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d%s", number, segmentType))
}

// append adds a line within the bytes that may wait. It returns how many lines
// had to go for it.
func (s *slot) append(line []byte, most int64, dropOldest bool) (dropped int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	need := int64(len(line)) + 1
	for s.used()+need > most {
		if !dropOldest || len(s.segments) < 2 {
			return dropped, fmt.Errorf("%w: %d bytes wait in %s", ErrFull, s.used(), s.dir)
		}
		n, err := s.drop()
		dropped += n
		if err != nil {
			return dropped, err
		}
	}
	if err := s.ready(); err != nil {
		return dropped, err
	}
	if err := s.current.Append(line); err != nil {
		return dropped, err
	}
	s.segments[len(s.segments)-1].size += need
	return dropped, nil
}

// used is what the segments take of the disk.
func (s *slot) used() (bytes int64) {
	for _, seg := range s.segments {
		bytes += seg.size
	}
	return bytes
}

// ready sees to a segment that takes a line.
func (s *slot) ready() error {
	last := len(s.segments) - 1
	if s.current != nil && s.segments[last].size < s.size {
		return nil
	}
	number := s.last + 1 // what was handed over last is not used again
	if last >= 0 {
		number = s.segments[last].number + 1
	}
	next, err := journal.Open(s.path(number))
	if err != nil {
		return err
	}
	if s.current != nil {
		s.current.Close()
	}
	s.current = next
	s.segments = append(s.segments, segment{number: number})
	return nil
}

// drop removes the oldest segment and counts the lines in it that are lost. Those
// that are on their way to the collector may still arrive; [slot.missed] counts
// them if they do not.
func (s *slot) drop() (lines int64, err error) {
	text, err := os.ReadFile(s.path(s.segments[0].number))
	if err != nil {
		return 0, err
	}
	lines = int64(bytes.Count(text[min(max(s.read, s.out), int64(len(text))):], []byte{'\n'}))
	return lines, s.forget()
}

// forget removes the oldest segment.
func (s *slot) forget() error {
	if err := os.Remove(s.path(s.segments[0].number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.segments, s.read, s.out = s.segments[1:], 0, 0
	return nil
}

// waiting is how many bytes the collector does not have.
func (s *slot) waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used() - s.read
}

// chunk is lines of one segment that come next.
type chunk struct {
	number int
	from   int64 // offset in the segment
	text   []byte
}

// next reads up to a number of bytes of whole lines, and at least one line; none
// if nothing waits.
func (s *slot) next(most int) (*chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.segments) > 0 && s.read == s.segments[0].size {
		if len(s.segments) == 1 {
			return nil, nil
		}
		if err := s.forget(); err != nil {
			return nil, err
		}
	}
	if len(s.segments) == 0 {
		return nil, nil
	}
	seg := s.segments[0]
	f, err := os.Open(s.path(seg.number))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for ; ; most *= 2 {
		text := make([]byte, min(int64(most), seg.size-s.read))
		if _, err := f.ReadAt(text, s.read); err != nil {
			return nil, err
		}
		if end := bytes.LastIndexByte(text, '\n'); end >= 0 {
			s.out = s.read + int64(end) + 1
			return &chunk{seg.number, s.read, text[:end+1]}, nil
		}
		if int64(len(text)) == seg.size-s.read {
			return nil, fmt.Errorf("%s has no whole line at %d", f.Name(), s.read)
		}
	}
}

// sent remembers that the collector has the first n bytes of a chunk. What was
// dropped meanwhile is gone already.
func (s *slot) sent(c *chunk, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.from, c.text = c.from+int64(n), c.text[n:]
	if s.gone(c) {
		return nil
	}
	s.read, s.last = c.from, c.number
	if err := s.write(c.number, c.from); err != nil {
		return err
	}
	if len(s.segments) > 1 && s.read == s.segments[0].size {
		return s.forget()
	}
	return nil
}

// missed says that the rest of a chunk did not arrive, and counts the lines of it
// that are lost because their segment was dropped meanwhile.
func (s *slot) missed(c *chunk) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone(c) {
		return int64(bytes.Count(c.text, []byte{'\n'}))
	}
	s.out = 0
	return 0
}

func (s *slot) gone(c *chunk) bool { return len(s.segments) == 0 || s.segments[0].number != c.number }

// close lets another process have the slot. What the collector has need not stay.
func (s *slot) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.current != nil {
		err = s.current.Close()
		s.current = nil
	}
	if len(s.segments) == 1 && s.read == s.segments[0].size {
		err = errors.Join(err, s.forget())
	}
	return errors.Join(err, s.mark.Close())
}
