package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Options say how a [File] grows. The zero value is one file that grows until
// somebody else rotates it, written without waiting for the disk.
type Options struct {
	// MaxBytes begins a new file once the current one has this size; zero
	// never does. The old file becomes PATH.1, the one before it PATH.2.
	MaxBytes int64
	// Keep is how many old files stay; zero keeps all.
	Keep int
	// Sync waits until the disk has a line before Append returns. Without it
	// a line survives the death of the process but not a power cut.
	Sync bool
}

// Tail is the end of a journal, as the process about to append finds it.
type Tail struct {
	// Last is the last complete line, also when it stands in the file that
	// was current before the last rotation; nil if there is none. It is valid
	// until the function that it was given to returns.
	Last []byte
	// Cut counts the bytes of an unfinished line that was removed just now.
	Cut int64
}

// File is an append-only file of lines. Its methods may be called from several
// goroutines; several processes may have the same path open.
type File struct {
	path     string
	opts     Options
	patience time.Duration

	mu      sync.Mutex
	f       *os.File    // nil once closed
	itself  fs.FileInfo // of f, to know it again
	regular bool        // false for a device or a pipe, which is only written to
	size    int64       // up to here the file is whole lines; unsettled if unknown
	tail    Tail
	buf     []byte
	before  fs.FileInfo // the file that was open before this one, until this one is settled
}

// unsettled is the size of a file whose end has to be looked at.
const unsettled = -1

// lockPatience bounds the wait for another process, which holds the lock for
// the time of one write. One that was stopped while it holds it must not hang
// this one for ever.
const lockPatience = 5 * time.Second

var (
	errMoved    = errors.New("file was moved away")
	errLockHeld = errors.New("another process does not let go of its lock")
)

// Open opens the journal at path for appending, without options.
func Open(path string) (*File, error) { return OpenWith(path, Options{}) }

// OpenWith opens the journal at path for appending. It makes the file (mode
// 0600) and its directory (0700) where they are missing and puts the end of the
// file right, so it fails where Append would fail.
func OpenWith(path string, opts Options) (*File, error) {
	j := &File{path: path, opts: opts, patience: lockPatience}
	if err := j.open(); err != nil {
		return nil, unwritable(path, err)
	}
	if err := j.acquire(); err != nil {
		j.f.Close()
		return nil, unwritable(path, err)
	}
	if j.regular && j.tail.Last == nil {
		j.tail.Last = lastLineOf(rotated(path, 1))
	}
	j.release()
	return j, nil
}

// Path is where the journal was opened.
func (j *File) Path() string { return j.path }

// Append adds line and a newline. The line itself must not hold one.
func (j *File) Append(line []byte) error {
	return j.Extend(func(Tail) ([]byte, error) { return line, nil })
}

// Extend adds the line that next makes of the journal's end. No process can
// append between the call of next and the line's arrival in the file, so a
// line may refer to the one before it. An error of next is returned as it is
// and leaves the journal alone; next must not use the journal itself.
func (j *File) Extend(next func(Tail) ([]byte, error)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return unwritable(j.path, os.ErrClosed)
	}
	if err := j.acquire(); err != nil {
		return unwritable(j.path, err)
	}
	defer j.release()
	line, err := next(j.tail)
	if err != nil {
		return err
	}
	if bytes.IndexByte(line, '\n') >= 0 {
		return errLineBreak
	}
	if err := j.write(line); err != nil {
		return unwritable(j.path, err)
	}
	return nil
}

// Close closes the file. A closed File takes no more lines.
func (j *File) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return nil
	}
	err := j.f.Close()
	j.f = nil
	return err
}

// open puts the file at the path in place of the current one.
func (j *File) open() error {
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	mode := os.O_RDWR
	if st, err := os.Stat(j.path); err == nil && !st.Mode().IsRegular() {
		mode = os.O_WRONLY
	}
	// Without O_NONBLOCK a named pipe that nobody reads would hang the caller.
	f, err := os.OpenFile(j.path, mode|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	if j.f != nil {
		j.before = j.itself
		j.f.Close()
	}
	j.f, j.itself, j.regular, j.size = f, st, st.Mode().IsRegular(), unsettled
	return nil
}

// acquire locks the file at the path, settles its end and begins a new file
// where it is time to. On an error nothing is locked.
func (j *File) acquire() error {
	if !j.regular {
		return nil
	}
	deadline := time.Now().Add(j.patience)
	for {
		err := j.acquireCurrent(deadline)
		if !errors.Is(err, errMoved) {
			return err
		}
		if err := j.open(); err != nil {
			return err
		}
	}
}

// acquireCurrent is acquire for the file that is open now. errMoved says that
// the path leads, or must now lead, to another one; the end of the old file is
// known then, because what it ends with is what the new one follows.
func (j *File) acquireCurrent(deadline time.Time) error {
	if err := lock(j.f, deadline); err != nil {
		return err
	}
	err := j.settle()
	if err == nil && j.opts.MaxBytes > 0 && j.size >= j.opts.MaxBytes {
		err = j.rotate()
	}
	if err != nil {
		j.release()
	}
	return err
}

func (j *File) release() {
	if j.regular {
		// Closing the file releases the lock too, so a failure has no effect
		// that lasts.
		_ = syscall.Flock(int(j.f.Fd()), syscall.LOCK_UN)
	}
}

func lock(f *os.File, deadline time.Time) error {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("lock: %w", err)
		case time.Now().After(deadline):
			return errLockHeld
		default:
			time.Sleep(wait)
		}
	}
}

// settle looks at the path, once: which file is there, and whether it is as the
// last append has left it. If not, its end is put right. A file that was moved
// away is settled likewise, before errMoved. Where nothing has happened, this
// look, the lock, the write and the unlocking are all that an append asks of the
// system.
func (j *File) settle() error {
	there, err := os.Stat(j.path)
	switch {
	case err == nil && os.SameFile(there, j.itself):
		return j.settleAt(there.Size())
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	here, err := j.f.Stat()
	if err == nil {
		err = j.settleAt(here.Size())
	}
	if err == nil {
		err = errMoved
	}
	return err
}

// settleAt makes sure that a file of this size ends with a whole line and learns
// which one, unless nobody has touched it since the last append. An emptied or
// new file keeps the tail of the one before it, which others may have filled and
// moved away meanwhile.
func (j *File) settleAt(size int64) error {
	if size == j.size {
		return nil
	}
	j.size = unsettled
	r := backwards{f: j.f}
	end, err := r.lineEnd(size)
	if err != nil {
		return err
	}
	if end < size {
		if end, err = j.mend(end, size); err != nil {
			return err
		}
	}
	if end == 0 {
		j.catchUp()
	} else if j.tail.Last, err = r.lineBefore(end); err != nil {
		return err
	}
	j.before = nil
	j.size = end
	return nil
}

// catchUp learns the end of the file before an empty one, where that is not
// the file that this journal had open: then it stands further back.
func (j *File) catchUp() {
	if j.before == nil {
		return
	}
	for n := 1; ; n++ {
		st, err := os.Stat(rotated(j.path, n))
		switch {
		case err != nil:
			return // moved elsewhere, by who knows whom
		case !os.SameFile(st, j.before):
			continue
		case n > 1:
			if last := lastLineOf(rotated(j.path, 1)); last != nil {
				j.tail.Last = last
			}
		}
		return
	}
}

// mend puts an unfinished last line right, which begins at from and ends at to
// with the file, and returns the file's new size.
func (j *File) mend(from, to int64) (int64, error) {
	first := make([]byte, 1)
	if _, err := j.f.ReadAt(first, from); err != nil {
		return 0, err
	}
	if first[0] == '{' || first[0] == 0 {
		err := j.f.Truncate(from)
		if err == nil {
			j.tail.Cut += to - from
			return from, nil
		}
		// A file with the append-only attribute cannot be cut.
		if !errors.Is(err, fs.ErrPermission) {
			return 0, err
		}
	}
	if _, err := j.f.Write([]byte{'\n'}); err != nil {
		return 0, err
	}
	return to + 1, nil
}

// write adds one line to the locked, settled file, or nothing.
func (j *File) write(line []byte) error {
	j.buf = append(append(j.buf[:0], line...), '\n')
	n, err := j.f.Write(j.buf)
	if err == nil && j.opts.Sync {
		err = j.f.Sync()
	}
	if !j.regular {
		return err
	}
	if err != nil {
		j.takeBack(int64(n))
		return err
	}
	j.size += int64(n)
	j.tail = Tail{Last: append(j.tail.Last[:0], line...)}
	return nil
}

// takeBack removes the n bytes that a write which did not succeed has left.
// Where that does not work either, the next append meets an unfinished line
// and mends it.
func (j *File) takeBack(n int64) {
	st, err := j.f.Stat()
	if err != nil || st.Size() != j.size+n || j.f.Truncate(j.size) != nil {
		j.size = unsettled
	}
}

// rotate moves the locked file to PATH.1 and the older ones up by one number.
// It returns errMoved when that is done.
func (j *File) rotate() error {
	last := 1
	for ; last != j.opts.Keep; last++ {
		if _, err := os.Lstat(rotated(j.path, last)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
	}
	for n := last; n > 1; n-- {
		if err := os.Rename(rotated(j.path, n-1), rotated(j.path, n)); err != nil {
			return err
		}
	}
	if err := os.Rename(j.path, rotated(j.path, 1)); err != nil {
		return err
	}
	return errMoved
}

// rotated names the n-th file before the current one.
func rotated(path string, n int) string { return fmt.Sprintf("%s.%d", path, n) }
