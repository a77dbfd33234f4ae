package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/version"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Log takes one record a call, a line of JSON without its newline, and returns
// when it is kept. A record that it cannot keep is an error, and the decision a
// refusal.
type Log interface {
	Append(line []byte) error
}

// record is a decision on its way to the log.
type record struct {
	id    string
	began time.Time
	took  time.Duration // of the evaluation
	input Input
	value ast.Value // what is judged; nil for the input
	// asWritten says that the value may be more, or other, than the input.
	asWritten bool
	mark      Mark
	bundles   map[string]string
	lag       *lag // of those, if there is any
	result    *result
	err       error
	decision  tool.Decision
}

// decide takes over what policy said, within the caller's wishes.
func (r *record) decide(res *result) {
	r.result = res
	r.decision = tool.Decision{
		ID: r.id, Allow: res.Allow, Reasons: res.Reasons, Limits: narrow(r.input.Limits.Requested, res.Limits),
		Redact: res.Redact, Bundles: r.bundles,
	}
	switch {
	case len(res.Approval) > 0:
		r.refuse(failApproval)
	case !res.Allow && len(res.Reasons) == 0:
		r.refuse(failUndefined)
	}
}

// fail makes the decision a refusal because there is no usable answer.
func (r *record) fail(f failure, cause error) {
	r.err = cause
	r.decision = tool.Decision{ID: r.id, Reasons: []tool.Reason{}, Redact: []string{}, Bundles: r.bundles}
	r.refuse(f)
	r.result = &result{Reasons: r.decision.Reasons, Redact: []string{}, Record: recordFull}
}

func (r *record) refuse(f failure) {
	r.decision.Allow = false
	r.decision.Reasons = append(r.decision.Reasons, f.reason())
}

// event is a record in the field names of OPA's decision log.
type event struct {
	Labels     map[string]string      `json:"labels"`
	DecisionID string                 `json:"decision_id"`
	TraceID    string                 `json:"trace_id,omitempty"`
	SpanID     string                 `json:"span_id,omitempty"`
	Bundles    map[string]eventBundle `json:"bundles,omitempty"`
	Path       string                 `json:"path"`
	Input      any                    `json:"input,omitempty"`
	Result     any                    `json:"result,omitempty"`
	Erased     []string               `json:"erased,omitempty"`
	Masked     []string               `json:"masked,omitempty"`
	Error      *eventError            `json:"error,omitempty"`
	Timestamp  time.Time              `json:"timestamp"`
	Metrics    map[string]int64       `json:"metrics"`
	Custom     map[string]any         `json:"custom,omitempty"`
}

type eventBundle struct {
	Revision string `json:"revision"`
}

type eventError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (r *record) event(labels map[string]string) *event {
	e := &event{
		Labels: labels, DecisionID: r.id, TraceID: r.mark.Trace.ID, SpanID: r.mark.Trace.Span, Path: entryPath, Input: r.input, Result: r.result,
		Bundles: make(map[string]eventBundle, len(r.bundles)), Timestamp: r.began.UTC(),
		Metrics: map[string]int64{"timer_rego_query_eval_ns": r.took.Nanoseconds()},
		Custom:  map[string]any{"mode": r.mark.Mode, "digest": r.mark.Digest},
	}
	for name, revision := range r.bundles {
		e.Bundles[name] = eventBundle{revision}
	}
	if r.err != nil {
		last := r.decision.Reasons[len(r.decision.Reasons)-1]
		e.Error = &eventError{Code: last.Code, Message: r.err.Error()}
	}
	if r.lag != nil {
		e.Custom["bundles_behind"] = r.lag.states()
	}
	maps.Copy(e.Custom, r.mark.Custom)
	return e
}

// shown is the record as the log shows it: masked, and without the words of the
// call unless it is to be a full one.
func (r *record) shown(labels map[string]string, masks []mask) (*event, error) {
	e := r.event(labels)
	if r.decision.Record != recordFull {
		e.withhold(r.input, r.result)
	}
	return e, e.apply(masks)
}

// write puts the record on the log. If it cannot, the decision becomes a
// refusal: what has no record does not happen.
func (e *Engine) write(ctx context.Context, r *revision, txn storage.Transaction, rec *record) {
	rec.decision.Record = recordMeta
	if rec.result != nil {
		rec.decision.Record = e.recorded(rec.result.Record)
	}
	if rec.err != nil {
		e.logger.Warn("refused without an answer", "decision_id", rec.id, "err", rec.err)
	}
	if e.log == nil {
		return
	}
	line, err := e.recordLine(ctx, r, txn, rec)
	if err == nil && line != nil {
		err = e.log.Append(line)
	}
	if err != nil {
		e.lost.Add(1)
		e.logger.Error("decision not on the log", "decision_id", rec.id, "err", err)
		rec.refuse(failLog)
	}
}

// recordLine is the line to write; nil if a drop rule leaves it out.
func (e *Engine) recordLine(ctx context.Context, r *revision, txn storage.Transaction, rec *record) ([]byte, error) {
	shown, err := e.shown(ctx, r, txn, rec)
	if err != nil {
		return nil, err
	}
	if shown == nil {
		e.dropped.Add(1)
		return nil, nil
	}
	return json.Marshal(shown)
}

// shown is the event of a record as the log shows it; nil if a drop rule leaves
// it out.
func (e *Engine) shown(ctx context.Context, r *revision, txn storage.Transaction, rec *record) (*event, error) {
	masks, drop, err := e.rulesOf(ctx, r, txn, rec)
	if err != nil || drop {
		return nil, err
	}
	return rec.shown(e.labels, masks)
}

// rulesOf asks the rules of system.log about a record. Masking and dropping
// outlive the caller: a record is not lost because nobody waits.
func (e *Engine) rulesOf(ctx context.Context, r *revision, txn storage.Transaction, rec *record) (masks []mask, drop bool, err error) {
	if r == nil || r.mask == nil && r.drop == nil {
		return nil, false, nil
	}
	input, err := rec.asInput(e.labels)
	if err != nil {
		return nil, false, err
	}
	ctx = context.WithoutCancel(ctx)
	v := evaluation{data: r.data, txn: txn, input: input, now: rec.began, timeout: e.timeout, values: e.values}
	if drop, err = dropped(ctx, r, v); err != nil || drop {
		return nil, drop, ofRule(dropRule, err)
	}
	masks, err = masksOf(ctx, r, v)
	return masks, false, ofRule(maskRule, err)
}

func ofRule(rule string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", rule, err)
}

// asInput is the record as mask and drop rules see it.
func (r *record) asInput(labels map[string]string) (ast.Value, error) {
	native, err := native(r.event(labels))
	if err != nil {
		return nil, err
	}
	return ast.InterfaceToValue(native)
}

// labels of the records: OPA's own two, which say who decided, and the given.
func labels(given map[string]string, id string) map[string]string {
	l := map[string]string{"id": id, "version": version.Version}
	maps.Copy(l, given)
	return l
}
