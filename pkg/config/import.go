package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Imported is what Import wrote, and what it leaves to whoever called it.
type Imported struct {
	Written []string `json:"written"`
	Left    []string `json:"left,omitempty"`
}

// Import makes a configuration out of a directory of mcp-ssh-orchestrator: its
// servers.yml, its credentials.yml without secrets, and its policy.yml in version
// 3, which means what Load makes of the old one and says in comments where that
// is not what the orchestrator did. Like [Init] it overwrites nothing. A directory
// that does not load is not converted; the error has every problem.
func Import(dir string, from Options) (Imported, error) {
	from.WithoutSecrets = true
	c, err := Load(from)
	if err != nil {
		return Imported{}, err
	}
	if c.policy.version == 3 {
		return Imported{}, fmt.Errorf("%s is of version 3 already (copy the directory as it is)", filepath.Join(c.Dir, policyFile))
	}
	files, err := initialFiles()
	if err != nil {
		return Imported{}, err
	}
	done := Imported{Left: []string{
		fmt.Sprintf("private keys and known_hosts: copy them from %s to %s, mode 600", c.vault.keysDir, filepath.Join(dir, "keys")),
		fmt.Sprintf("secrets: copy them from %s to %s, mode 600", c.vault.secretsDir, filepath.Join(dir, "secrets")),
	}}
	if files[serversFile], err = os.ReadFile(filepath.Join(c.Dir, serversFile)); err != nil {
		return Imported{}, err
	}
	var passwords []string
	if files[credentialsFile], passwords, err = c.portable(filepath.Join(c.Dir, credentialsFile)); err != nil {
		return Imported{}, err
	}
	for _, secret := range passwords {
		done.Left = append(done.Left, fmt.Sprintf("a password that stood in credentials.yml: write it to %s, mode 600", filepath.Join(dir, "secrets", secret)))
	}
	if files[policyFile], err = c.convert(); err != nil {
		return Imported{}, err
	}
	done.Written, err = writeAll(dir, files)
	return done, err
}

// portable is credentials.yml with the name of a secret where a password stood,
// and those names; and with keys by their place in the directory of keys, which is
// another now.
func (c *Config) portable(file string) (text []byte, secrets []string, err error) {
	text, root, err := readNode(file)
	if err != nil {
		return nil, nil, err
	}
	changed := false
	for _, entry := range elements(lookUp(root, "entries")) {
		for _, key := range []string{"key_path", "certificate_path"} {
			if path := lookUp(entry, key); path != nil && filepath.IsAbs(path.Value) {
				path.Value, _ = c.vault.keyName(path.Value) // it has been loaded
				changed = true
			}
		}
		password, name := lookUp(entry, "password"), lookUp(entry, "name")
		if password == nil || password.Value == "" {
			continue
		}
		secret := strings.ReplaceAll(name.Value, ".", "_") + "_password"
		rename(entry, "password", "password_secret")
		*password = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: secret}
		secrets, changed = append(secrets, secret), true
	}
	if changed {
		text, err = encode(root)
	}
	return text, secrets, err
}

// readNode reads a file that has been loaded before.
func readNode(file string) ([]byte, *yaml.Node, error) {
	text, err := readFile(file, maxFile)
	if err != nil {
		return nil, nil, err
	}
	root, err := decode(text)
	if err == nil && root == nil {
		root = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	if err == nil {
		valueAt(place{report: &report{}}, "", root).expand()
	}
	return text, root, err
}

func encode(root *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(root), e.Close()); err != nil {
		return nil, err
	}
	return spaced(b.Bytes()), nil
}

// spaced has one empty line before each section and each comment, and no other.
func spaced(text []byte) []byte {
	var b bytes.Buffer
	before := "#"
	for line := range strings.Lines(string(text)) {
		words := strings.TrimSpace(line)
		begins := strings.HasPrefix(words, "#") || line[0] != ' ' && line[0] != '-'
		switch {
		case words == "":
			continue
		case begins && !strings.HasPrefix(before, "#") && !strings.HasSuffix(before, ":"):
			b.WriteByte('\n')
		}
		b.WriteString(line)
		before = words
	}
	return b.Bytes()
}

// conversion turns policy.yml into one of version 3.
type conversion struct {
	*sitePolicy
	root  *yaml.Node
	known hostNames
	dir   string
	vault vault
}

// convert is policy.yml in version 3. It is read again before anyone else does:
// it has to load without a word.
func (c *Config) convert() ([]byte, error) {
	_, root, err := readNode(filepath.Join(c.Dir, policyFile))
	if err != nil {
		return nil, err
	}
	inv := newInventory()
	for _, h := range c.Hosts {
		inv.entries = append(inv.entries, &hostEntry{Host: h})
	}
	v := conversion{c.policy, root, newNames(inv), c.Dir, c.vault}
	v.convert()
	text, err := encode(root)
	if err != nil {
		return nil, err
	}
	l := &loader{report: &report{}}
	again, ok := parse(place{report: l.report, file: policyFile}, text)
	if l.readPolicy(again, inv); !ok || l.report.failed() {
		return nil, fmt.Errorf("what %s was converted to does not load:\n%s\n%s", policyFile, lines(l.report.list), text)
	}
	return text, nil
}

const preamble = `policy.yml of version 3, converted by sallyport init --import from
%s, which was of schema %d of mcp-ssh-orchestrator.
Each rule says where it stood, and what is not as it was.
For all of them:
- A rule judges one command of a line. Each command of a line has to be allowed;
  a newline ends a command like any other sign that does.
- A rule that denies goes over all that allow, wherever it stands, and sees what
  sudo, timeout, sh -c and the like run.
- Redirections to files, &, substitutions, variables, wildcards and ~ are refused
  whatever a rule allows, and so are . and .. in paths.
- A text of deny_substrings that is a word and a blank, such as "nc ", means the
  program; the others are also found in another order of their options.`

func (v *conversion) convert() {
	v.root.Style = 0 // comments need lines of their own
	v.root.HeadComment = join(comment(fmt.Sprintf(preamble, filepath.Join(v.dir, policyFile), v.version)), v.root.HeadComment)
	v.hostPath()
	for _, section := range []string{"network", "limits"} {
		v.withoutFlags(section, lookUp(v.root, section))
	}
	v.networks()
	v.overrides()
	v.rules()
	v.texts()
	v.emptyKeys()
	drop(v.root, "version")
	v.root.Content = append([]*yaml.Node{scalar("version"), {Kind: yaml.ScalarNode, Tag: "!!int", Value: "3"}}, v.root.Content...)
}

// hostPath makes a path that leads out of the directory lead there from anywhere,
// and one into the directory of keys into the new one.
func (v *conversion) hostPath() {
	p := lookUp(v.root, "known_hosts_path")
	switch {
	case p == nil:
	case strings.HasPrefix(p.Value, ".."):
		p.Value = filepath.Join(v.dir, p.Value)
	case filepath.IsAbs(p.Value):
		if name, f := v.vault.keyName(p.Value); f == nil {
			p.Value = "keys/" + name
			note(v.root, "known_hosts_path", "It is one of the keys that are to be copied.")
		}
	}
}

var flags = []string{"host_key_auto_add", "require_known_host"}

func (v *conversion) withoutFlags(name string, section *yaml.Node) {
	for _, flag := range flags {
		if drop(section, flag) {
			note(v.root, name, flag+" is gone: host keys are always verified, and an unknown one is never accepted.")
		}
	}
}

// hostKinds are the keys by which hosts are named.
var hostKinds = []string{"aliases", "tags"}

func (h hostNames) of(kind string) map[string]bool {
	if kind == "aliases" {
		return h.aliases
	}
	return h.tags
}

// networks writes networks without the bits behind their prefix.
func (v *conversion) networks() {
	for _, key := range []string{"allow_cidrs", "block_cidrs"} {
		for _, n := range elements(lookUp(lookUp(v.root, "network"), key)) {
			if p, err := netip.ParsePrefix(n.Value); err == nil && p.Masked() != p {
				note(v.root, "network", n.Value+" has bits behind its prefix; it is read as "+p.Masked().String()+".")
				n.Value = p.Masked().String()
			}
		}
	}
}

// overrides leaves out what is for no host.
func (v *conversion) overrides() {
	for _, kind := range hostKinds {
		known := v.known.of(kind)
		section := lookUp(lookUp(v.root, "overrides"), kind)
		for _, key := range keysOf(section) {
			layer := lookUp(section, key)
			v.withoutFlags("overrides", layer)
			if len(layer.Content) == 0 || !known[key] {
				drop(section, key)
			}
			if !known[key] {
				note(v.root, "overrides", fmt.Sprintf("The one for %s of %s is gone: no host has it.", key, kind))
			}
		}
	}
}

// texts spells out the texts that are denied when nobody says otherwise.
func (v *conversion) texts() {
	if v.limits.denySet || !v.judges() {
		return
	}
	limits := lookUp(v.root, "limits")
	if limits == nil {
		limits = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		v.root.Content = append(v.root.Content, scalar("limits"), limits)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for _, text := range orchestratorTexts {
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text})
	}
	key := scalar("deny_substrings")
	key.HeadComment = comment("Those that counted where nothing was said.")
	limits.Content = append(limits.Content, key, list)
	limits.Style = 0
}

// emptyKeys leaves out keys that have nothing behind them.
func (v *conversion) emptyKeys() {
	overrides := lookUp(v.root, "overrides")
	if overrides != nil {
		overrides.Style = 0
	}
	for _, section := range []*yaml.Node{overrides, v.root} {
		for _, key := range keysOf(section) {
			if n := lookUp(section, key); n.Tag == "!!null" || n.Kind == yaml.MappingNode && len(n.Content) == 0 {
				moveComments(section, key, v.root)
				drop(section, key)
			}
		}
	}
}

// rules writes each rule with its story. One that says nothing any more becomes
// a comment before the next.
func (v *conversion) rules() {
	list := lookUp(v.root, "rules")
	var kept []*yaml.Node
	var gone string
	for i, n := range elements(list) {
		text, says := v.rule(n, &v.sitePolicy.rules[i])
		if !says {
			gone = join(gone, text, "#")
			continue
		}
		n.HeadComment = join(gone, n.HeadComment, text)
		gone = ""
		kept = append(kept, n)
	}
	if list == nil || list.Kind != yaml.SequenceNode {
		return
	}
	list.Content, list.Style = kept, 0
	if gone != "" {
		v.after("rules", strings.TrimSuffix(gone, "\n#"))
	}
	if len(kept) == 0 {
		list.Style = yaml.FlowStyle
	}
}

// after puts a comment behind a section.
func (v *conversion) after(key, text string) {
	next := 2*slices.Index(keysOf(v.root), key) + 2
	if next == len(v.root.Content) {
		v.root.FootComment = join(text, v.root.FootComment)
		return
	}
	k := v.root.Content[next]
	k.HeadComment = join(text, k.HeadComment)
}

// rule changes what a rule cannot say any more, and says so; false when nothing
// is left of it.
func (v *conversion) rule(n *yaml.Node, r *rule) (text string, says bool) {
	before, err := yaml.Marshal(n)
	if err != nil {
		before = nil
	}
	where := fmt.Sprintf("%s, line %d of the file before", r.place.path, r.line)
	gone, says := v.edit(n, r)
	if !says {
		whole := where + ", is gone:"
		return comment(whole + "\n" + bullets(gone) + "\n" + indent(string(before))), false
	}
	for _, f := range r.differs {
		gone = append(gone, fmt.Sprintf("%s (%s)", f.message, f.remedy))
	}
	if gone == nil {
		return comment(where + ", as it was."), true
	}
	return comment(where + ":\n" + bullets(gone)), true
}

// edit takes out of a rule what has no effect, and gives the reasons.
func (v *conversion) edit(n *yaml.Node, r *rule) (reasons []string, says bool) {
	says = true
	for _, key := range hostKinds {
		known := v.known.of(key)
		gone, left := without(n, key, func(pattern string) bool {
			g, _ := newGlob(pattern)
			return !g.matchesAny(known)
		})
		for _, pattern := range gone {
			reasons = append(reasons, fmt.Sprintf("%q of %s is gone: no host matches it", pattern, key))
		}
		says = says && (gone == nil || left > 0)
	}
	if r.action == "deny" {
		for _, key := range []string{"simple_max_args", "allow_extra_args"} {
			if drop(n, key) {
				reasons = append(reasons, key+" is gone: what is denied is denied with more words, too")
			}
		}
		return reasons, says
	}
	if v.version == 2 && drop(n, "commands") {
		reasons = append(reasons, "commands is gone: in schema 2 it allowed nothing")
	}
	for _, key := range []string{"commands", "simple_binaries"} {
		gone, left := without(n, key, runsUnseen)
		if gone != nil {
			reasons = append(reasons, goneUnseen(gone...))
		}
		if gone != nil && left == 0 {
			drop(n, key)
		}
	}
	if runsUnseen(r.written.binary) {
		for _, key := range []string{"binary", "arg_prefix", "path_args", "allow_extra_args"} {
			drop(n, key)
		}
		reasons = append(reasons, goneUnseen(r.written.binary))
	}
	if lookUp(n, "simple_binaries") == nil {
		drop(n, "simple_max_args")
	}
	return reasons, says && slices.ContainsFunc([]string{"commands", "simple_binaries", "binary", "profile", "profiles"}, func(key string) bool {
		return lookUp(n, key) != nil
	})
}

func goneUnseen(programs ...string) string {
	return strings.Join(programs, ", ") + " is gone: what a shell or the like runs is not in its words, so such commands are refused"
}

// runsUnseen says of a program, or of a glob that begins with one, that nobody can
// permit it.
func runsUnseen(text string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	return slices.Contains(opaque, path.Base(strings.TrimRight(first, "*")))
}

// What follows works on YAML as it was written, comments and all.

func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// lookUp is the value under a key of a mapping, nil for none.
func lookUp(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func keysOf(n *yaml.Node) []string {
	var keys []string
	if n != nil && n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			keys = append(keys, n.Content[i].Value)
		}
	}
	return keys
}

func elements(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

func rename(n *yaml.Node, key, to string) {
	if i := 2 * slices.Index(keysOf(n), key); i >= 0 {
		n.Content[i].Value = to
	}
}

func drop(n *yaml.Node, key string) bool {
	i := 2 * slices.Index(keysOf(n), key)
	if i < 0 {
		return false
	}
	n.Content = slices.Delete(n.Content, i, i+2)
	return true
}

// without takes out of the list under a key what is not wanted.
func without(n *yaml.Node, key string, unwanted func(string) bool) (gone []string, left int) {
	list := lookUp(n, key)
	if list == nil {
		return nil, 0
	}
	list.Content = slices.DeleteFunc(list.Content, func(item *yaml.Node) bool {
		if unwanted(item.Value) {
			gone = append(gone, item.Value)
			return true
		}
		return false
	})
	return gone, len(list.Content)
}

// note adds a comment before a key of the file, once.
func note(root *yaml.Node, key, text string) {
	if i := 2 * slices.Index(keysOf(root), key); i >= 0 {
		if k := root.Content[i]; !strings.Contains(k.HeadComment, text) {
			k.HeadComment = join(k.HeadComment, comment(text))
		}
	}
}

// moveComments keeps the comments of a key that goes.
func moveComments(n *yaml.Node, key string, to *yaml.Node) {
	k, v := n.Content[2*slices.Index(keysOf(n), key)], lookUp(n, key)
	to.FootComment = join(to.FootComment, k.HeadComment, k.LineComment, k.FootComment, v.HeadComment, v.LineComment, v.FootComment)
}

func join(comments ...string) string {
	return strings.Join(slices.DeleteFunc(comments, func(s string) bool { return s == "" }), "\n")
}

func comment(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSuffix(text, "\n")) {
		b.WriteString(strings.TrimSuffix("# "+line, " "))
	}
	return b.String()
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}

// bullets are reasons, one to a paragraph of short lines.
func bullets(reasons []string) string {
	var paragraphs []string
	for _, reason := range reasons {
		lines := []string{"-"}
		for word := range strings.FieldsSeq(reason) {
			last := &lines[len(lines)-1]
			if len(*last)+len(word) > 90 {
				lines = append(lines, " ")
				last = &lines[len(lines)-1]
			}
			*last += " " + word
		}
		paragraphs = append(paragraphs, strings.Join(lines, "\n"))
	}
	return strings.Join(paragraphs, "\n")
}
