package policy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/shell"
)

// oracle judges command lines by the corpus's own tables. It is written from
// the corpus's README alone and reads options the way getopt does, one word
// after the other, so that it shares nothing with the Rego that it is held
// against.
type oracle struct {
	Types map[string]string `json:"types"`
	Paths map[string]struct {
		Under []string `json:"under"`
		Exact []string `json:"exact"`
		Glob  bool     `json:"glob"`
	} `json:"paths"`
	Commands map[string]*grammar `json:"commands"`
	Diagnose map[string]*grammar `json:"diagnose_commands"`
	Contexts map[string]struct {
		Commands     []string `json:"commands"`
		Glob         bool     `json:"glob"`
		Wrappers     []string `json:"wrappers"`
		RestartUnits string   `json:"restart_units"`
	} `json:"contexts"`
}

type grammar struct {
	Flags      string            `json:"flags"`
	Valued     map[string]string `json:"valued"`
	Long       []string          `json:"long"`
	LongValued map[string]string `json:"long_valued"`
	Number     bool              `json:"number"`
	Operands   []string          `json:"operands"`
	Min        int               `json:"min"`
	Max        *int              `json:"max"`
	When       []struct {
		Option   []string `json:"option"`
		Operands []string `json:"operands"`
		Min      int      `json:"min"`
	} `json:"when"`
	Require            [][]string          `json:"require"`
	RecursiveNeedsPath []string            `json:"recursive_needs_path"`
	Raw                bool                `json:"raw"`
	FileTest           bool                `json:"file_test"`
	Tokens             []string            `json:"tokens"`
	Pairs              map[string]string   `json:"pairs"`
	Prefixed           map[string]string   `json:"prefixed"`
	Sub                map[string]*grammar `json:"sub"`
	SubFirst           bool                `json:"sub_first"`
	SubOptionalWith    []string            `json:"sub_optional_with"`
	Git                bool                `json:"git"`
	Find               *struct {
		Starts string            `json:"starts"`
		Unary  []string          `json:"unary"`
		Valued map[string]string `json:"valued"`
	} `json:"find"`
}

// word is a word after the program's name.
type word struct {
	text    string
	pattern bool
}

func readOracle(t testing.TB) *oracle {
	t.Helper()
	text, err := os.ReadFile("../../testdata/corpus/contexts.json")
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{}
	if err := json.Unmarshal(text, o); err != nil {
		t.Fatal(err)
	}
	return o
}

var judgedFeatures = []shell.Feature{
	shell.FeaturePipe, shell.FeatureAnd, shell.FeatureOr, shell.FeatureSequence,
	shell.FeatureRedirectNull, shell.FeatureRedirectDup, shell.FeatureGlob,
}

func (o *oracle) permits(context, line string) bool {
	doc := shell.Parse(line)
	if doc.Canonical == "" || len(doc.Commands) == 0 {
		return false
	}
	for _, f := range doc.Features {
		if !slices.Contains(judgedFeatures, f) {
			return false
		}
	}
	for _, c := range doc.Commands {
		if !o.permitsCommand(context, c) {
			return false
		}
	}
	return true
}

func usualPlace(dir string) bool { return dir == "" || dir == "/bin/" || dir == "/usr/bin/" }

func (o *oracle) permitsCommand(context string, c shell.Command) bool {
	if !usualPlace(c.Dir) || len(c.Assigns) > 0 || len(c.Scope) > 0 || !o.permitsWrappers(context, c.Wrappers) {
		return false
	}
	words := wordsOf(c)
	if g := o.grammar(context, c.Program); g != nil && o.fits(context, g, c.Program, words) {
		return true
	}
	return o.restarts(context, c, words)
}

func wordsOf(c shell.Command) []word {
	var words []word
	if c.Static {
		for _, a := range c.Argv[1:] {
			words = append(words, word{text: a})
		}
		return words
	}
	for _, w := range c.Words[1:] {
		words = append(words, word{w.Text, slices.Contains(w.Kinds, shell.FeatureGlob)})
	}
	return words
}

func (o *oracle) grammar(context, program string) *grammar {
	for _, table := range o.Contexts[context].Commands {
		commands := map[string]map[string]*grammar{"commands": o.Commands, "diagnose_commands": o.Diagnose}[table]
		if g := commands[program]; g != nil {
			return g
		}
	}
	return nil
}

func (o *oracle) permitsWrappers(context string, wrappers []shell.Wrapper) bool {
	seen := map[string]bool{}
	for i, w := range wrappers {
		if seen[w.Program] || i > 1 || !usualPlace(w.Dir) || !slices.Contains(o.Contexts[context].Wrappers, w.Program) {
			return false
		}
		seen[w.Program] = true
		args := strings.Join(w.Args, "\x00")
		form := map[string]string{
			"sudo":    "((-n+|--non-interactive)\x00)*(-n+|--non-interactive)(\x00--)?",
			"timeout": "[0-9]{1,3}s?",
			"nice":    "-n\x00[0-9]{1,2}",
		}[w.Program]
		if !whole(form, args) || w.Program == "sudo" && i > 0 {
			return false
		}
	}
	return true
}

func (o *oracle) restarts(context string, c shell.Command, words []word) bool {
	kind := o.Contexts[context].RestartUnits
	if kind == "" || c.Program != "systemctl" || len(c.Wrappers) == 0 || c.Wrappers[0].Program != "sudo" {
		return false
	}
	_, operands, ok := o.getopt(&grammar{}, words)
	return ok && len(operands) == 2 && slices.Contains([]string{"restart", "reload", "try-restart"}, operands[0].text) &&
		o.matches(kind, operands[1])
}

func (o *oracle) fits(context string, g *grammar, program string, words []word) bool {
	switch {
	case g.Raw:
		return !slices.ContainsFunc(words, func(w word) bool { return w.pattern })
	case g.FileTest:
		return o.fileTest(context, program, words)
	case g.Tokens != nil:
		return o.list(words, g.Tokens, g.Pairs, g.Prefixed)
	case g.Find != nil:
		return o.find(context, g, words)
	case g.Git:
		if len(words) < 3 || words[0].text != "-C" || !o.path(context, "repo_path", words[1]) || words[2].pattern {
			return false
		}
		sub := g.Sub[words[2].text]
		return sub != nil && o.plain(context, sub, words[3:])
	case g.SubFirst:
		if len(words) == 0 || words[0].pattern {
			return false
		}
		sub := g.Sub[words[0].text]
		return sub != nil && o.plain(context, sub, words[1:])
	case g.Sub != nil:
		return o.verb(context, g, words)
	}
	return o.plain(context, g, words)
}

func (o *oracle) fileTest(context, program string, words []word) bool {
	if program == "[" {
		if len(words) == 0 || words[len(words)-1].text != "]" {
			return false
		}
		words = words[:len(words)-1]
	}
	return len(words) == 2 && slices.Contains([]string{"-e", "-f", "-d", "-s", "-r"}, words[0].text) &&
		(o.path(context, "log_path", words[1]) || o.path(context, "list_path", words[1]))
}

func (o *oracle) list(words []word, tokens []string, pairs, prefixed map[string]string) bool {
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w.pattern {
			return false
		}
		if kind, ok := pairs[w.text]; ok {
			i++
			if i == len(words) || pairs[words[i].text] != "" || !o.matches(kind, words[i]) {
				return false
			}
			continue
		}
		if slices.Contains(tokens, w.text) {
			continue
		}
		fits := false
		for prefix, kind := range prefixed {
			rest, ok := strings.CutPrefix(w.text, prefix)
			fits = fits || ok && o.matches(kind, word{text: rest})
		}
		if !fits {
			return false
		}
	}
	return true
}

func (o *oracle) find(context string, g *grammar, words []word) bool {
	n := 0
	for n < len(words) && !strings.HasPrefix(words[n].text, "-") {
		if !o.path(context, g.Find.Starts, words[n]) {
			return false
		}
		n++
	}
	return n > 0 && o.list(words[n:], g.Find.Unary, g.Find.Valued, nil)
}

func (o *oracle) verb(context string, g *grammar, words []word) bool {
	given, operands, ok := o.getopt(g, words)
	if !ok {
		return false
	}
	if len(operands) == 0 {
		return given.any(g.SubOptionalWith)
	}
	sub := g.Sub[operands[0].text]
	return sub != nil && !operands[0].pattern && o.operands(context, sub.Operands, sub.Min, sub.Max, operands[1:])
}

func (o *oracle) plain(context string, g *grammar, words []word) bool {
	given, operands, ok := o.getopt(g, words)
	if !ok {
		return false
	}
	for _, needed := range g.Require {
		if !given.any(needed) {
			return false
		}
	}
	types, least, most := g.Operands, g.Min, g.Max
	for _, w := range g.When {
		if given.any(w.Option) {
			types, least, most = w.Operands, w.Min, nil
		}
	}
	if given.any(g.RecursiveNeedsPath) {
		paths := len(operands)
		for _, kind := range types {
			if !strings.HasSuffix(kind, "*") {
				paths--
			}
		}
		if paths < 1 {
			return false
		}
	}
	return o.operands(context, types, least, most, operands)
}

type options map[string]bool

func (g options) any(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return g[n] })
}

// getopt reads words one by one.
func (o *oracle) getopt(g *grammar, words []word) (options, []word, bool) {
	given, operands := options{}, []word{}
	for i := 0; i < len(words); i++ {
		w := words[i]
		next := func(kind string) bool {
			i++
			return i < len(words) && !strings.HasPrefix(words[i].text, "-") && o.matches(kind, words[i])
		}
		switch {
		case w.text == "--":
			return given, append(operands, words[i+1:]...), true
		case w.text == "-" || !strings.HasPrefix(w.text, "-"):
			operands = append(operands, w)
		case w.pattern:
			return nil, nil, false
		case strings.HasPrefix(w.text, "--"):
			name, value, has := strings.Cut(w.text[2:], "=")
			kind, takes := g.LongValued[name]
			switch {
			case takes && has && o.matches(kind, word{text: value}):
			case takes && !has && next(kind):
			case !takes && !has && slices.Contains(g.Long, name):
			default:
				return nil, nil, false
			}
			given[name] = true
		case g.Number && whole("[0-9]+", w.text[1:]):
		default:
			for rest := []rune(w.text[1:]); len(rest) > 0; {
				letter := string(rest[0])
				rest = rest[1:]
				kind, takes := g.Valued[letter]
				switch {
				case takes && len(rest) > 0:
					if !o.matches(kind, word{text: string(rest)}) {
						return nil, nil, false
					}
					rest = nil
				case takes:
					if !next(kind) {
						return nil, nil, false
					}
				case !strings.Contains(g.Flags, letter):
					return nil, nil, false
				}
				given[letter] = true
			}
		}
	}
	return given, operands, true
}

func (o *oracle) operands(context string, types []string, least int, most *int, operands []word) bool {
	if len(operands) < least || most != nil && len(operands) > *most {
		return false
	}
	for i, w := range operands {
		if i >= len(types) && (len(types) == 0 || !strings.HasSuffix(types[len(types)-1], "*")) {
			return false
		}
		kind := strings.TrimSuffix(types[min(i, len(types)-1)], "*")
		if _, isPath := o.Paths[kind]; isPath {
			// A pattern may be any number of words, so it does not fit a bound.
			if !o.path(context, kind, w) || w.pattern && most != nil {
				return false
			}
		} else if !o.matches(kind, w) {
			return false
		}
	}
	return true
}

func (o *oracle) matches(kind string, w word) bool {
	expression, ok := o.Types[kind]
	if !ok {
		expression = kind
	}
	return !w.pattern && whole(expression, w.text)
}

var compiled = map[string]*regexp.Regexp{}

func whole(expression, text string) bool {
	if compiled[expression] == nil {
		compiled[expression] = regexp.MustCompile(fmt.Sprintf(`(?s)\A(?:%s)\z`, expression))
	}
	return compiled[expression].MatchString(text)
}

func (o *oracle) path(context, kind string, w word) bool {
	p := o.Paths[kind]
	name := w.text
	if name != "/" {
		name = strings.TrimSuffix(name, "/")
	}
	if !strings.HasPrefix(name, "/") || !cleanPath(name, w.pattern) {
		return false
	}
	if !w.pattern {
		return slices.Contains(p.Exact, name) || slices.ContainsFunc(p.Under, func(dir string) bool { return atOrBelow(name, dir) })
	}
	if !p.Glob || !o.Contexts[context].Glob {
		return false
	}
	literal := name[:strings.IndexAny(name, "*?")]
	literal = literal[:strings.LastIndex(literal, "/")]
	return slices.ContainsFunc(p.Under, func(dir string) bool { return atOrBelow(literal, dir) })
}

func cleanPath(name string, pattern bool) bool {
	if name == "/" {
		return true
	}
	for _, part := range strings.Split(name[1:], "/") {
		if part == "" || part == "." || part == ".." || pattern && strings.ContainsAny(part, "*?") && part[0] == '.' {
			return false
		}
	}
	return true
}

func atOrBelow(name, dir string) bool {
	return dir == "/" || name == dir || strings.HasPrefix(name, dir+"/")
}
