package policy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// allowances are what the caller is allowed that is like a call, as policy says.
// Changes to the call are taken from there.
type allowances struct {
	Rules  []SiteRule          `json:"rules"`
	Files  map[string][]string `json:"files"` // patterns, by verb
	Places []SiteAdhoc         `json:"places"`
}

// commands are the edits of the command line, if the call has one.
func (n *nearest) commands(from variant) []variant {
	at := commandAt(from.input.Ops)
	if at < 0 {
		return nil
	}
	was := from.input.Ops[at].Command
	var all []variant
	missing, other := n.allowed.words(was.Commands)
	missing = append(missing, additions(n.question.revision.data.root, was.Commands)...)
	for _, edit := range shell.Edits(was.Text, missing, other) {
		doc := shell.Parse(edit.Text)
		if was.Cwd != "" {
			doc = doc.In(was.Cwd)
		}
		if doc.Canonical == "" && was.Canonical != "" {
			continue
		}
		v := from.with(kindCommand, edit.What)
		v.input.Ops = withCommand(from.input.Ops, at, doc)
		v.lost = from.lost + edit.Cost
		all = append(all, v)
	}
	return all
}

// withCommand has another command line in the place of one, and what follows
// from it in the place of what followed.
func withCommand(ops []tool.Op, at int, doc shell.Document) []tool.Op {
	op := ops[at]
	op.Command = &doc
	rest := ops[at+1:]
	for len(rest) > 0 && rest[0].Derived {
		rest = rest[1:]
	}
	return slices.Concat(ops[:at], []tool.Op{op}, tool.Derive(doc), rest)
}

// additions are words that may be missing: options that a profile's table
// requires of a program, and those that wrappers are permitted with only.
func additions(root ast.Value, commands []shell.Command) []shell.Addition {
	all := []shell.Addition{{Program: "sudo", Word: "-n", First: true}}
	tables, _ := valueAt(root, "sallyport", "profiles", "commands").(ast.Object)
	if tables == nil {
		return all
	}
	tables.Foreach(func(_, table *ast.Term) {
		for _, c := range commands {
			for _, name := range requiredBy(valueAt(table.Value, c.Program)) {
				all = append(all, shell.Addition{Program: c.Program, Word: name})
			}
		}
	})
	return all
}

// requiredBy are the options without a value that a table requires, of a program
// or of one of its verbs.
func requiredBy(spec ast.Value) []string {
	object, _ := spec.(ast.Object)
	if object == nil {
		return nil
	}
	var names []string
	object.Foreach(func(k, v *ast.Term) {
		if key, _ := k.Value.(ast.String); key != "require" {
			names = append(names, requiredBy(v.Value)...)
		}
	})
	ast.WalkTerms(ast.NewTerm(orEmpty(valueAt(spec, "require"))), func(t *ast.Term) bool {
		name, isName := t.Value.(ast.String)
		switch {
		case !isName:
		case len(name) == 1 && strings.Contains(stringAt(spec, "flags"), string(name)):
			names = append(names, "-"+string(name))
		case len(name) > 1 && valueAt(spec, "long_valued", string(name)) == nil:
			names = append(names, "--"+string(name))
		}
		return false
	})
	return names
}

func orEmpty(v ast.Value) ast.Value {
	if v == nil {
		return ast.NewArray()
	}
	return v
}

// Wishes to try instead of a larger one, the largest first; 0 is no wish.
var (
	fewerSeconds = []int{3600, 600, 300, 60, 30, 10, 0}
	fewerBytes   = []int64{16 << 20, 1 << 20, 64 << 10, 0}
)

// wishes have the caller ask for less.
func wishes(from variant) []variant {
	var all []variant
	wish := from.input.Limits.Requested
	for _, n := range fewerSeconds {
		if n < wish.Seconds {
			v := from.with(kindSeconds, asking("max_seconds", int64(n)))
			v.input.Limits.Requested.Seconds = n
			all = append(all, v)
		}
	}
	for _, n := range fewerBytes {
		if n < wish.OutputBytes {
			v := from.with(kindBytes, asking("max_output_bytes", n))
			v.input.Limits.Requested.OutputBytes = n
			all = append(all, v)
		}
	}
	return all
}

func asking(name string, n int64) string {
	if n == 0 {
		return "without " + name
	}
	return fmt.Sprintf("with %s %d", name, n)
}

// onOthers make the call on other hosts. Of a host outside of the inventory that is
// to be connected to, the other one is the same under its alias.
func onOthers(from variant, others []tool.Target) []variant {
	var all []variant
	here := from.input.Host
	for _, t := range others[:min(len(others), maxOthers)] {
		if here.Source == sourceAdhoc && opens(from.input.Ops) && !strings.EqualFold(t.Hostname, here.Hostname) {
			continue
		}
		v := from.with(kindHost, "on "+t.Alias)
		v.input.Host = newHost(t)
		v.input.Network = Network{Address: addressText(t.Address), Addresses: newAddresses(t.Addresses)}
		all = append(all, v)
	}
	return all
}

// words are those that rules on commands have where a command lacks them or has
// others, and the paths that may be read or written in the place of others.
func (a allowances) words(commands []shell.Command) (missing []shell.Addition, other []shell.Substitution) {
	for _, c := range commands {
		words := wordsOf(c)
		for _, rule := range a.Rules {
			for i, word := range spelledOut(rule) {
				switch {
				case i+1 >= len(words):
					missing = append(missing, shell.Addition{Program: path.Base(words[0]), Word: word})
				case words[i+1] != word:
					other = append(other, shell.Substitution{Word: words[i+1], With: word})
				}
			}
		}
		for _, word := range words[1:] {
			for _, name := range nearby(slices.Concat(a.Files["read"], a.Files["write"]), word) {
				other = append(other, shell.Substitution{Word: word, With: name})
			}
		}
	}
	return missing, other
}

// wordsOf are the words of a command with those of what runs it.
func wordsOf(c shell.Command) []string {
	var words []string
	for _, w := range c.Wrappers {
		words = append(append(words, w.Dir+w.Program), w.Args...)
	}
	if c.Argv == nil {
		words = append(words, c.Dir+c.Program)
	}
	return append(words, c.Argv...)
}

// spelledOut are the words behind the program that a rule has, as far as it says
// which.
func spelledOut(rule SiteRule) []string {
	if rule.Kind != "glob" || len(rule.Patterns) == 0 {
		return rule.Prefix
	}
	words := strings.Fields(rule.Patterns[0].Text)
	if i := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w, "*?[") }); i >= 0 {
		words = words[:i]
	}
	return words[min(1, len(words)):]
}

// fileVerbs are the words of policy.yml for what is done with a file.
var fileVerbs = map[tool.Action]string{tool.FileList: "read", tool.FileRead: "read", tool.FileWrite: "write"}

// paths name other files: the same one without detours, and those that are granted
// and differ in one component.
func (n *nearest) paths(from variant) []variant {
	at := fileAt(from.input.Ops)
	if at < 0 {
		return nil
	}
	op := from.input.Ops[at]
	names := nearby(n.allowed.Files[fileVerbs[op.Action]], op.Path)
	if path.IsAbs(op.Path) {
		names = append(names, path.Clean(op.Path))
	}
	if op.File != nil {
		names = append(names, op.File.Path)
	}
	var all []variant
	for _, name := range names {
		if name == op.Path && op.Under != nil {
			continue
		}
		v := from.with(kindPath, "the path "+name)
		v.input.Ops = slices.Clone(from.input.Ops)
		v.input.Ops[at] = named(op, name)
		all = append(all, v)
	}
	return all
}

// named is an op on another file. What the host said is only known of the file
// that it was asked about.
func named(op tool.Op, name string) tool.Op {
	other := tool.FileOp(op.Action, name)
	other.Recursive, other.Content, other.Flow = op.Recursive, op.Content, op.Flow
	if op.File != nil && op.File.Path == name {
		other.File = op.File
	}
	return other
}

// nearby are the paths that patterns allow and that differ from one in a single
// component.
func nearby(patterns []string, name string) []string {
	var all []string
	for _, pattern := range patterns {
		if found, ok := near(pattern, name); ok {
			all = append(all, found)
		}
	}
	return all
}

func near(pattern, name string) (found string, ok bool) {
	want, have := strings.Split(pattern, "/"), strings.Split(name, "/")
	if last := len(want) - 1; want[last] == "**" {
		want = want[:last]
		ok = len(have) > len(want)
	} else {
		ok = len(have) == len(want)
	}
	if !ok || !path.IsAbs(name) {
		return "", false
	}
	other := 0
	for i, part := range want {
		if fits, err := path.Match(part, have[i]); err != nil || !fits && strings.ContainsAny(part, "*?") {
			return "", false
		}
		if !strings.ContainsAny(part, "*?") && part != have[i] {
			have[i] = part
			other++
		}
	}
	return strings.Join(have, "/"), other == 1
}

func opens(ops []tool.Op) bool {
	return len(ops) > 0 && ops[0].Action == tool.ConnOpen
}

// logins connect to the same host in another way that some rule names.
func (n *nearest) logins(from variant) []variant {
	if !opens(from.input.Ops) || from.input.Host.Source != sourceAdhoc {
		return nil
	}
	var all []variant
	add := func(what string, change func(*Host)) {
		v := from.with(kindLogin, what)
		change(&v.input.Host)
		all = append(all, v)
	}
	here := from.input.Host
	if here.Key != "" {
		add("without private_key_path", func(h *Host) { h.Key, h.Auth = "", tool.AdHoc{}.Auth() })
	}
	for _, place := range n.allowed.Places {
		for _, user := range slices.Sorted(maps.Keys(place.Users)) {
			if user != here.User {
				add("as "+user, func(h *Host) { h.User = user })
			}
		}
		for _, text := range slices.Sorted(maps.Keys(place.Ports)) {
			if port, err := strconv.Atoi(text); err == nil && port != here.Port {
				add("at port "+text, func(h *Host) { h.Port = port })
			}
		}
	}
	return all
}
