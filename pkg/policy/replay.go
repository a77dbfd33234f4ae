package policy

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

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
	reads    *reads // all that rules look at
	survey   *survey
	looks    looks                  // what the decision depends on
	answers  *memo[digest, *answer] // nil: on what no two inputs share
	rules    *ruleMemo
	book     *ruleBook // nil: nobody asked which rules are of use
}

// ReplayOptions say what a replay is to find out beside what would change.
type ReplayOptions struct {
	Uses bool // which rules are at work in each decision; it takes longer
}

// digest is SHA-256, so that no input can be made to look like another one.
type digest = [sha256.Size]byte

// What a replay remembers of answers, of rules and of each small document is
// bounded, in bytes.
const (
	replayRoom = 48 << 20
	ruleRoom   = 32 << 20
	smallRoom  = 2 << 20
)

// Replay begins to judge by what is active now. The engine must not be reloaded
// before the replay is over.
func (e *Engine) Replay(ctx context.Context, o ReplayOptions) (*Replay, error) {
	if err := e.Ready(); err != nil {
		return nil, err
	}
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer e.store.Abort(ctx, txn)
	compiler := e.manager.GetCompiler()
	r := &Replay{
		engine: e, revision: e.active.Load(), reads: readsOf(compiler, entryRef), rules: &ruleMemo{},
		survey: newSurvey(ctx, compiler, e.store, txn, smallRoom),
	}
	if o.Uses {
		err = r.watch(ctx, txn)
	} else {
		err = r.study()
	}
	if !r.looks.at.whole {
		r.answers = newMemo[digest, *answer](replayRoom)
	}
	return r, err
}

var entryRef = ast.MustParseRef(entryPoint)

// study finds out what decisions depend on.
func (r *Replay) study() (err error) {
	if r.looks, err = r.survey.looksOf(entryRef); err == nil {
		r.rules, err = newRuleMemo(r.survey, ruleRoom)
	}
	return err
}

// watch has the replay tell which rules are of use. A rule that is remembered
// would not be seen at work, and inputs that are alike to the decision may use
// different rules, so only whole inputs are alike then.
func (r *Replay) watch(ctx context.Context, txn storage.Transaction) (err error) {
	r.book, err = newRuleBook(ctx, r.survey.compiler, r.engine.store, txn, r.revision.data)
	r.reads.follow(r.survey.compiler, ast.MustParseRef(usesRule), map[*ast.Rule]bool{})
	r.looks = r.survey.looking(r.reads, nil)
	return err
}

// Rules are those that could be of use; none if nobody asked for it.
func (r *Replay) Rules() []Rule {
	if r.book == nil {
		return nil
	}
	return r.book.rules
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
	// Used are the rules at work in the decision as it would be now, as indices
	// of Replay.Rules; of one that is not judged, what its reasons tell.
	Used []int
	// Either are sets of rules of each of which one is at work, any of them.
	Either [][]int

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
	used     usage
}

func (a *answer) size() int {
	size := len(a.full) + len(a.withheld) + 8*len(a.used.sure)
	for _, rules := range a.used.either {
		size += 8*len(rules) + perTerm
	}
	return size
}

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
		if r.book != nil {
			out.Used = r.book.ofCodes(rec.codes())
		}
		return out, nil
	}
	now, err := r.answer(ctx, rec)
	if err != nil {
		return out, err
	}
	out.Used, out.Either = now.used.sure, now.used.either
	if err := rec.compare(now, &out); err != nil {
		out.Status, out.Cause = Unreadable, err.Error()
	}
	return out, nil
}

// answer asks policy, unless it was asked the same before.
func (r *Replay) answer(ctx context.Context, rec *recorded) (*answer, error) {
	txn, err := r.engine.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer r.engine.store.Abort(ctx, txn)
	input := r.reads.prune(make([]byte, 0, len(rec.input)), rec.input)
	q := record{began: rec.time}
	v := r.engine.question(r.revision, txn, &q)
	m := r.survey.newMoment(ctx, v, input)
	v.recall = r.rules.recall(m)
	key, ok := r.key(m)
	if ok {
		if a, known := r.answers.get(key); known {
			return a, nil
		}
	}
	v.input = valueOf(input).Value
	a, err := r.ask(ctx, v, &q)
	if err == nil && ok && a.steady {
		r.answers.put(key, a, a.size())
	}
	return a, err
}

func (r *Replay) key(m *moment) (digest, bool) {
	if r.answers == nil {
		return digest{}, false
	}
	return m.key(r.looks)
}

func (r *Replay) ask(ctx context.Context, v evaluation, q *record) (*answer, error) {
	used := r.askAll(ctx, v, q)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return newAnswer(q, used)
}

// askAll asks for the decision and, if somebody wants to know, for the rules at
// work in it.
func (r *Replay) askAll(ctx context.Context, v evaluation, rec *record) (used usage) {
	if r.book == nil {
		v.ask(ctx, rec)
		return usage{}
	}
	custom := &customTracer{rules: r.book.custom}
	v.tracer = custom
	v.ask(ctx, rec)
	used.sure = slices.Concat(custom.used, r.book.ofCodes(codesOf(rec.result.Reasons)))
	r.book.addUsage(ctx, v, &used)
	slices.Sort(used.sure)
	used.sure = slices.Compact(used.sure)
	return used
}

func newAnswer(rec *record, used usage) (*answer, error) {
	full, err := json.Marshal(rec.result)
	if err != nil {
		return nil, err
	}
	withheld, err := json.Marshal(rec.result.withheld())
	return &answer{full, withheld, !errors.Is(rec.err, errTimeout), used}, err
}

// Revisions names by what is judged: the revision of each bundle.
func (r *Replay) Revisions() map[string]string { return maps.Clone(r.revision.bundles) }
