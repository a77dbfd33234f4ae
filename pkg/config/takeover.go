package config

import (
	"path"
	"slices"
	"strings"
)

// Rules in the schemas of mcp-ssh-orchestrator are judged by what they document.
// Where that program did something else, an operator who brings a policy.yml
// along is told, until the file says version: 3.

// takeOver settles what a rule of another schema means under the file's version,
// and warns of what used to be otherwise.
func (p *sitePolicy) takeOver(version int, known hostNames) {
	if version == 3 || !slices.ContainsFunc(p.rules, func(r rule) bool { return r.written.judges() }) {
		return
	}
	for i := range p.rules {
		r := &p.rules[i]
		if version == 2 {
			r.dropGlobs()
		}
		for _, c := range r.commands {
			r.warnOf(c)
		}
		r.warnOfCounts()
	}
	p.warnOfOrder(version, known)
}

// dropGlobs leaves out what schema 2 does not read. A rule that denies is kept:
// nobody writes one to have it ignored.
func (r *rule) dropGlobs() {
	at, there := r.written.at["commands"]
	switch {
	case !there:
	case r.action == "deny":
		at.warn(faultf("write version: 3 if it is meant, or remove it", "was ignored in schema 2; now it denies"))
	default:
		at.warn(faultf("write version: 3 to have it read, or remove it", "allows nothing, since schema 2 does not read it"))
		r.commands = slices.DeleteFunc(r.commands, func(c CommandRule) bool { return c.Kind == "glob" })
	}
}

// runners run their words as another command. Which one has to be in a rule.
var runners = []string{
	"sudo", "doas", "timeout", "nice", "nohup", "ionice", "setsid", "stdbuf", "env", "command", "exec", "sh", "bash", "dash",
}

// warnOf tells what a rule allows less than it did, or for the first time.
func (r *rule) warnOf(c CommandRule) {
	if r.action != "allow" {
		return
	}
	for _, program := range c.Programs {
		switch {
		case strings.Contains(program, "/") && c.Kind != "glob":
			r.warn(faultf("remove it unless it is meant", "%s never matched, since paths were refused; now it allows that spelling, and no other", program))
		case slices.Contains(runners, path.Base(program)) && c.Fixed == 0:
			r.warn(faultf("write binary: "+program+" with the command in arg_prefix",
				"%s runs other programs; by itself it no longer allows any of them", program))
		}
	}
	for _, pattern := range c.Patterns {
		switch {
		case c.Kind == "glob" && !pattern.exact():
			r.warn(faultf("write it as binary, arg_prefix and path_args to say which words",
				"%q allows any further words; those with .. or signs of the shell in them it no longer does", pattern.Text))
		case strings.Contains(pattern.Text, "*"):
			r.warn(faultf("add a pattern for each directory below that is meant, such as "+deeper(pattern.Text),
				"the * of %q no longer reaches into directories below, nor does .. lead out", pattern.Text))
		}
	}
	if c.Kind == "structured" && len(c.Patterns) > 0 && c.Most == anyNumber {
		r.warn(faultf("add allow_extra_args: false if no words should follow",
			"allows further words; those with a slash in them have to fit its patterns, which was not so"))
	}
}

func deeper(pattern string) string { return strings.Replace(pattern, "*", "*/*", 1) }

// warnOfCounts tells that a rule that denies does not count words.
func (r *rule) warnOfCounts() {
	if r.action != "deny" {
		return
	}
	for _, key := range []string{"simple_max_args", "allow_extra_args"} {
		if at, there := r.written.at[key]; there && (key != "allow_extra_args" || !r.written.extra) {
			at.warn(faultf("remove it", "has no effect: what is denied is denied with more words, too"))
		}
	}
}

func (r *rule) warn(f *fault) { r.place.warn(f) }

// warnOfOrder tells of commands that were allowed because of the order of rules:
// in schema 1 the last one that matched won, in schema 2 the first.
func (p *sitePolicy) warnOfOrder(version int, known hostNames) {
	for i := range p.rules {
		for j := range p.rules[:i] {
			earlier, later := &p.rules[j], &p.rules[i]
			deny, allow := later, earlier
			if earlier.action == "deny" {
				deny, allow = earlier, later
			}
			if deny.action == "deny" && allow.action == "allow" && allowWon(version, deny, allow) && overlap(deny, allow, known) {
				deny.warn(faultf("narrow the rule that denies, or remove what it denies from the other",
					"denies commands that %s allows; the order of rules no longer matters, so they are denied", allow.name))
			}
		}
	}
}

// allowWon says that the one that allows went before the one that denies.
func allowWon(version int, deny, allow *rule) bool {
	if version == 1 || version == 0 && deny.written.has("commands") {
		return allow.line > deny.line
	}
	return allow.line < deny.line
}

// overlap says that two rules may be about one command on one host.
func overlap(a, b *rule, known hostNames) bool {
	return common(a.aliases, b.aliases, known.aliases) && common(a.tags, b.tags, known.tags) &&
		slices.ContainsFunc(a.commands, func(x CommandRule) bool {
			return slices.ContainsFunc(b.commands, x.meets)
		})
}

// common says that some name is matched by both lists, of which an empty one
// matches all.
func common(a, b []glob, names map[string]bool) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	matches := func(list []glob, name string) bool {
		return slices.ContainsFunc(list, func(g glob) bool { return g.match(name) })
	}
	for name := range names {
		if matches(a, name) && matches(b, name) {
			return true
		}
	}
	return false
}

// meets says that two rules may match one command: as far as they spell it out,
// they begin alike.
func (c CommandRule) meets(other CommandRule) bool {
	return slices.ContainsFunc(c.beginnings(), func(a string) bool {
		return slices.ContainsFunc(other.beginnings(), func(b string) bool {
			return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
		})
	})
}

// beginnings are the texts that the commands of a rule begin with.
func (c CommandRule) beginnings() []string {
	if c.Kind == "glob" {
		return []string{c.Patterns[0].Literal}
	}
	var list []string
	for _, program := range c.Programs {
		list = append(list, strings.Join(append([]string{path.Base(program)}, c.Prefix...), " ")+" ")
	}
	return list
}
