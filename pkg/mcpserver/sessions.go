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
	opened  time.Time
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

// sessionBounds are how long a session may be idle and how old it may become, and
// how many there may be of a subject and in all.
type sessionBounds struct {
	idle, life     time.Duration
	subject, total int
}

// sessions is bounded on all sides. A subject that has as many as it may pushes
// out its own that was idle longest, and nobody else's. What is idle or old ends
// by itself, though never under a request.
type sessions struct {
	now    func() time.Time
	bounds sessionBounds
	// ended is told of every session that has, and why.
	ended func(s *session, why tool.Stop)

	mu        sync.Mutex
	byID      map[string]*session
	bySubject map[string]*list.List // of *session, the longest unused first
	alarm     *time.Timer           // of the next sweep; nil while there are none
	closed    bool
	sweeping  sync.WaitGroup
}

func newSessions(now func() time.Time, bounds sessionBounds) *sessions {
	return &sessions{
		now: now, bounds: bounds, ended: func(*session, tool.Stop) {},
		byID: map[string]*session{}, bySubject: map[string]*list.List{},
	}
}

// open begins a session and uses it; nil when there are as many as there may be,
// and none of the subject's own can go.
func (t *sessions) open(subject string) *session {
	s := &session{id: rand.Text(), subject: subject, opened: t.now(), used: t.now(), busy: 1}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	t.mu.Lock()
	own := t.bySubject[subject]
	if own == nil {
		own = list.New()
	}
	dropped := t.expired(own)
	full := t.closed
	if own.Len() >= t.bounds.subject || len(t.byID) >= t.bounds.total {
		idle := oldestIdle(own)
		if full = full || idle == nil; !full {
			dropped = append(dropped, t.remove(idle))
		}
	}
	if !full {
		t.bySubject[subject] = own
		s.element = own.PushBack(s)
		t.byID[s.id] = s
		t.arm()
	}
	t.mu.Unlock()
	t.drop(dropped, tool.StopDisconnect)
	if full {
		return nil
	}
	return s
}

// sweepsPerSpan is how often sessions are looked at in the shortest time that one
// may live.
const sweepsPerSpan = 8

// arm sets the alarm for the next sweep, if there is something to sweep and none is
// set. Its caller holds mu.
func (t *sessions) arm() {
	if t.alarm != nil || t.closed || len(t.byID) == 0 {
		return
	}
	t.alarm = time.AfterFunc(min(t.bounds.idle, t.bounds.life, 8*time.Minute)/sweepsPerSpan, t.sweep)
}

// sweep ends what is idle for too long or too old.
func (t *sessions) sweep() {
	t.mu.Lock()
	t.alarm = nil
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.sweeping.Add(1)
	defer t.sweeping.Done()
	var dropped []*session
	for _, own := range t.bySubject {
		dropped = append(dropped, t.expired(own)...)
	}
	t.arm()
	t.mu.Unlock()
	t.drop(dropped, tool.StopDisconnect)
}

// use finds a subject's session and keeps it from expiring until [sessions.release];
// nil when the subject has none with this id.
func (t *sessions) use(subject, id string) *session {
	var dropped []*session
	t.mu.Lock()
	s := t.byID[id]
	switch {
	case s == nil || s.subject != subject:
		s = nil
	case t.over(s):
		dropped = append(dropped, t.remove(s))
		s = nil
	default:
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

// closeAll ends every session; there will be no more.
func (t *sessions) closeAll(cause tool.Stop) {
	t.mu.Lock()
	t.closed = true
	if t.alarm != nil {
		t.alarm.Stop()
	}
	var dropped []*session
	for _, s := range t.byID {
		dropped = append(dropped, t.remove(s))
	}
	t.mu.Unlock()
	t.drop(dropped, cause)
	t.sweeping.Wait()
}

// expired removes those sessions of a subject whose time is over. Its caller holds
// mu.
func (t *sessions) expired(own *list.List) []*session {
	var dropped []*session
	for e := own.Front(); e != nil; {
		s := e.Value.(*session)
		e = e.Next()
		if t.over(s) {
			dropped = append(dropped, t.remove(s))
		}
	}
	return dropped
}

// over says that a session was idle for too long, or is too old and no request
// runs in it. Its caller holds mu.
func (t *sessions) over(s *session) bool {
	return s.busy == 0 && t.now().Sub(s.used) >= t.bounds.idle ||
		s.busy == len(s.streams) && t.now().Sub(s.opened) >= t.bounds.life
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
