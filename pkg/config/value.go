package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// value is a node of a YAML file and where it stands.
type value struct {
	place
	node *yaml.Node
}

func valueAt(parent place, path string, n *yaml.Node) value {
	parent.path, parent.line, parent.column = path, n.Line, n.Column
	return value{parent, n}
}

// field reads one value, reports what is wrong with it, and stores it.
type field func(value)

// fields are the keys that a mapping may have.
type fields map[string]field

// object reads a mapping that has no keys but the known ones, and all of the
// required. It is false when the value is no mapping at all.
func (v value) object(known fields, required ...string) bool {
	if v.node.Kind != yaml.MappingNode {
		v.wrongKind("a mapping")
		return false
	}
	v.entries(func(key, val value) {
		read, ok := known[key.node.Value]
		if !ok {
			key.fail(unknownKey(key.node.Value, val.place, sortedKeys(known)))
			return
		}
		if val.given() {
			read(val)
		}
	})
	for _, name := range required {
		if !v.has(name) {
			v.fail(faultf("add "+name+":", "%s is missing", name))
		}
	}
	return true
}

// entries calls each for every key of a mapping.
func (v value) entries(each func(key, val value)) {
	if v.node.Kind != yaml.MappingNode {
		v.wrongKind("a mapping")
		return
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key, val := v.node.Content[i], v.node.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag != "!!str" {
			continue // plain has reported it
		}
		path := key.Value
		if v.path != "" {
			path = v.path + "." + path
		}
		each(valueAt(v.place, v.path, key), valueAt(v.place, path, val))
	}
}

func (v value) has(name string) bool {
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if v.node.Content[i].Value == name {
			return true
		}
	}
	return false
}

// items calls each for every element of a list.
func (v value) items(each func(value)) {
	if v.node.Kind != yaml.SequenceNode {
		v.wrongKind("a list")
		return
	}
	for i, n := range v.node.Content {
		if item := valueAt(v.place, fmt.Sprintf("%s[%d]", v.path, i), n); item.given() {
			each(item)
		}
	}
}

// claim reports a name that another entry has; taken is the line of each.
func (v value) claim(taken map[string]int, name, what string) bool {
	line, twice := taken[name]
	switch {
	case name == "":
		return false
	case twice:
		v.fail(faultf("give it another", "%s is already taken on line %d", what, line))
		return false
	}
	taken[name] = v.line
	return true
}

// given is false for a value that is not there, which it reports, and for an
// alias, which expand has reported. An empty list is written [], so that a list
// whose last entry was commented out is noticed.
func (v value) given() bool {
	if v.node.Kind == yaml.ScalarNode && v.node.Tag == "!!null" {
		report := v.fail
		if emptyAllowsNothing[listIndex.ReplaceAllString(v.path, "[]")] {
			report = v.warn
		}
		report(faultf("give it a value, [] for an empty list, or remove it", "has no value"))
		return false
	}
	return v.node.Kind != yaml.AliasNode
}

// emptyAllowsNothing are the keys without which nobody may do more than with
// them, whatever value was meant. Templates have them with nothing but comments
// below. An empty allow list or list of tags, by contrast, could open a host.
var emptyAllowsNothing = map[string]bool{
	"hosts": true, "entries": true, "rules": true, "limits": true,
	"overrides": true, "overrides.aliases": true, "overrides.tags": true, "connect": true, "connect.adhoc": true,
	"hosts[].description": true, "entries[].key_passphrase_secret": true, "entries[].password_secret": true,
}

var listIndex = regexp.MustCompile(`\[[0-9]+\]`)

// The tags that YAML gives to scalars, in words.
var scalarKinds = map[string]string{
	"!!str":       "text",
	"!!int":       "a whole number",
	"!!float":     "a fractional number",
	"!!bool":      "true or false",
	"!!timestamp": "a date",
	"!!null":      "nothing",
}

// kind says what the value is, never what it holds: that may be a secret.
func (v value) kind() string {
	switch v.node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if kind, ok := scalarKinds[v.node.ShortTag()]; ok {
		return kind
	}
	return "of an unknown kind"
}

func (v value) wrongKind(want string) {
	remedy := "write " + want
	switch scalar := v.node.Kind == yaml.ScalarNode; {
	case scalar && want == "text":
		remedy = "put it in quotes"
	case scalar && want == "a list":
		remedy = "write it in brackets, [a, b], or one a line after a dash"
	case scalar && v.node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		remedy += ", without quotes"
	}
	v.fail(faultf(remedy, "is %s, not %s", v.kind(), want))
}

// scalar is the text of a scalar with a tag, or with any when tag is empty. A
// number with a fraction or of many digits is left to the reader of whole
// numbers, who can say more about it.
func (v value) scalar(tag string) (string, bool) {
	got := v.node.ShortTag()
	fits := tag == "" || got == tag || tag == "!!int" && got == "!!float"
	if v.node.Kind != yaml.ScalarNode || !fits {
		v.wrongKind(cmp.Or(scalarKinds[tag], "text"))
		return "", false
	}
	return v.node.Value, true
}

// text is a text that passes the checks; it reports the first that it does not.
func (v value) text(checks ...check) (string, bool) {
	s, ok := v.scalar("!!str")
	if !ok {
		return "", false
	}
	for _, c := range checks {
		if f := c(s); f != nil {
			v.fail(f)
			return "", false
		}
	}
	return s, true
}

// text stores a text that passes the checks and has no hidden characters.
func text(p *string, checks ...check) field {
	return func(v value) {
		if s, ok := v.text(slices.Concat([]check{visible}, checks)...); ok {
			*p = s
		}
	}
}

// prose stores a text of several lines.
func prose(p *string) field {
	return func(v value) {
		if s, ok := v.text(visibleLines); ok {
			*p = s
		}
	}
}

// texts stores a list of texts, none of them empty and none twice.
func texts(p *[]string, checks ...check) field {
	return func(v value) {
		list, seen := []string{}, map[string]bool{}
		v.items(func(item value) {
			s, ok := item.text(slices.Concat([]check{visible, filled}, checks)...)
			switch {
			case !ok:
			case seen[s]:
				item.fail(faultf("keep one of the two", "%q is in the list twice", s))
			default:
				list, seen[s] = append(list, s), true
			}
		})
		*p = list
	}
}

// integer stores a whole number in a range.
func integer(p *int, least, most int) field {
	return func(v value) {
		if n, ok := parsed(v, "!!int", wholeNumber(least, most)); ok {
			*p = n.(int)
		}
	}
}

// boolean stores true or false. YAML 1.1, by which mcp-ssh-orchestrator reads its
// files, has more words for them, as long as they are not in quotes.
func boolean(p *bool) field {
	return func(v value) {
		if is, ok := moreTruths[v.node.Value]; ok && v.node.Kind == yaml.ScalarNode && v.node.Style == 0 {
			*p = is
			return
		}
		if b, ok := parsed(v, "!!bool", truth); ok {
			*p = b.(bool)
		}
	}
}

var moreTruths = map[string]bool{
	"True": true, "TRUE": true, "yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true,
	"False": false, "FALSE": false, "no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false,
}

// words is how the text of a scalar becomes a value, wherever it is from: a
// file, a flag, the environment.
type words func(string) (any, *fault)

func parsed(v value, tag string, w words) (any, bool) {
	s, ok := v.scalar(tag)
	if !ok {
		return nil, false
	}
	x, f := w(s)
	if f != nil {
		v.fail(f)
	}
	return x, f == nil
}

// wholeNumber is an int in decimal digits; YAML's 0x10, 0o17, 017 and 1_000 are
// refused because readers disagree about them.
func wholeNumber(least, most int) words {
	return func(s string) (any, *fault) {
		n, err := strconv.Atoi(s)
		remedy := fmt.Sprintf("write a whole number from %d to %d", least, most)
		switch {
		case err != nil || strconv.Itoa(n) != s:
			return nil, faultf(remedy, "%q is not a whole number in decimal digits", s)
		case n < least || n > most:
			return nil, faultf(remedy, "%d is out of range", n)
		}
		return n, nil
	}
}

// span is a duration in a range.
func span(least, most time.Duration) words {
	return func(s string) (any, *fault) {
		d, err := time.ParseDuration(s)
		remedy := fmt.Sprintf("write a number with a unit, such as 500ms, 15s or 5m, from %s to %s", brief(least), brief(most))
		switch {
		case err != nil:
			return nil, faultf(remedy, "%q is not a duration", s)
		case d < least || d > most:
			return nil, faultf(remedy, "%s is out of range", s)
		}
		return d, nil
	}
}

// brief is a duration without the units that are zero: 15m, not 15m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func truth(s string) (any, *fault) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, faultf("write true or false", "%q is neither true nor false", s)
}

// wordsOf is text that passes the checks.
func wordsOf(checks ...check) words {
	return func(s string) (any, *fault) {
		for _, c := range checks {
			if f := c(s); f != nil {
				return nil, f
			}
		}
		return s, nil
	}
}
