package config

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Rules in the schemas of mcp-ssh-orchestrator are judged by what they document.
// Where that program did something else, an operator who brings a policy.yml
// along is told, until the file says version: 3.

// takeOver settles what a rule of another schema means under the file's version,
// and warns of what used to be otherwise.
func (p *sitePolicy) takeOver(version int, known hostNames) {
	if p.version = version; version == 0 {
		p.version = p.schema()
	}
	if version = p.version; version == 3 || !p.judges() {
		return
	}
	p.rulesAt.warn(faultf("settle the warnings and write version: 3, or have sallyport init --import write such a file",
		"written for schema %d of mcp-ssh-orchestrator; here a newline ends a command, and redirections, &, variables, wildcards, ~, . and .. in paths are refused whatever a rule allows", version))
	for i := range p.rules {
		r := &p.rules[i]
		if version == 2 {
			r.dropGlobs()
		}
		r.warnOfPrograms()
		for _, c := range r.commands {
			r.warnOf(c)
		}
		r.warnOfCounts()
	}
	p.warnOfOrder(version, known)
}

// schema is that of a file that does not say: the second as soon as there is a
// rule of it.
func (p *sitePolicy) schema() int {
	for _, r := range p.rules {
		for key := range r.written.at {
			if commandKeys[key] == 2 {
				return 2
			}
		}
	}
	return 1
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

// warnOfPrograms tells which programs a rule does not allow as it did.
func (r *rule) warnOfPrograms() {
	var looks []string
	for _, c := range r.commands {
		for _, program := range c.Programs {
			name := path.Base(program)
			switch {
			case r.action != "allow":
			case strings.Contains(program, "/") && c.Kind != "glob":
				r.warn(faultf("remove it unless it is meant", "%s never matched, since paths were refused; now it allows that spelling, and no other", program))
			case runsWords(name) && !c.closed() && !c.namesRun():
				r.warn(faultf("write binary: "+program+" with the command in arg_prefix",
					"%s runs other programs; by itself it no longer allows any of them", c.subject(program)))
			case slices.Contains(looking, name) && !c.closed() && !slices.Contains(looks, program):
				looks = append(looks, program)
			}
		}
	}
	if looks != nil {
		r.warn(faultf("spell the ones that are meant out, as binary and arg_prefix",
			"%s can do more than look; options and words for that, such as date -s or systemctl -H, are no longer allowed by the name of the program", strings.Join(looks, ", ")))
	}
}

// subject is what a warning is about: the program, or the glob that begins with it.
func (c CommandRule) subject(program string) string {
	if c.Kind == "glob" {
		return strconv.Quote(c.Patterns[0].Text)
	}
	return program
}

// ownWord is a word that belongs to a program which runs others, and is not what it
// runs.
var ownWord = regexp.MustCompile(`^-|^[0-9.]+[smhd]?$|=`)

// namesRun says that behind a program that runs its words a rule spells out a word
// that may be what is run: neither an option nor a duration nor an assignment.
func (c CommandRule) namesRun() bool {
	spelled := c.Prefix
	if c.Kind == "glob" {
		spelled = strings.Fields(c.Patterns[0].Text)[1 : c.Fixed+1]
	}
	return slices.ContainsFunc(spelled, func(word string) bool { return !ownWord.MatchString(word) })
}

// closed says that a rule leaves no word open.
func (c CommandRule) closed() bool {
	return c.Most == c.Fixed || c.Kind == "glob" && c.Patterns[0].exact()
}

// warnOf tells what the signs of a rule no longer stand for.
func (r *rule) warnOf(c CommandRule) {
	if c.Kind == "glob" {
		r.warnOfGlob(c)
		return
	}
	for _, pattern := range c.Patterns {
		if r.action == "allow" && strings.Contains(pattern.Text, "*") {
			r.warn(faultf("add a pattern for each directory below that is meant, such as "+deeper(pattern.Text),
				"the * of %q no longer reaches into directories below, nor does .. lead out", pattern.Text))
		}
	}
	if r.action == "allow" && len(c.Patterns) > 0 && c.Most == anyNumber {
		r.warn(faultf("add allow_extra_args: false if no words should follow",
			"allows further words; those with a slash in them have to fit its patterns, which was not so"))
	}
}

func (r *rule) warnOfGlob(c CommandRule) {
	p := c.Patterns[0]
	first, more, _ := strings.Cut(p.Text, "*")
	switch {
	case r.action == "deny":
		if strings.ContainsAny(p.Text, shellSigns) {
			r.warn(faultf("remove it if it was to keep commands apart; each of a line has to be allowed anyway",
				"%q has a sign of the shell in it, but a rule judges one command: it denies words that hold the sign", p.Text))
		}
	case p.exact():
	case c.All:
		r.warn(faultf("name the programs, or grant a profile", "%q allows any command; those called by a path, and what a program can do beyond looking, it no longer does", p.Text))
	case len(c.Programs) == 0:
		r.warn(faultf("write the name of the program first", "%q names no program, so it allows any that is called by its bare name", p.Text))
	case !strings.ContainsAny(first, " ") && (more == "" || more[0] == ' '):
		r.warn(faultf("write the longer names out if they are meant",
			"%q is %s with any words; programs with a longer name it no longer allows", p.Text, first))
	case strings.Contains(p.Text, "/"):
		r.warn(faultf("write it as binary, arg_prefix and path_args to say which words",
			"no sign of %q stands for a slash any more, so it reaches neither into directories below nor to other paths", p.Text))
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

// warn tells of a rule, and keeps it for a file that is written anew.
func (r *rule) warn(f *fault) {
	r.differs = append(r.differs, f)
	r.place.warn(f)
}

// warnOfOrder tells of commands that were allowed because of the order of rules:
// in schema 1 the last one that matched won, in schema 2 the first.
func (p *sitePolicy) warnOfOrder(version int, known hostNames) {
	for i := range p.rules {
		deny := &p.rules[i]
		var lost []string
		for j := range p.rules {
			allow := &p.rules[j]
			if deny.action == "deny" && allow.action == "allow" && allowWon(version, i, j) && overlap(deny, allow, known) {
				lost = append(lost, allow.name)
			}
		}
		if lost != nil {
			deny.warn(faultf("narrow it, or remove what it denies from the others",
				"denies commands that %s allowed before; the order of rules no longer matters, so they are denied", strings.Join(lost, ", ")))
		}
	}
}

// allowWon says that of two rules by their position the one that allows went
// before the one that denies.
func allowWon(version, deny, allow int) bool {
	if version == 1 {
		return allow > deny
	}
	return allow < deny
}

// overlap says that two rules may be about one command on one host.
func overlap(a, b *rule, known hostNames) bool {
	return (common(a.aliases, b.aliases, known.aliases) && common(a.tags, b.tags, known.tags) || known.meet(a, b)) &&
		slices.ContainsFunc(a.commands, func(x CommandRule) bool {
			return slices.ContainsFunc(b.commands, x.meets)
		})
}

// meet says that there is a host that two rules are about, be it by different tags.
func (n hostNames) meet(a, b *rule) bool {
	return slices.ContainsFunc(n.hosts, func(h Host) bool { return a.covers(h) && b.covers(h) })
}

// covers says that a rule is about a host.
func (r *rule) covers(h Host) bool {
	return matchedBy(r.aliases, h.Alias) && matchedBy(r.tags, h.Tags...)
}

// matchedBy says that a list matches some name; an empty one matches any.
func matchedBy(list []glob, names ...string) bool {
	return len(list) == 0 || slices.ContainsFunc(names, func(name string) bool {
		return slices.ContainsFunc(list, func(g glob) bool { return g.match(name) })
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
