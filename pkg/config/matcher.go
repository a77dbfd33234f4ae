package config

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
)

// ruleSet is a set of rules by their position, a bit for each.
type ruleSet []uint64

func newRuleSet(rules int) ruleSet { return make(ruleSet, (rules+63)/64) }

func (s ruleSet) add(i int) { s[i/64] |= 1 << (i % 64) }

func (s ruleSet) addAll(other ruleSet) {
	for i := range other {
		s[i] |= other[i]
	}
}

// key is the same for sets of the same rules.
func (s ruleSet) key() string {
	b := make([]byte, 0, 8*len(s))
	for _, word := range s {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return string(b)
}

// all are the positions in rising order.
func (s ruleSet) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, word := range s {
			for ; word != 0; word &= word - 1 {
				if !yield(64*i + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}

// matcher finds the rules that match a host. Each pattern is tried once on each
// name, however many rules and hosts share them, and a plain name not even
// that.
type matcher struct {
	rules   int
	aliases *index
	tags    *index
}

func newMatcher(rules []rule) *matcher {
	m := &matcher{rules: len(rules), aliases: newIndexOf(len(rules)), tags: newIndexOf(len(rules))}
	for i, r := range rules {
		m.aliases.add(i, r.aliases)
		m.tags.add(i, r.tags)
	}
	return m
}

// match is the rules that match a host: by its alias, and by one of its tags.
func (m *matcher) match(h Host) ruleSet {
	byTag := newRuleSet(m.rules)
	byTag.addAll(m.tags.always)
	for _, tag := range h.Tags {
		byTag.addAll(m.tags.match(tag))
	}
	set := newRuleSet(m.rules)
	for i, word := range m.aliases.match(h.Alias) {
		set[i] = word & byTag[i]
	}
	return set
}

// index finds the rules whose patterns match a name.
type index struct {
	rules    int
	always   ruleSet // those without patterns
	exact    map[string]ruleSet
	patterns []glob
	matching []ruleSet          // of the pattern in the same position
	known    map[string]ruleSet // names that were looked up
}

func newIndexOf(rules int) *index {
	return &index{
		rules:  rules,
		always: newRuleSet(rules),
		exact:  map[string]ruleSet{},
		known:  map[string]ruleSet{},
	}
}

func (ix *index) add(rule int, globs []glob) {
	if len(globs) == 0 {
		ix.always.add(rule)
	}
	for _, g := range globs {
		ix.of(g).add(rule)
	}
}

// of is the rules that have a pattern.
func (ix *index) of(g glob) ruleSet {
	if g.exact {
		if ix.exact[g.text] == nil {
			ix.exact[g.text] = newRuleSet(ix.rules)
		}
		return ix.exact[g.text]
	}
	i := slices.Index(ix.patterns, g)
	if i < 0 {
		i = len(ix.patterns)
		ix.patterns = append(ix.patterns, g)
		ix.matching = append(ix.matching, newRuleSet(ix.rules))
	}
	return ix.matching[i]
}

func (ix *index) match(name string) ruleSet {
	if set, ok := ix.known[name]; ok {
		return set
	}
	set := newRuleSet(ix.rules)
	set.addAll(ix.always)
	set.addAll(ix.exact[name])
	for i := range ix.patterns {
		if ix.patterns[i].match(name) {
			set.addAll(ix.matching[i])
		}
	}
	ix.known[name] = set
	return set
}
