package config

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// CommandRule judges one command of a command line by its words. It is one of
// three kinds: simple, a program and how many words may follow it; structured, a
// program and what its first words are and some others look like; glob, the
// whole command as a text.
type CommandRule struct {
	Rule     string    `json:"rule"` // its name, or rules[i]
	Line     int       `json:"line"`
	Kind     string    `json:"kind"`
	Says     string    `json:"says"`     // what it is about, for people
	Programs []string  `json:"programs"` // as they have to be called
	Most     int       `json:"most"`     // words after the program; -1 for any number
	Prefix   []string  `json:"prefix"`   // the first of them
	Parts    []string  `json:"parts"`    // the same with joined letters apart, in any order
	Fixed    int       `json:"fixed"`    // how many of them the rule spells out
	Indices  []int     `json:"indices"`  // words that are paths; 0 is the program
	Patterns []Pattern `json:"patterns"` // one of which fits a path, or the command
	All      bool      `json:"all"`      // any command, whatever runs it
}

// anyNumber of words.
const anyNumber = -1

// commandKeys are the keys of rules that judge a command by its words, and the
// rule schema that each is from.
var commandKeys = map[string]int{
	"commands":         1,
	"simple_binaries":  2,
	"simple_max_args":  2,
	"binary":           2,
	"arg_prefix":       2,
	"allow_extra_args": 2,
	"path_args":        2,
}

// written is what a rule says about commands, as it stands in the file.
type written struct {
	globs   []string
	simple  []string
	most    int
	binary  string
	prefix  []string
	extra   bool
	indices []int
	paths   []string
	at      map[string]place // of the keys that are there
}

// commandFields are the keys that rules on commands may have.
func (w *written) commandFields() fields {
	w.most, w.extra, w.at = anyNumber, true, map[string]place{}
	known := fields{
		"commands":         notEmpty(texts(&w.globs)),
		"simple_binaries":  notEmpty(texts(&w.simple, program)),
		"simple_max_args":  integer(&w.most, 0, maxWords),
		"binary":           text(&w.binary, program),
		"arg_prefix":       wordList(&w.prefix),
		"allow_extra_args": boolean(&w.extra),
		"path_args":        w.pathArgs,
	}
	for key, read := range known {
		known[key] = func(v value) {
			w.at[key] = v.place
			read(v)
		}
	}
	return known
}

// maxWords is more than fit into a command line.
const maxWords = 16_384

// program is the name of a program, or its path, as a command has to spell it.
func program(s string) *fault {
	switch {
	case strings.ContainsAny(s, " \t"):
		name, rest, _ := strings.Cut(s, " ")
		return faultf(fmt.Sprintf("write binary: %s and arg_prefix: [%s]", name, strings.Join(strings.Fields(rest), ", ")),
			"%q is more than the name of a program, so it can never match", s)
	case strings.ContainsAny(s, globSpecial):
		return faultf("write each name out", "%q is a pattern; programs are compared whole", s)
	case s == "" || strings.HasSuffix(s, "/"):
		return faultf("write its name", "%q is not a program", s)
	}
	return nil
}

// notEmpty refuses a list that holds nothing: the rule would never match.
func notEmpty(read field) field {
	return func(v value) {
		read(v)
		if emptyList(v) {
			v.fail(faultf("put something into it, or remove it", "is empty, so it can never match"))
		}
	}
}

// wordList stores words in their order, some of them perhaps twice.
func wordList(p *[]string) field {
	return func(v value) {
		*p = []string{}
		each(func(_ value, s string) { *p = append(*p, s) })(v)
	}
}

func (w *written) pathArgs(v value) {
	v.object(fields{
		"indices": func(v value) {
			w.at["indices"] = v.place
			notEmpty(func(v value) { v.items(w.index) })(v)
		},
		"patterns": func(v value) {
			w.at["patterns"] = v.place
			notEmpty(texts(&w.paths))(v)
		},
	}, "indices", "patterns")
}

func (w *written) index(item value) {
	n := anyNumber
	if item.node.ShortTag() == "!!int" && item.node.Value == "0" {
		item.fail(faultf("count the words after the program from 1", "0 is the program itself, which binary names"))
		return
	}
	integer(&n, 1, maxWords)(item)
	if n < 0 {
		return
	}
	if slices.Contains(w.indices, n) {
		item.fail(faultf("keep one of the two", "%d is in the list twice", n))
		return
	}
	w.indices = append(w.indices, n)
}

func (w *written) has(key string) bool { _, ok := w.at[key]; return ok }

// judges says that a rule is about commands.
func (w *written) judges() bool {
	for key := range commandKeys {
		if w.has(key) {
			return true
		}
	}
	return false
}

// rules are the command rules that a rule amounts to; what could never match, or
// means less than it seems to, is reported.
func (w *written) rules(v value, action string) []CommandRule {
	deny := action == "deny"
	var list []CommandRule
	if w.has("commands") {
		list = append(list, w.globRules(deny)...)
	}
	if w.has("simple_binaries") || w.has("simple_max_args") {
		list = append(list, w.simpleRules(v, deny)...)
	}
	if slices.ContainsFunc([]string{"binary", "arg_prefix", "allow_extra_args", "path_args"}, w.has) {
		list = append(list, w.structuredRules(v, deny)...)
	}
	if !deny {
		warnOfUnseen(v, list)
	}
	return list
}

// warnOfUnseen reports programs of rules that allow which run what nobody can
// permit: there has to be something else that the rules can match.
func warnOfUnseen(v value, rules []CommandRule) {
	var unseen []string
	programs := 0
	for _, r := range rules {
		programs += max(1, len(r.Programs))
		for _, program := range r.Programs {
			if slices.Contains(opaque, path.Base(program)) {
				unseen = append(unseen, program)
			}
		}
	}
	fault := faultf("allow the programs themselves instead", "commands with %s are refused, since they run what their words do not show", strings.Join(unseen, ", "))
	switch {
	case unseen == nil:
	case len(unseen) == programs:
		fault.message += ", so it can never match"
		v.fail(fault)
	default:
		v.warn(fault)
	}
}

func (w *written) globRules(deny bool) []CommandRule {
	at := w.at["commands"]
	var list []CommandRule
	for _, glob := range w.globs {
		p, whole, f := linePattern(glob, deny)
		if f != nil {
			at.fail(f)
			continue
		}
		r := CommandRule{
			Kind: "glob", Says: glob, Most: anyNumber, Patterns: []Pattern{p},
			All: strings.Trim(glob, "* ") == "",
		}
		if len(whole) > 0 {
			r.Programs, r.Fixed = whole[:1], len(whole)-1
		}
		if deny {
			r.Parts = globParts(glob)
		}
		list = append(list, r)
	}
	return list
}

// globParts are the words of a glob that ends with * and has no other sign: what
// it denies is denied in another order, too. The last one may go on, which * says.
func globParts(glob string) []string {
	rest := strings.TrimRight(glob, "*")
	words := strings.Fields(rest)
	if len(words) < 2 || strings.ContainsAny(rest, globSpecial+"'\"") {
		return nil
	}
	last := &words[len(words)-1]
	if goesOn := rest != glob && strings.HasSuffix(rest, *last); goesOn && (*last)[0] != '-' {
		*last += "*"
	}
	return partsOf(words[1:])
}

// exact says that nothing in a pattern is special.
func (p Pattern) exact() bool { return !strings.ContainsAny(p.Text, globSpecial) }

func (w *written) simpleRules(v value, deny bool) []CommandRule {
	if !w.has("simple_binaries") {
		v.fail(faultf("add simple_binaries, or remove it", "has simple_max_args without simple_binaries"))
	}
	if len(w.simple) == 0 {
		return nil
	}
	r := CommandRule{Kind: "simple", Programs: w.simple, Most: w.most}
	r.Says = strings.Join(w.simple, ", ")
	if deny {
		r.Most = anyNumber
	} else if r.Most >= 0 {
		r.Says += fmt.Sprintf(" with at most %d words", r.Most)
	}
	return []CommandRule{r}
}

func (w *written) structuredRules(v value, deny bool) []CommandRule {
	patterns := w.patterns(deny)
	if !w.sound(v) {
		return nil
	}
	r := CommandRule{
		Kind: "structured", Programs: []string{w.binary}, Most: anyNumber, Prefix: w.prefix, Fixed: len(w.prefix),
		Parts: partsOf(w.prefix), Indices: w.indices, Patterns: patterns,
	}
	if !w.extra && !deny {
		r.Most = len(w.prefix) + len(w.indices)
	}
	r.Says = r.describe(!w.extra && !deny)
	return []CommandRule{r}
}

func (w *written) patterns(deny bool) []Pattern {
	var list []Pattern
	for _, glob := range w.paths {
		p, f := pathPattern(glob, deny)
		if f != nil {
			w.at["patterns"].fail(f)
			continue
		}
		list = append(list, p)
	}
	return list
}

// describe is a rule as a command line: tail -n 200 PATH (PATH in /var/log/*).
func (r CommandRule) describe(whole bool) string {
	words := slices.Concat(r.Programs, r.Prefix)
	for _, i := range slices.Sorted(slices.Values(r.Indices)) {
		for len(words) < i {
			words = append(words, "WORD")
		}
		words = append(words, "PATH")
	}
	if !whole {
		words = append(words, "...")
	}
	says := strings.Join(words, " ")
	if len(r.Patterns) > 0 {
		var list []string
		for _, p := range r.Patterns {
			list = append(list, p.Text)
		}
		says += " (PATH in " + strings.Join(list, " or ") + ")"
	}
	return says
}

// sound reports what keeps a structured rule from ever matching.
func (w *written) sound(v value) bool {
	ok := true
	fail := func(at place, f *fault) { ok = false; at.fail(f) }
	switch {
	case !w.has("binary"):
		fail(v.place, faultf("add binary:, or remove them", "has arguments of a program, but not which one"))
	case w.binary == "":
		return false // it has been reported
	case len(w.prefix) == 0 && !w.has("path_args"):
		fail(w.at["binary"], faultf("write simple_binaries: ["+w.binary+"] to mean "+w.binary+" with any words, or add arg_prefix",
			"neither arg_prefix nor path_args is there, so it can never match"))
	}
	for _, i := range w.indices {
		if i <= len(w.prefix) {
			fail(w.at["indices"], faultf("count on from "+strconv.Itoa(len(w.prefix)+1), "%d is a word of arg_prefix, which is fixed", i))
		} else if !w.extra && i > len(w.prefix)+len(w.indices) {
			fail(w.at["indices"], faultf("remove allow_extra_args: false, or count on without a gap",
				"%d leaves a gap, and allow_extra_args: false permits no word there, so it can never match", i))
		}
	}
	return ok
}

// partsOf takes words apart as far as their order says nothing: -rf is -r and -f,
// --a=b is --a and b. Longer words behind a single dash are names, as those of
// find are.
func partsOf(words []string) []string {
	parts := []string{}
	for _, word := range words {
		name, value, joined := strings.Cut(word, "=")
		switch {
		case strings.HasPrefix(word, "--") && joined:
			parts = append(parts, name, value)
		case len(word) < 3 || len(word) > 4 || word[0] != '-' || word[1] == '-':
			parts = append(parts, word)
		default:
			for _, letter := range word[1:] {
				parts = append(parts, "-"+string(letter))
			}
		}
	}
	slices.Sort(parts)
	return slices.Compact(parts)
}

// keys are what a rule is found by: the names of its programs without their
// directories, and the empty text when it could be any.
func (r CommandRule) keys() []string {
	if len(r.Programs) == 0 {
		return []string{""}
	}
	var keys []string
	for _, p := range r.Programs {
		keys = append(keys, path.Base(p))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// CommandRules finds the rules on commands that hold for a caller: by the name
// of the program, and under the empty one those that are about any. The rules
// are those of [Site.Rules].
type CommandRules struct {
	Any      map[string][]string            `json:"any"`
	Groups   map[string]map[string][]string `json:"groups"`
	Subjects map[string]map[string][]string `json:"subjects"`
}

func newCommandRules() CommandRules {
	return CommandRules{
		Any:      map[string][]string{},
		Groups:   map[string]map[string][]string{},
		Subjects: map[string]map[string][]string{},
	}
}

// add files the command rules of a rule, which is the one at a position.
func (c CommandRules) add(position int, r rule) {
	for i, command := range r.commands {
		for _, key := range command.keys() {
			c.file(r, key, ruleID(position, i))
		}
	}
}

func (c CommandRules) file(r rule, key, id string) {
	if len(r.groups)+len(r.subjects) == 0 {
		c.Any[key] = append(c.Any[key], id)
	}
	for _, name := range r.groups {
		under(c.Groups, name)[key] = append(c.Groups[name][key], id)
	}
	for _, name := range r.subjects {
		under(c.Subjects, name)[key] = append(c.Subjects[name][key], id)
	}
}

func ruleID(position, i int) string { return fmt.Sprintf("%d.%d", position, i) }

// commandRules are all rules on commands, by id.
func commandRules(rules []rule) map[string]CommandRule {
	all := map[string]CommandRule{}
	for position, r := range rules {
		for i, command := range r.commands {
			command.Rule, command.Line = r.name, r.line
			command.fill()
			all[ruleID(position, i)] = command
		}
	}
	return all
}

// maxSays is how much of a rule a refusal tells, in bytes.
const maxSays = 200

// fill makes what is not there empty, and what is long short.
func (r *CommandRule) fill() {
	r.Programs, r.Prefix, r.Parts = list(r.Programs), list(r.Prefix), list(r.Parts)
	r.Indices, r.Patterns = list(r.Indices), list(r.Patterns)
	if len(r.Says) > maxSays {
		r.Says = strings.ToValidUTF8(r.Says[:maxSays], "") + "..."
	}
}

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
