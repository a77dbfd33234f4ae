// Package policy asks OPA. It turns what the gateway knows of a call into one
// input document, has the bundles judge it, and puts the decision on the
// decision log before anyone hears of it.
//
// [NewInput] is a pure function from facts to document. [New] loads the bundles
// and gives an [Engine]; [Engine.Decide] judges. [Engine.Reload] swaps the
// bundles and the operator's data, hosts and grants and networks, while
// decisions go on. Bundles may also come from servers and registries, see
// [Source]: OPA's own code fetches them, all of them become active together, and
// what decided last is kept for a start without the server.
//
// What it promises: Decide never fails and never hangs. No answer is a refusal,
// and each way of not answering has a code of its own: not ready, undefined,
// timeout, conflict, an evaluation error, a decision of the wrong shape, an
// unwritable log. A bundle becomes active only if it compiles with the permitted
// built-ins, fits the input's schema, and answers a set of canary inputs in time
// with well-formed decisions; otherwise the last good one stays. Policy and data
// of one decision are always of one revision, and the decision names it.
//
// It is the only package that knows OPA.
package policy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown/cache"

	"github.com/sallyport/sallyport/pkg/tool"
)

// DefaultTimeout is how long a policy may take to answer; it is asked twice
// before the decision is a refusal. It also bounds how long a decision can hold
// up the activation of a bundle.
const DefaultTimeout = 250 * time.Millisecond

// Options are what an engine is made of. The zero value is the shipped bundle
// with an empty site, which refuses every host, and no decision log.
type Options struct {
	// Bundle is a directory or a .tar.gz that replaces the shipped bundle.
	Bundle string
	// Custom lists further bundles, directories or .tar.gz, with packages
	// below custom.
	Custom []string
	// Bundles are more of them, which have names.
	Bundles []Source
	// Keys are those to verify signatures with, by their ids. A signature that
	// is there is verified; with RequireSigned, no bundle but the shipped one
	// is taken without one.
	Keys          map[string]Key
	RequireSigned bool
	// KeepDir is where bundles of servers are kept; empty to keep none.
	KeepDir string
	// Offline asks no server and keeps nothing: what was kept decides.
	Offline bool
	// Told hears of each change of a bundle that comes from a server, one at a
	// time. It must not call the engine.
	Told func(BundleChange)
	// Site is the operator's data in the shape of [Site]: that type, or
	// anything that marshals to the same JSON. Nil is an empty site.
	Site    any
	Timeout time.Duration // of one decision; default DefaultTimeout
	Log     Log           // nil: decisions are not logged
	// FullRecords has records show the words of calls, where policy does not
	// say "meta". Without it they show kinds, names of hosts and results only.
	FullRecords bool
	Logger      *slog.Logger
	Now         func() time.Time
	Labels      map[string]string // in each record of the decision log
}

// Engine makes decisions. It is safe for concurrent use.
type Engine struct {
	manager *plugins.Manager
	store   storage.Store
	active  atomic.Pointer[revision]
	values  cache.InterQueryValueCache
	timeout time.Duration
	log     Log
	full    bool
	logger  *slog.Logger
	now     func() time.Time
	labels  map[string]string
	seal    seal

	revising  sync.Mutex // one change of the set at a time; guards it
	set       bundleSet
	told      func(BundleChange)
	offline   bool
	downloads downloads
	lag       atomic.Pointer[lag]
	closed    atomic.Bool

	shadow atomic.Pointer[cast]

	decisions, lost, dropped atomic.Int64
}

// Stats counts since the start.
type Stats struct {
	Decisions int64 // made
	Lost      int64 // records that could not be written; their decisions were refusals
	Dropped   int64 // records left out because a bundle's drop rule said so
}

// New loads the bundles and the site. It fails where an engine could only
// refuse: a bundle that does not pass the gate, a site that does not validate.
// Where a bundle is still to come from a server, the engine refuses until it is
// there; New waits for it a little.
func New(ctx context.Context, o Options) (*Engine, error) {
	site, err := readSiteText(o.Site)
	if err != nil {
		return nil, err
	}
	e := newEngine(o)
	if err := e.start(ctx); err != nil {
		return nil, err
	}
	if err := e.begin(ctx, site); err != nil {
		_ = e.Close(ctx) // of an engine that has decided nothing
		return nil, err
	}
	return e, nil
}

func newEngine(o Options) *Engine {
	e := &Engine{
		timeout: o.Timeout, log: o.Log, full: o.FullRecords, logger: o.Logger, now: o.Now,
		values: valueCache(), seal: seal{o.Keys, o.RequireSigned},
	}
	if e.timeout <= 0 {
		e.timeout = DefaultTimeout
	}
	if e.logger == nil {
		e.logger = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.labels = labels(o.Labels, e.newID())
	e.set = newSet(sourcesOf(o), archives{dir: o.KeepDir, log: e.logger})
	e.told, e.offline = o.Told, o.Offline
	return e
}

// maxCachedPatterns bounds the regular expressions that are kept compiled
// between decisions.
const maxCachedPatterns = 4096

func valueCache() cache.InterQueryValueCache {
	entries := maxCachedPatterns
	return cache.NewInterQueryValueCache(context.Background(), &cache.Config{
		InterQueryBuiltinValueCache: cache.InterQueryBuiltinValueCacheConfig{MaxNumEntries: &entries},
	})
}

// start makes OPA's plugin manager, through which bundles are activated, those
// from files today and those from a server by the same door.
func (e *Engine) start(ctx context.Context) error {
	registerGate()
	e.store = newStore()
	m, err := plugins.New([]byte(`{}`), e.labels["id"], e.store,
		plugins.Logger(opaLogger{e.logger}),
		plugins.ConsoleLogger(opaLogger{e.logger}),
		plugins.WithParserOptions(parserOptions()),
		plugins.WithBundleActivatorPlugin(gateName),
	)
	if err != nil {
		return fmt.Errorf("policy engine: %w", err)
	}
	e.manager = m
	m.RegisterCompilerTrigger(e.committed)
	if err := m.Start(ctx); err != nil {
		return errors.Join(fmt.Errorf("policy engine: %w", err), e.Close(ctx))
	}
	return nil
}

// newStore keeps data as OPA values, so that a decision converts nothing.
func newStore() storage.Store {
	return inmem.NewWithOpts(inmem.OptReturnASTValuesOnRead(true))
}

func parserOptions() ast.ParserOptions {
	return ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1}
}

// activate puts bundles through the gate and makes them, in one transaction,
// what decides, unless there are faults already.
func (e *Engine) activate(ctx context.Context, bundles map[string]*bundle.Bundle, faults Faults) error {
	compiler := ast.NewCompiler()
	params := storage.WriteParams
	params.Context = storage.NewContext()
	plugins.SetCompilerOnContext(params.Context, compiler)
	return storage.Txn(ctx, e.store, params, func(txn storage.Transaction) error {
		err := bundle.Activate(&bundle.ActivateOpts{
			Ctx: ctx, Store: e.store, Txn: txn, TxnCtx: params.Context, Compiler: compiler,
			Metrics: metrics.NoOp(), Bundles: bundles, ParserOptions: parserOptions(), Plugin: gateName,
		})
		if err != nil {
			faults = append(faults, faultsOf(err, "start again")...)
		}
		return faults.orNil()
	})
}

// committed prepares the query of what was just activated. It runs under the
// store's lock, so no decision sees the new data with the old policy.
func (e *Engine) committed(txn storage.Transaction) {
	r, err := newRevision(context.Background(), e.manager.GetCompiler(), e.store, txn)
	if err != nil && !storage.IsNotFound(err) { // OPA's own start activates nothing
		e.logger.Error("policy not usable; every call is refused", "err", err)
	}
	if r != nil && r.bundles[mainBundleName] == "" {
		r = nil // nothing has been activated yet
	}
	if r != nil {
		r.hostFacts = hostFactsOf(e.manager.GetCompiler())
	}
	e.active.Store(r)
}

// Reload reads the bundles again and makes them, with other site data, what
// decides, all at once. If anything of it does not validate or does not pass the
// gate, the error says why and the last good policy and data stay. Servers are
// asked again, too; what they have comes later.
func (e *Engine) Reload(ctx context.Context, site any) error {
	text, err := readSiteText(site)
	if err != nil {
		return err
	}
	if err := e.reread(ctx, text); err != nil {
		return err
	}
	e.downloads.again()
	return nil
}

// Revisions names what decides: the revision of each active bundle.
func (e *Engine) Revisions() map[string]string {
	if r := e.active.Load(); r != nil {
		return maps.Clone(r.bundles)
	}
	return map[string]string{}
}

var (
	errNotActive = errors.New("no policy is active")
	errClosed    = errors.New("the policy engine is closed")
)

// Ready says why decisions would be refused whatever is asked; nil if they
// would not.
func (e *Engine) Ready() error {
	switch behind := e.lag.Load(); {
	case e.closed.Load():
		return errClosed
	case e.active.Load() != nil:
		return nil
	case behind != nil:
		return behind
	}
	return errNotActive
}

// Stats counts what happened since the start.
func (e *Engine) Stats() Stats {
	return Stats{Decisions: e.decisions.Load(), Lost: e.lost.Load(), Dropped: e.dropped.Load()}
}

// Close stops the engine; decisions after it are refusals. The log is the
// caller's to close.
func (e *Engine) Close(ctx context.Context) error {
	if !e.closed.Swap(true) && e.manager != nil {
		e.downloads.stop()
		e.manager.Stop(ctx)
	}
	return nil
}

// Mark is what a decision's record says beside the decision itself.
type Mark struct {
	Mode   string // run or plan
	Digest string // of the plan
	Trace  tool.Trace
	Custom map[string]any
}

// Decide judges an input. It never fails: what cannot be judged is refused,
// with a code that says why. The decision is on the log when it returns.
func (e *Engine) Decide(ctx context.Context, in Input, m Mark) tool.Decision {
	e.decisions.Add(1)
	rec := record{id: e.newID(), began: e.now(), input: in, mark: m}
	e.judge(ctx, &rec)
	if s := e.shadow.Load(); s != nil {
		s.see(&rec)
	}
	return rec.decision
}

// judge evaluates and logs within one read transaction, so that the decision,
// its record and the revisions in both are of one moment.
func (e *Engine) judge(ctx context.Context, rec *record) {
	txn, err := e.store.NewTransaction(ctx)
	if err != nil {
		rec.fail(failNotReady, err)
		e.write(ctx, nil, nil, rec)
		return
	}
	defer e.store.Abort(ctx, txn)
	r := e.active.Load()
	if err := e.Ready(); err != nil {
		rec.fail(failNotReady, err)
	} else {
		rec.bundles, rec.lag = r.bundles, e.lag.Load()
		e.evaluate(ctx, r, txn, rec)
	}
	e.write(ctx, r, txn, rec)
}

func (e *Engine) newID() string {
	return ulid.MustNew(ulid.Timestamp(e.now()), rand.Reader).String()
}
