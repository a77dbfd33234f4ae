package policy

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/pkg/tool"
)

// Replay judges recorded decisions again, by the bundles and the site that an
// engine has active. A decision depends on its input, the bundles and nothing
// else, so where those are the same the answer is the same, bit for bit.
//
// Inputs that differ only where no rule looks are judged once: the answer is
// remembered under the digest of what rules look at. What is remembered changes
// how long a replay takes, not what it finds.
type Replay struct {
	engine   *Engine
	revision *revision
	reads    *reads
	answers  *memo[digest, *answer] // nil: rules look at what no two inputs share
	rules    *ruleMemo
}

// digest is SHA-256, so that no input can be made to look like another one.
type digest = [sha256.Size]byte

// replayRoom bounds what a replay remembers, in bytes.
const replayRoom = 64 << 20

// Replay begins to judge by what is active now. The engine must not be reloaded
// before the replay is over.
func (e *Engine) Replay() (*Replay, error) {
	if err := e.Ready(); err != nil {
		return nil, err
	}
	compiler, entry := e.manager.GetCompiler(), ast.MustParseRef(entryPoint)
	r := &Replay{
		engine: e, revision: e.active.Load(),
		reads: readsOf(compiler, entry), rules: newRuleMemo(compiler, entry),
	}
	if !r.reads.whole {
		r.answers = newMemo[digest, *answer](replayRoom)
	}
	return r, nil
}

// Status says what became of a recorded decision in a replay.
type Status string

// A decision is judged, or there is a reason why it cannot be.
const (
	Judged Status = "judged"
	// Withheld, masked, erased: a part of the record that rules look at was
	// left out by logs.record, replaced by a mask rule, or removed by one.
	Withheld Status = "withheld"
	Masked   Status = "masked"
	Erased   Status = "erased"
	// Unanswered: it was refused because policy was not ready, did not answer in
	// time or was not waited for. That says nothing about any rule.
	Unanswered Status = "unanswered"
	// OtherVersion: its input is of a version that this program does not know.
	OtherVersion Status = "other_version"
	// OtherQuery: it is the answer to another question than sallyport/decision.
	OtherQuery Status = "other_query"
	// Unreadable: the line is no record of a decision.
	Unreadable Status = "unreadable"
)

// Change is what would be different about a decision; empty for nothing.
type Change string

// The first of these that applies.
const (
	NewlyDenied  Change = "newly_denied"
	NewlyAllowed Change = "newly_allowed"
	LimitsChange Change = "limits"
	ReasonChange Change = "reasons"
	OtherChange  Change = "other" // what is redacted, or how much is on record
)

// Replayed is a recorded decision beside what it would be now.
type Replayed struct {
	Status Status
	Cause  string // of a status that needs one
	// InPart says that something is missing in the record where no rule looks,
	// which makes no difference.
	InPart bool
	Change Change
	// Rules are those at work in a change: codes of reasons, or the names of
	// the limits or fields that differ.
	Rules []string

	ID                  string
	Time                time.Time
	Bundles             map[string]string // by which it was decided
	Subject, Host, Tool string
	Does                string // what the call was; only of a decision that changed
	Then, Now           Verdict
}

// Verdict is what was, or would be, decided; only of a decision that changed.
type Verdict struct {
	Allow   bool          `json:"allow"`
	Reasons []tool.Reason `json:"reasons"`
	Limits  tool.Limits   `json:"limits"`
}

// answer is what policy says now, in the two forms that a log may have it in.
type answer struct {
	full     []byte // the result
	withheld []byte // the result without the words of the call
	steady   bool   // it will be the same when asked again
}

func (a *answer) size() int { return len(a.full) + len(a.withheld) }

// Judge judges the decision that a line of a decision log records. It may be
// called from several goroutines. Its error is that of the context.
func (r *Replay) Judge(ctx context.Context, line []byte) (Replayed, error) {
	rec, err := readRecorded(line)
	out := rec.replayed()
	if err != nil {
		out.Status, out.Cause = Unreadable, err.Error()
		return out, nil
	}
	out.Status, out.Cause = rec.status(r.reads)
	if out.Status != Judged {
		return out, nil
	}
	now, err := r.answer(ctx, rec)
	if err != nil {
		return out, err
	}
	if err := rec.compare(now, &out); err != nil {
		out.Status, out.Cause = Unreadable, err.Error()
	}
	return out, nil
}

// answer asks policy, unless it was asked the same before.
func (r *Replay) answer(ctx context.Context, rec *recorded) (*answer, error) {
	input := r.reads.prune(make([]byte, 0, len(rec.input)), rec.input)
	if r.answers == nil {
		return r.ask(ctx, input, rec.time)
	}
	key := sha256.Sum256(input)
	if a, ok := r.answers.get(key); ok {
		return a, nil
	}
	a, err := r.ask(ctx, input, rec.time)
	if err == nil && a.steady {
		r.answers.put(key, a, a.size())
	}
	return a, err
}

func (r *Replay) ask(ctx context.Context, input []byte, at time.Time) (*answer, error) {
	txn, err := r.engine.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer r.engine.store.Abort(ctx, txn)
	rec := record{began: at, value: valueOf(input).Value}
	r.engine.ask(ctx, r.revision, txn, &rec, r.rules.recall(input))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return newAnswer(&rec)
}

func newAnswer(rec *record) (*answer, error) {
	full, err := json.Marshal(rec.result)
	if err != nil {
		return nil, err
	}
	withheld, err := json.Marshal(rec.result.withheld())
	return &answer{full, withheld, !errors.Is(rec.err, errTimeout)}, err
}

// Revisions names by what is judged: the revision of each bundle.
func (r *Replay) Revisions() map[string]string { return maps.Clone(r.revision.bundles) }
