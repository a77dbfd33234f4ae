package mcpserver

import (
	"context"
	"net/http"
	"sync"
)

// stream is the GET stream of a session, which mcp-go keeps open. What belongs
// to a call that was answered is written to it here, past mcp-go: that would
// hand it to whichever response of the session asks first, and lose it when that
// one is about to end.
type stream struct {
	http.ResponseWriter

	mu   sync.Mutex // one event at a time
	open bool       // it has begun, and its request has not ended
}

func (s *stream) WriteHeader(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ResponseWriter.WriteHeader(status)
	s.open = status == http.StatusOK
}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ResponseWriter.Write(b)
}

func (s *stream) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	flush(s.ResponseWriter)
}

func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// close waits for an event that is being written; there is none after it.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
}

// send reports whether an event could be written.
func (s *stream) send(m []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open || writeEvent(s.ResponseWriter, m) != nil {
		return false
	}
	flush(s.ResponseWriter)
	return true
}

// sessionOutlet is the way to the client of a session while it has a GET stream.
type sessionOutlet struct {
	sessions *sessions
	session  *session
}

// notify fails for good when the session has ended; until then the client may
// open another stream.
func (o sessionOutlet) notify(method string, params map[string]any) error {
	m := encodeNotification(method, params)
	for _, s := range o.sessions.streamsOf(o.session) {
		if s.send(m) {
			return nil
		}
	}
	return o.keepAlive()
}

func (o sessionOutlet) keepAlive() error { return context.Cause(o.session.ctx) }
