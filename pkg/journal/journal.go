// Package journal appends lines to files that may not lose any.
//
// A [File] is a log in which every line is whole or not there at all. Append
// returns nil once the line and its newline are in the file; after any error
// nothing of the line is left. A full disk, a directory that is gone or a file
// that may not be written is an error that wraps [ErrUnwritable], so that a
// caller who may not act without a record can refuse to act. The next Append
// tries again, so a file takes lines as soon as the disk has room.
//
// Several processes may append to the same path: each append happens under an
// advisory lock (flock) on the file. A file that was moved or removed, by
// logrotate or by the size rotation of [Options], is noticed before the next
// line, which goes to a new file at the same path; no signal is needed.
//
// A process that is killed in the middle of a write, or a machine that loses
// power, can leave an unfinished last line. Its Append never returned, so
// nobody acted on it. Whoever appends next cuts it off, provided that it looks
// like one of ours: the beginning of a JSON object, or zero bytes. Any other
// unfinished line is somebody else's text; it is ended with a newline and kept.
//
// [Writer] makes an [Appender] of an io.Writer such as stderr, and [Tee] makes
// one of several, all of which must take a line.
package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ErrUnwritable says that a line could not be recorded. The cause is wrapped
// beside it.
var ErrUnwritable = errors.New("log is unwritable")

// errLineBreak refuses what would be read back as two lines.
var errLineBreak = errors.New("line holds a line break")

// Appender takes a line, without its newline, whole or not at all.
// Implementations are safe for concurrent use.
type Appender interface {
	Append(line []byte) error
}

func unwritable(name string, cause error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnwritable, name, cause)
}

// Writer returns an Appender that passes each line to w in one Write, newline
// included. It does not close w. A write that w takes in part cannot be taken
// back.
func Writer(w io.Writer) Appender { return &writer{w: w} }

type writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

func (a *writer) Append(line []byte) error {
	if bytes.IndexByte(line, '\n') >= 0 {
		return errLineBreak
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buf = append(append(a.buf[:0], line...), '\n')
	if _, err := a.w.Write(a.buf); err != nil {
		return unwritable("stream", err)
	}
	return nil
}

// Tee returns an Appender that gives each line to every sink in turn and
// reports every failure. A sink that fails does not keep the line from the
// others: more records than actions are harmless, fewer are not.
func Tee(sinks ...Appender) Appender { return tee(sinks) }

type tee []Appender

func (t tee) Append(line []byte) error {
	var failed []error
	for _, sink := range t {
		failed = append(failed, sink.Append(line))
	}
	return errors.Join(failed...)
}
