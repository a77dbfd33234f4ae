package config

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// orchestratorTexts are the texts that mcp-ssh-orchestrator denies when nobody
// says otherwise. They hold wherever rules in its schemas do.
var orchestratorTexts = []string{
	"rm -rf /", ":(){ :|:& };:", "mkfs ", "dd if=/dev/zero", "shutdown -h", "reboot", "userdel ", "passwd ",
	"ssh ", "scp ", "rsync -e ssh", "curl ", "wget ", "nc ", "nmap ", "telnet ", "kubectl ", "aws ", "gcloud ", "az ",
}

// DenyText is what a text of deny_substrings is besides a text. One that is a
// word and a blank, such as "nc ", means the program: it is not looked for in the
// middle of a word or among operands, so it does not speak of rsync -a.
type DenyText struct {
	Program string `json:"program"` // that the text means; empty if it is only a text
	Inside  string `json:"inside"`  // expression for a word in which that program is called
}

// Spelling is a command that a text spells out, in a form that other orders and
// spellings of its options have, too: rm -r -f / is rm -rf /.
type Spelling struct {
	Text     string   `json:"text"`
	Letters  []string `json:"letters"`  // of its options; a long one counts by its first
	Operands []string `json:"operands"` // each begins one of the command's
}

// DenyTexts are the texts of all hosts: what each means, and by program those
// that mean it and the commands that some spell out.
type DenyTexts struct {
	Meaning   map[string]DenyText   `json:"meaning"`
	Programs  map[string][]string   `json:"programs"`
	Spellings map[string][]Spelling `json:"spellings"`
}

func newDenyTexts(limits []Limits) DenyTexts {
	all := DenyTexts{Meaning: map[string]DenyText{}, Programs: map[string][]string{}, Spellings: map[string][]Spelling{}}
	for _, l := range limits {
		for _, text := range l.DenySubstrings {
			all.add(text)
		}
	}
	return all
}

func (d DenyTexts) add(text string) {
	if _, ok := d.Meaning[text]; ok {
		return
	}
	meaning := meaningOf(text)
	d.Meaning[text] = meaning
	if meaning.Program != "" {
		d.Programs[meaning.Program] = append(d.Programs[meaning.Program], text)
	}
	if program, s, ok := spellingOf(text); ok {
		d.Spellings[program] = append(d.Spellings[program], s)
	}
}

var programAndBlank = regexp.MustCompile(`^([A-Za-z0-9._+-]+)\s+$`)

func meaningOf(text string) DenyText {
	m := programAndBlank.FindStringSubmatch(text)
	if m == nil {
		return DenyText{}
	}
	return DenyText{Program: m[1], Inside: commandBegins + `([^\s;&|]*/)?` + regexp.QuoteMeta(m[1]) + `\s`}
}

// commandBegins is where a shell would read a command: at the beginning, behind
// what ends another one, and behind what runs its words.
const commandBegins = "(^|[;&|(`{\\n]|\\b(sudo|doas|exec|nohup|env|nice|timeout|command|time|xargs|then|do|else)\\b[^;&|]*\\s)\\s*"

var (
	plainWord    = regexp.MustCompile(`^[A-Za-z0-9._+/=:,@%-]+$`)
	letterOption = regexp.MustCompile(`^-[A-Za-z]+$`)
)

// spellingOf reads a text as a command whose words may stand in another order:
// options of one letter, or operands that say themselves what they are (if=FILE).
func spellingOf(text string) (program string, s Spelling, ok bool) {
	words := strings.Fields(text)
	if len(words) < 2 || slices.ContainsFunc(words, func(w string) bool { return !plainWord.MatchString(w) }) {
		return "", s, false
	}
	s = Spelling{Text: text, Letters: []string{}, Operands: []string{}}
	for _, word := range words[1:] {
		switch {
		case letterOption.MatchString(word):
			s.Letters = append(s.Letters, strings.Split(strings.ToLower(word[1:]), "")...)
		case strings.HasPrefix(word, "-"):
			return "", s, false
		default:
			s.Operands = append(s.Operands, word)
		}
	}
	slices.Sort(s.Letters)
	s.Letters = slices.Compact(s.Letters)
	assigned := slices.ContainsFunc(s.Operands, func(w string) bool { return strings.Contains(w, "=") })
	return words[0], s, len(s.Letters) > 0 || assigned
}

// warnOfDenied tells of programs that a rule allows and the texts of every host
// deny: nobody can run them.
func (p *sitePolicy) warnOfDenied() {
	lists := p.denyLists()
	for i := range p.rules {
		r := &p.rules[i]
		var never []string
		for _, c := range r.commands {
			never = append(never, c.deniedBy(lists)...)
		}
		if r.action == "allow" && never != nil {
			r.warn(faultf("override deny_substrings for the hosts that they are meant for, or remove them",
				"allows %s, but deny_substrings deny that on every host, so it can never match", strings.Join(never, ", ")))
		}
	}
}

// denyLists are the lists of texts that some host may have.
func (p *sitePolicy) denyLists() [][]string {
	lists := [][]string{p.limits.deny}
	if !p.limits.denySet {
		lists[0] = p.builtin().deny
	}
	for _, layers := range []map[string]limitLayer{p.aliases, p.tags} {
		for _, layer := range layers {
			if layer.denySet {
				lists = append(lists, layer.deny)
			}
		}
	}
	return lists
}

// deniedBy are the beginnings of commands that a rule spells out in which each list
// has something to deny.
func (c CommandRule) deniedBy(lists [][]string) []string {
	var denied []string
	for _, program := range c.Programs {
		begins := strings.Join(append([]string{program}, c.Prefix...), " ")
		if c.Kind == "glob" {
			begins = c.Patterns[0].Literal
		}
		open := slices.ContainsFunc(lists, func(texts []string) bool { return !textIn(texts, program, begins) })
		if !open {
			denied = append(denied, strings.TrimSpace(begins))
		}
	}
	return denied
}

// textIn says that some text denies a program, or a command from its beginning.
func textIn(texts []string, program, begins string) bool {
	return slices.ContainsFunc(texts, func(text string) bool {
		return meaningOf(text).Program == path.Base(program) || strings.Contains(begins, text)
	})
}
