package policy

import (
	"context"
	"encoding/json"
	"reflect"
	"sync/atomic"
)

// Shadow judges live calls once more by other bundles, to see what a new policy
// would change before it counts. It has no effect: it is asked after the decision
// is made and on record, off the request's path, one call at a time, and only
// about as many as may wait. A decision that would be another one goes on the log
// of the live engine, under a path of its own, with both results.
type Shadow struct {
	engine *Engine
	queue  chan cue
	stop   context.CancelFunc
	done   chan struct{}

	judged, differ, unanswered, unseen atomic.Int64
}

// ShadowStats counts since the start.
type ShadowStats struct {
	Judged     int64 // live decisions that were judged once more
	Differ     int64 // those of them that would be others
	Unanswered int64 // those that the shadow's policy had no usable answer to
	Unseen     int64 // live decisions that were left out because too many waited
}

// shadowPath is the path of events of a shadow: who reads the log for what was
// decided does not take them for decisions.
const shadowPath = "sallyport/shadow"

// shadowQueue is how many decisions wait at most. An input is some KiB.
const shadowQueue = 1024

// modeShadow is the mode of a shadow's events.
const modeShadow = "shadow"

// NewShadow makes a shadow of the bundles and the site in the options, whose log
// is not used: see [Engine.Cast].
func NewShadow(ctx context.Context, o Options) (*Shadow, error) {
	o.Log = nil
	e, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Shadow{engine: e, queue: make(chan cue, shadowQueue), stop: stop, done: make(chan struct{})}
	go s.follow(run)
	return s, nil
}

// Cast has the engine show the shadow each decision that it makes from now on,
// and log where the shadow's would be another one.
func (e *Engine) Cast(s *Shadow) { e.shadow.Store(&cast{s, e}) }

// cast is a shadow beside the engine that it is of.
type cast struct {
	*Shadow
	live *Engine
}

// Reload is [Engine.Reload] of the shadow's bundles.
func (s *Shadow) Reload(ctx context.Context, site any) error { return s.engine.Reload(ctx, site) }

// Revisions names what judges in the shadow.
func (s *Shadow) Revisions() map[string]string { return s.engine.Revisions() }

// Behind is [Engine.Behind] of the shadow.
func (s *Shadow) Behind() map[string]string { return s.engine.Behind() }

// Stats counts what happened since the start.
func (s *Shadow) Stats() ShadowStats {
	return ShadowStats{Judged: s.judged.Load(), Differ: s.differ.Load(), Unanswered: s.unanswered.Load(), Unseen: s.unseen.Load()}
}

// Close ends the shadow. What still waits is not judged.
func (s *Shadow) Close(ctx context.Context) error {
	s.stop()
	<-s.done
	return s.engine.Close(ctx)
}

// cue is a decision, and who made it.
type cue struct {
	record
	by *Engine
}

// see takes a decision that was made, or leaves it out. One that is no answer of
// the live policy says nothing about what another would change.
func (c *cast) see(rec *record) {
	if rec.err != nil {
		return
	}
	select {
	case c.queue <- cue{*rec, c.live}:
	default:
		c.unseen.Add(1)
	}
}

func (s *Shadow) follow(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.queue:
			s.judge(ctx, &c.record, c.by)
		}
	}
}

// judge asks the shadow's policy what the live one was asked.
func (s *Shadow) judge(ctx context.Context, live *record, by *Engine) {
	e := s.engine
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		s.unanswered.Add(1)
		return
	}
	defer e.store.Abort(ctx, txn)
	defer s.judged.Add(1)
	r := e.active.Load()
	if r == nil { // its bundles are still to come
		s.unanswered.Add(1)
		return
	}
	again := &record{id: e.newID(), began: live.began, input: live.input, value: live.value, mark: live.mark, bundles: r.bundles}
	e.evaluate(ctx, r, txn, again)
	if again.err != nil {
		s.unanswered.Add(1)
	}
	change, rules := live.against(again)
	if change == "" {
		return
	}
	s.differ.Add(1)
	if err := by.writeShadow(ctx, live, again, change, rules); err != nil {
		e.logger.Error("a difference of the shadow is not on the log", "decision_id", live.id, "err", err)
	}
}

// against says in which way another answer to the same question differs; empty
// if it does not.
func (r *record) against(other *record) (Change, []string) {
	if r.result == nil || other.result == nil || reflect.DeepEqual(r.result, other.result) {
		return "", nil
	}
	return difference(verdictOf(r.result), verdictOf(other.result), r.result, other.result)
}

// writeShadow puts a difference on the log: an event with the shadow's result,
// and the live decision with its own beside it. Both show as much as the record
// of the live decision does, and the live policy's masks apply to both.
func (e *Engine) writeShadow(ctx context.Context, live, again *record, change Change, rules []string) error {
	if e.log == nil {
		return nil
	}
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		return err
	}
	defer e.store.Abort(ctx, txn)
	r := e.active.Load()
	was, err := e.shown(ctx, r, txn, live)
	if was == nil || err != nil {
		return err
	}
	again.mark.Mode = modeShadow
	again.decision.Record = live.decision.Record
	will, err := e.shown(ctx, r, txn, again)
	if will == nil || err != nil {
		return err
	}
	will.Path = shadowPath
	will.Custom["change"], will.Custom["rules"] = change, rules
	will.Custom["live"] = map[string]any{"decision_id": live.id, "result": was.Result, "bundles": was.Bundles}
	line, err := json.Marshal(will)
	if err != nil {
		return err
	}
	return e.log.Append(line)
}
