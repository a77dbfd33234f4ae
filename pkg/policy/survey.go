package policy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
)

// survey knows what the documents of a policy depend on, in two steps. Some
// documents are small: they do not look at the ops of a call, only at who calls,
// where, when, how often. The others depend on parts of the input and on the
// values of small ones. So a limit of calls in a minute makes a difference by
// whether it is reached, not by each number of calls, and a host by what is
// granted there, not by its name.
type survey struct {
	compiler *ast.Compiler
	prepare  func(query string) (*rego.PreparedEvalQuery, error)
	// prepareOpen is for a query that leaves open what goes on.
	prepareOpen func(query string) (*rego.PreparedPartialQuery, error)
	small       []smallDoc
	index       map[string]int // of small documents, by reference; or one of the below
	places      places         // all that anything of the survey looks at
	room        int            // for what is remembered of a small document, in bytes
}

// newSurvey begins a survey of what is active. What it is asked to look into it
// prepares within the transaction.
func newSurvey(ctx context.Context, c *ast.Compiler, store storage.Store, txn storage.Transaction, room int) *survey {
	return &survey{
		compiler: c, index: map[string]int{}, room: room,
		prepare: func(query string) (*rego.PreparedEvalQuery, error) {
			return prepare(ctx, query, c, store, txn)
		},
		prepareOpen: func(query string) (*rego.PreparedPartialQuery, error) {
			return prepareOpen(ctx, query, c, store, txn)
		},
	}
}

// smallDoc is a small document that a larger one refers to.
type smallDoc struct {
	reads *reads
	at    []int // the same, in survey.places
	query *rego.PreparedEvalQuery
	known *memo[digest, digest] // what it looks at -> its value
	open  *openFact             // nil: it is asked as a whole
}

// What else a document may be in the index.
const (
	large    = -1
	constant = -2 // it looks at nothing
)

// looks is all that a document depends on: with the same places and the same
// values of small documents it has the same value.
type looks struct {
	at    *reads
	small []int // in survey.small

	places []int // at, in survey.places
}

// looking has the survey know the places that a document looks at.
func (s *survey) looking(at *reads, small []int) looks {
	slices.Sort(small)
	return looks{at, slices.Compact(small), s.places.of(at)}
}

// ops is what small documents do not look at: the largest part of an input, in
// which calls differ most.
var ops = []string{"ops"}

// looksOf finds what a document depends on. Under with, which replaces parts of
// input or data, small documents have other values; a document in which there is
// one depends on the input alone.
func (s *survey) looksOf(document ast.Ref) (looks, error) {
	f := following{survey: s, seen: map[*ast.Rule]bool{}, found: looks{at: &reads{}}}
	if err := f.follow(document); err != nil {
		return looks{}, err
	}
	if f.replaces {
		return s.looking(readsOf(s.compiler, document), nil), nil
	}
	return s.looking(f.found.at, f.found.small), nil
}

// following goes from rule to rule, up to the small documents.
type following struct {
	survey   *survey
	seen     map[*ast.Rule]bool
	found    looks
	replaces bool
}

func (f *following) follow(ref ast.Ref) error {
	for _, rule := range rulesBehind(f.survey.compiler, ref) {
		if f.seen[rule] {
			continue
		}
		f.seen[rule] = true
		switch i, err := f.survey.classify(rule); {
		case err != nil:
			return err
		case i >= 0:
			f.found.small = append(f.found.small, i)
		case i == large:
			if err := f.into(rule); err != nil {
				return err
			}
		}
	}
	return nil
}

// into goes through the text of a rule.
func (f *following) into(rule *ast.Rule) (err error) {
	ast.WalkWiths(rule, func(*ast.With) bool {
		f.replaces = true
		return true
	})
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		if ref[0].Equal(ast.DefaultRootDocument) {
			err = errors.Join(err, f.follow(ref))
		} else {
			f.found.at.look(ref)
		}
		return false
	})
	return err
}

// classify files the document that a rule is a part of.
func (s *survey) classify(rule *ast.Rule) (int, error) {
	document := rule.Ref().GroundPrefix()
	name := document.String()
	if i, known := s.index[name]; known {
		return i, nil
	}
	looked := readsOf(s.compiler, document)
	switch {
	case looked.none():
		s.index[name] = constant
	case len(rule.Head.Args) > 0 || looked.touches(ops):
		s.index[name] = large
	default:
		query, err := s.prepare(name)
		if err != nil {
			return 0, err
		}
		open, err := s.openFactOf(document, looked)
		if err != nil {
			return 0, err
		}
		s.index[name] = len(s.small)
		s.small = append(s.small, smallDoc{looked, s.places.of(looked), query, newMemo[digest, digest](s.room), open})
	}
	return s.index[name], nil
}

// moment is what is known of one input.
type moment struct {
	survey *survey
	ask    func(query *rego.PreparedEvalQuery, input []byte) (*ast.Term, error)
	leave  func(query *rego.PreparedPartialQuery, input []byte) (*rego.PartialQueries, error)
	input  []byte
	found  [][]byte  // what is at survey.places; nil until it is needed
	values []*digest // of small documents; nil until they are needed
	broken bool      // a small document had no usable answer
}

// newMoment looks at an input, through the eyes of an evaluation.
func (s *survey) newMoment(ctx context.Context, v evaluation, input []byte) *moment {
	return &moment{
		survey: s, input: input, values: make([]*digest, len(s.small)),
		ask: func(query *rego.PreparedEvalQuery, input []byte) (*ast.Term, error) {
			v.query, v.input = query, valueOf(input).Value
			return v.run(ctx)
		},
		leave: func(query *rego.PreparedPartialQuery, input []byte) (*rego.PartialQueries, error) {
			v.input = valueOf(input).Value
			return v.leave(ctx, query)
		},
	}
}

// key is a digest of all that a document depends on. There is none where that
// cannot be found out: then nothing is remembered.
func (m *moment) key(l looks) (digest, bool) {
	h := sha256.New()
	m.write(h, l.places)
	for _, i := range l.small {
		value, ok := m.value(i)
		if !ok {
			return digest{}, false
		}
		h.Write(value[:])
	}
	return digest(h.Sum(nil)), true
}

// write adds what is at places to a digest, each with its length before it.
func (m *moment) write(h hash.Hash, places []int) {
	var length [8]byte
	for _, i := range places {
		text := m.at()[i]
		binary.BigEndian.PutUint64(length[:], uint64(len(text)))
		h.Write(length[:])
		h.Write(text)
	}
}

// at is what the input has at each place of the survey.
func (m *moment) at() [][]byte {
	if m.found == nil {
		m.found = m.survey.places.in(m.input)
	}
	return m.found
}

// value is the digest of what a small document is for the input. There is none
// where that cannot be found out.
func (m *moment) value(i int) (digest, bool) {
	if m.values[i] != nil {
		return *m.values[i], true
	}
	if m.broken {
		return digest{}, false
	}
	doc := &m.survey.small[i]
	value, ok := m.openValue(doc)
	if !ok {
		value, ok = m.wholeValue(doc)
	}
	if ok {
		m.values[i] = &value
	}
	return value, ok
}

// wholeValue asks the document, unless it was asked the same before.
func (m *moment) wholeValue(doc *smallDoc) (digest, bool) {
	key := m.digestAt(doc.at)
	value, known := doc.known.get(key)
	if known {
		return value, true
	}
	term, err := m.ask(doc.query, doc.reads.prune(nil, m.input))
	switch {
	case err == nil:
		value = digestOfValue(term)
	case !errors.Is(err, errUndefined): // undefined is the zero digest
		m.broken = true // one that takes too long is waited for once
		return digest{}, false
	}
	doc.known.put(key, value, len(key)+len(value))
	return value, true
}

// openValue finds out what is left of the document when what goes on is left
// open, unless it is known, and then whether that holds.
func (m *moment) openValue(doc *smallDoc) (digest, bool) {
	open := doc.open
	if open == nil {
		return digest{}, false
	}
	key := m.digestAt(open.at)
	left, known := open.left.get(key)
	if !known {
		q, err := m.leave(open.query, open.reads.prune(nil, m.input))
		if err != nil {
			return digest{}, false
		}
		left = m.survey.places.remainderOf(q)
		open.left.put(key, left, left.size())
	}
	switch {
	case left == nil:
		return digest{}, false
	case left.hold(m.at()):
		return open.value, true
	}
	return digest{}, true
}

func (m *moment) digestAt(places []int) digest {
	h := sha256.New()
	m.write(h, places)
	return digest(h.Sum(nil))
}

func digestOfValue(t *ast.Term) digest { return sha256.Sum256([]byte(t.String())) }
