package policy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// bundleSet is what the bundles are made of. All of them become active together, in
// one transaction, or none does: half of a set never decides.
type bundleSet struct {
	sources []Source // the one that decides first
	kept    archives

	local  map[string]image // of what is on disk, as it was last good
	site   *siteText        // the operator's data, likewise
	good   map[string]*fetched
	next   map[string]*fetched     // came later and does not decide, or not yet
	state  map[string]BundleChange // the last thing to tell of each
	active bool
}

// remember keeps what is on disk for when a server gives something newer: half a
// change of a directory must not become active then.
func (s *bundleSet) remember(local map[string]image, site *siteText) {
	if len(s.remote()) > 0 {
		s.local, s.site = local, site
	}
}

// fetched is a bundle as a server gave it.
type fetched struct {
	raw      []byte // the archive
	digest   string
	etag     string
	restored bool // it was kept from an earlier run
}

func newFetched(raw []byte, etag string) *fetched {
	sum := sha256.Sum256(raw)
	return &fetched{raw: raw, digest: hex.EncodeToString(sum[:]), etag: etag}
}

func (f *fetched) image(s Source) (image, error) {
	return take(bundle.NewTarballLoaderWithBaseURL(bytes.NewReader(f.raw), s.where()), s.limit())
}

func newSet(sources []Source, k archives) bundleSet {
	return bundleSet{sources: sources, kept: k, good: map[string]*fetched{}, next: map[string]*fetched{}, state: map[string]BundleChange{}}
}

// Kind is what happened to a bundle that comes from a server.
type Kind string

const (
	Activated   Kind = "activated"   // a new revision decides
	Restored    Kind = "restored"    // one that was kept does, until the server is heard
	Refused     Kind = "refused"     // a new revision does not decide; the last good one stays
	Unreachable Kind = "unreachable" // there was no whole answer
	Current     Kind = "current"     // after trouble, what decides is the newest again
	Unkept      Kind = "unkept"      // what decides could not be kept for the next start
)

// BundleChange is something that happened to a bundle of a server.
type BundleChange struct {
	Kind     Kind
	Bundle   string
	Revision string // what decides now; empty for nothing
	Detail   string // why
}

// behind says that what decides is not the newest, or may not be.
func (c BundleChange) behind() bool { return c.Kind == Refused || c.Kind == Unreachable }

// lag is which bundles are behind. As an error it says why nothing decides.
type lag []BundleChange

func (l *lag) Error() string {
	text := make([]string, len(*l))
	for i, c := range *l {
		text[i] = "waiting for bundle " + c.Bundle
		if c.Detail != "" {
			text[i] += ": " + c.Detail
		}
	}
	return strings.Join(text, "; ")
}

func (l *lag) states() map[string]string {
	states := map[string]string{}
	for _, c := range *l {
		states[c.Bundle] = string(c.Kind)
	}
	return states
}

// Behind names the bundles of which the last good revision decides although the
// server has another, or may have, and says which of the two it is.
func (e *Engine) Behind() map[string]string {
	if l := e.lag.Load(); l != nil {
		return l.states()
	}
	return map[string]string{}
}

// remote are the sources that are not on disk.
func (s *bundleSet) remote() []Source {
	return slices.DeleteFunc(slices.Clone(s.sources), func(s Source) bool { return s.Service == nil })
}

func (s *bundleSet) source(name string) Source {
	i := slices.IndexFunc(s.sources, func(s Source) bool { return s.Name == name })
	return s.sources[i]
}

// begin loads what is there and asks the servers for the rest. What was kept
// does not stop a start: where it does not pass, the servers may have better.
func (e *Engine) begin(ctx context.Context, site *siteText) error {
	restored := e.set.kept.load(e.set.remote())
	maps.Copy(e.set.next, restored)
	if err := e.reread(ctx, site); err != nil {
		if len(restored) == 0 {
			return err
		}
		clear(e.set.next)
		if err := e.reread(ctx, site); err != nil {
			return err
		}
		for name := range restored {
			e.tell(BundleChange{Kind: Refused, Bundle: name, Detail: "as it was kept: " + err.Error()})
		}
	}
	e.reckon()
	if e.offline {
		return nil
	}
	return e.downloads.begin(ctx, e)
}

// reread takes what is on disk and the operator's data anew.
func (e *Engine) reread(ctx context.Context, site *siteText) error {
	e.revising.Lock()
	defer e.revising.Unlock()
	local, faults := e.images()
	if len(faults) > 0 && len(e.set.remote()) > 0 {
		return e.blame(faults)
	}
	return e.advance(ctx, local, site, "", faults)
}

// arrived takes what a server gave. It decides from now on, together with
// whatever else is newer than what decides if it takes that, too.
func (e *Engine) arrived(ctx context.Context, name string, f *fetched) error {
	e.revising.Lock()
	defer e.revising.Unlock()
	if good := e.set.good[name]; good != nil && good.digest == f.digest {
		good.etag = f.etag
		delete(e.set.next, name)
		e.caughtUp(name)
		return nil
	}
	e.set.next[name] = f
	err := e.advance(ctx, e.set.local, e.set.site, name, nil)
	switch {
	case err == nil:
		e.reckon()
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		if !e.set.active {
			delete(e.set.next, name) // it will be given again
		}
		e.tell(BundleChange{Kind: Refused, Bundle: name, Detail: err.Error()})
	}
	return err
}

// failed takes note that a server gave nothing that could be used.
func (e *Engine) failed(name string, kind Kind, err error) error {
	e.revising.Lock()
	defer e.revising.Unlock()
	e.tell(BundleChange{Kind: kind, Bundle: name, Detail: err.Error()})
	return err
}

// unchanged takes note that a server has nothing newer.
func (e *Engine) unchanged(name string) {
	e.revising.Lock()
	defer e.revising.Unlock()
	if e.set.next[name] == nil {
		e.caughtUp(name)
	}
}

func (e *Engine) caughtUp(name string) {
	if e.set.state[name].behind() {
		e.tell(BundleChange{Kind: Current, Bundle: name})
	}
}

// etag is that of what decides, to ask for something else.
func (e *Engine) etag(name string) string {
	e.revising.Lock()
	defer e.revising.Unlock()
	if good := e.set.good[name]; good != nil {
		return good.etag
	}
	return ""
}

// advance has the newest of everything decide, or else what is on disk and the
// named bundle alone, beside what decides of the others.
func (e *Engine) advance(ctx context.Context, local map[string]image, site *siteText, name string, faults Faults) error {
	all := maps.Clone(e.set.good)
	maps.Copy(all, e.set.next)
	err := e.activateSet(ctx, local, site, all, faults)
	if one := maps.Clone(e.set.good); err != nil && len(e.set.next) > 0 && e.set.active {
		if f := e.set.next[name]; f != nil {
			one[name] = f
		}
		if !maps.Equal(one, all) {
			err = e.activateSet(ctx, local, site, one, faults)
		}
	}
	return err
}

// activateSet puts a set through the gate. While one of its bundles is still to
// come, what is there of it is only read.
func (e *Engine) activateSet(ctx context.Context, local map[string]image, site *siteText, remote map[string]*fetched, faults Faults) error {
	images := maps.Clone(local)
	for _, name := range slices.Sorted(maps.Keys(remote)) {
		s := e.set.source(name)
		img, err := remote[name].image(s)
		if err == nil {
			images[name] = img
		}
		faults = append(faults, s.faults(err)...)
	}
	bundles, more := e.bundles(images)
	faults = append(faults, more...)
	complete := len(remote) == len(e.set.remote())
	if !complete && len(faults) == 0 {
		e.set.remember(local, site)
		return nil
	}
	if !complete || bundles[mainBundleName] == nil {
		return e.blame(faults)
	}
	var err error
	if bundles[siteBundleName], err = site.bundle(); err != nil {
		return err
	}
	if err := e.blame(e.activate(ctx, bundles, faults)); err != nil {
		return err
	}
	e.activated(local, site, remote, bundles)
	return nil
}

// activated takes note of what decides from now on.
func (e *Engine) activated(local map[string]image, site *siteText, remote map[string]*fetched, bundles map[string]*bundle.Bundle) {
	was := e.set.good
	e.set.remember(local, site)
	e.set.good, e.set.active = remote, true
	for name, f := range remote {
		if e.set.next[name] == f {
			delete(e.set.next, name)
		}
	}
	if maps.Equal(was, remote) {
		return
	}
	fresh := slices.ContainsFunc(slices.Collect(maps.Values(remote)), func(f *fetched) bool { return !f.restored })
	if fresh && !e.offline {
		if err := e.set.kept.save(e.set.remote(), remote, bundles); err != nil {
			e.tell(BundleChange{Kind: Unkept, Detail: err.Error()})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(remote)) {
		switch {
		case was[name] == remote[name]:
		case remote[name].restored:
			e.tell(BundleChange{Kind: Restored, Bundle: name})
		default:
			e.tell(BundleChange{Kind: Activated, Bundle: name})
		}
	}
}

// tell has a change in the log and heard by whoever wants to, once, however
// often it is tried again.
func (e *Engine) tell(c BundleChange) {
	c.Revision = e.Revisions()[c.Bundle]
	last, told := e.set.state[c.Bundle]
	e.set.state[c.Bundle] = c
	e.reckon()
	if told && (last == c && c.Kind != Activated || last.Kind == c.Kind && c.Kind == Unreachable) {
		return
	}
	args := []any{"change", c.Kind, "bundle", c.Bundle, "revision", c.Revision}
	if c.Detail == "" {
		e.logger.Info("bundle", args...)
	} else {
		e.logger.Error("bundle", append(args, "problem", c.Detail)...)
	}
	if e.told != nil {
		e.told(c)
	}
}

// reckon puts together what is behind, for decisions and probes to say.
func (e *Engine) reckon() {
	var behind lag
	for _, s := range e.set.remote() {
		state, told := e.set.state[s.Name]
		switch {
		case told && state.behind():
			behind = append(behind, state)
		case !e.set.active && e.set.next[s.Name] == nil:
			behind = append(behind, BundleChange{Kind: Unreachable, Bundle: s.Name, Detail: "nothing has come yet from " + s.where()})
		}
	}
	if len(behind) == 0 {
		e.lag.Store(nil)
		return
	}
	e.lag.Store(&behind)
}
