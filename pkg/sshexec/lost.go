package sshexec

import (
	"sync"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// lost is how a line that runs in a directory says that it cannot get there. It is
// told from what a command says by a word that nobody knows before.
type lost struct {
	dir  string
	word string

	mu   sync.Mutex
	said []byte // the first of what was written to the error stream
}

// see takes a piece of the error stream: little of it may be kept elsewhere.
func (l *lost) see(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := len(l.word) + 1 - len(l.said); room > 0 {
		l.said = append(l.said, p[:min(room, len(p))]...)
	}
}

// is says that the directory was not entered, so that nothing of the line has run.
func (l *lost) is(o tool.Output) bool {
	if l == nil || o.Exit == nil || *o.Exit != shell.NoDirectory || o.Stdout.Bytes > 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.said) == l.word
}

// seeErrors shows a piece of the error stream to whoever looks at it.
func (c command) seeErrors(p []byte) {
	if c.lost != nil {
		c.lost.see(p)
	}
	if c.onErrors != nil {
		c.onErrors(p)
	}
}
