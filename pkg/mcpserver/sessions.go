package mcpserver

import (
	"container/list"
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// session is a session of the old protocol era. Its id is ours, means something
// only to the subject that opened it, and is authority for nothing.
type session struct {
	id      string
	subject string
	ctx     context.Context // ends with the session
	end     context.CancelCauseFunc
	// The rest is guarded by sessions.mu.
	used    time.Time
	busy    int       // requests and streams that are open
	streams []*stream // of those, GET streams, the latest last
	element *list.Element
}

// caller is who opened the session, as a caller in it.
func (s *session) caller() tool.Caller {
	return tool.Caller{Subject: s.subject, Session: s.id, Transport: "http"}
}

// mostStreams bounds the GET streams of one session. Each costs tens of
// kilobytes, and one is enough for all that is ever sent on them.
const mostStreams = 4

// sessions is bounded on all sides: by the number a subject may have, which
// pushes out the one that was idle longest, and by how long one may be idle.
type sessions struct {
	now  func() time.Time
	ttl  time.Duration
	most int
	// ended is told of every session that has, and why.
	ended func(s *session, why tool.Stop)

	mu        sync.Mutex
	byID      map[string]*session
	bySubject map[string]*list.List // of *session, the longest unused first
}

func newSessions(now func() time.Time, ttl time.Duration, most int) *sessions {
	return &sessions{
		now: now, ttl: ttl, most: most, ended: func(*session, tool.Stop) {},
		byID: map[string]*session{}, bySubject: map[string]*list.List{},
	}
}

// open begins a session and uses it; nil when the subject has as many as it may
// and all of them are in use.
func (t *sessions) open(subject string) *session {
	s := &session{id: rand.Text(), subject: subject, used: t.now(), busy: 1}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	t.mu.Lock()
	dropped := t.expired()
	own := t.bySubject[subject]
	if own == nil {
		own = list.New()
	}
	full := false
	if own.Len() >= t.most {
		idle := oldestIdle(own)
		if full = idle == nil; !full {
			dropped = append(dropped, t.remove(idle))
		}
	}
	if !full {
		t.bySubject[subject] = own
		s.element = own.PushBack(s)
		t.byID[s.id] = s
	}
	t.mu.Unlock()
	t.drop(dropped, tool.StopDisconnect)
	if full {
		return nil
	}
	return s
}

// use finds a subject's session and keeps it from expiring until [sessions.release];
// nil when the subject has none with this id.
func (t *sessions) use(subject, id string) *session {
	t.mu.Lock()
	dropped := t.expired()
	s := t.byID[id]
	if s != nil && s.subject != subject {
		s = nil
	}
	if s != nil {
		s.busy++
	}
	t.mu.Unlock()
	t.drop(dropped, tool.StopDisconnect)
	return s
}

func (t *sessions) release(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.busy--
	s.used = t.now()
	if own := t.bySubject[s.subject]; own != nil && t.byID[s.id] == s {
		own.MoveToBack(s.element)
	}
}

// stream adds a GET stream to a session in use, if it may have one more.
func (t *sessions) stream(s *session, added *stream) (done func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(s.streams) >= mostStreams {
		return nil, false
	}
	s.streams = append(s.streams, added)
	return func() {
		t.mu.Lock()
		s.streams = slices.DeleteFunc(s.streams, func(other *stream) bool { return other == added })
		t.mu.Unlock()
		added.close()
	}, true
}

// streamsOf are the GET streams of a session, the latest first.
func (t *sessions) streamsOf(s *session) []*stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.Clone(s.streams)
	slices.Reverse(all)
	return all
}

// close ends a session, and what is going on in it.
func (t *sessions) close(s *session, cause tool.Stop) {
	t.mu.Lock()
	var dropped []*session
	if t.byID[s.id] == s {
		dropped = append(dropped, t.remove(s))
	}
	t.mu.Unlock()
	t.drop(dropped, cause)
}

// closeAll ends every session.
func (t *sessions) closeAll(cause tool.Stop) {
	t.mu.Lock()
	var dropped []*session
	for _, s := range t.byID {
		dropped = append(dropped, t.remove(s))
	}
	t.mu.Unlock()
	t.drop(dropped, cause)
}

// expired removes the sessions that were idle for too long. Its caller holds mu.
func (t *sessions) expired() []*session {
	var dropped []*session
	for _, own := range t.bySubject {
		for e := own.Front(); e != nil; {
			s := e.Value.(*session)
			e = e.Next()
			if s.busy > 0 {
				continue
			}
			if t.now().Sub(s.used) < t.ttl {
				break
			}
			dropped = append(dropped, t.remove(s))
		}
	}
	return dropped
}

// remove takes a session out. Its caller holds mu.
func (t *sessions) remove(s *session) *session {
	own := t.bySubject[s.subject]
	own.Remove(s.element)
	if own.Len() == 0 {
		delete(t.bySubject, s.subject)
	}
	delete(t.byID, s.id)
	return s
}

func (t *sessions) drop(dropped []*session, cause tool.Stop) {
	for _, s := range dropped {
		s.end(cause)
		t.ended(s, cause)
	}
}

func (t *sessions) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

func oldestIdle(own *list.List) *session {
	for e := own.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*session); s.busy == 0 {
			return s
		}
	}
	return nil
}
