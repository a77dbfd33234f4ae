package shell

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"mvdan.cc/sh/v3/syntax"
)

// TestParserDifferences is what the parser makes of text that shells read
// otherwise, and what we make of it. The middle column is the parser's reading,
// not what is right: when an upgrade changes it, look whether our rule is still
// needed.
func TestParserDifferences(t *testing.T) {
	tests := []struct {
		text   string
		parser string // each call's words between bars, calls between slashes
		code   ErrorCode
		says   string
	}{
		{"echo hi # x \\\nid", "echo|hi|id", ShellDependent, "comment ends in a backslash"}, // shells run id
		{"ls a\\\r\nid", "ls|aid", BadText, "U+000D"},
		{"echo a\rb", "echo|a|b", BadText, "U+000D"},
		{"echo a\x00b", "echo|ab", BadText, "U+0000"},
		{"echo \\\\\\\nb", "echo|\\\\\\\nb", ShellDependent, "backslash at the end of the line"},
		{"$\\\n'\\x77'", "$'\\x77'", ShellDependent, "backslash at the end of the line"},
		{"echo x=~bin", "echo|x=~bin", NotLiteral, "tilde"},
		{"free 31>&1", "free", ShellDependent, "31"},
		{"echo a >1>f", "echo|a", Syntax, "file called 1"}, // shells: syntax error
		{"in", "in", Syntax, "reserved word"},
		{"true; else", "true / else", Syntax, "reserved word"},
		{"%a", "%a", ShellDependent, "job"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			if got := parserReads(t, tt.text); got != tt.parser {
				t.Errorf("the parser now reads %q as %q, it was %q", tt.text, got, tt.parser)
			}
			doc := Parse(tt.text)
			if doc.Error == nil || doc.Error.Code != tt.code || !strings.Contains(doc.Error.Message, tt.says) {
				t.Errorf("Parse(%q): %+v, want %s with %q", tt.text, doc.Error, tt.code, tt.says)
			}
		})
	}
}

func parserReads(t *testing.T, text string) string {
	t.Helper()
	f, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	if err != nil {
		return err.Error()
	}
	var calls []string
	syntax.Walk(f, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok {
			var words []string
			for _, w := range call.Args {
				var b strings.Builder
				if err := syntax.NewPrinter().Print(&b, w); err != nil {
					t.Fatal(err)
				}
				words = append(words, b.String())
			}
			calls = append(calls, strings.Join(words, "|"))
		}
		return true
	})
	return strings.Join(calls, " / ")
}

func TestFeatures(t *testing.T) {
	tests := []struct {
		line      string
		certainty Certainty
		shape     Shape
		features  string
	}{
		{"a", Static, ShapeSimple, ""},
		{"a | b", Static, ShapePipeline, "pipe"},
		{"a |& b", Opaque, ShapePipeline, "pipe_stderr"},
		{"a && b", Static, ShapeList, "and"},
		{"a | b || c", Static, ShapeList, "or pipe"},
		{"a; b", Static, ShapeList, "sequence"},
		{"a\nb\n", Static, ShapeList, "sequence"},
		{"a;", Static, ShapeSimple, ""},
		{"a # b", Static, ShapeSimple, ""},
		{"a &", Static, ShapeCompound, "background"},
		{"a & b", Static, ShapeCompound, "background"},
		{"! a", Static, ShapeCompound, "negation"},
		{"(a)", Static, ShapeCompound, "subshell"},
		{"{ a; }", Static, ShapeCompound, "group"},
		{"a | { b; }", Static, ShapeCompound, "group pipe"},
		{"a && (b)", Static, ShapeCompound, "and subshell"},
		{"if a; then b; elif c; then d; else e; fi", Static, ShapeCompound, "if"},
		{"if a & then b & fi", Static, ShapeCompound, "background if"},
		{"(a) >/dev/null", Dynamic, ShapeCompound, "redirect_null subshell"},
		{"while a; do b; done", Dynamic, ShapeCompound, "loop"},
		{"until a; do b; done", Dynamic, ShapeCompound, "loop"},
		{"for x in a b; do c; done", Dynamic, ShapeCompound, "loop"},
		{"for ((;;)); do c; done", Opaque, ShapeCompound, "loop"},
		{"select x in a; do b; done", Opaque, ShapeCompound, "loop"},
		{"case a in b) c;; esac", Dynamic, ShapeCompound, "case"},
		{"f() { a; }", Dynamic, ShapeCompound, "function group"},
		{"function f { a; }", Opaque, ShapeCompound, "function group"},
		{"a $(b)", Dynamic, ShapeSimple, "command_substitution"},
		{"a `b`", Dynamic, ShapeSimple, "command_substitution"},
		{"a <(b)", Opaque, ShapeSimple, "process_substitution"},
		{"a >(b)", Opaque, ShapeSimple, "process_substitution"},
		{"a $x", Dynamic, ShapeSimple, "parameter"},
		{"a ${x:-$(b)}", Dynamic, ShapeSimple, "command_substitution parameter"},
		{"a $((1))", Dynamic, ShapeSimple, "arithmetic"},
		{"a $[1]", Opaque, ShapeSimple, "arithmetic"},
		{"((1))", Opaque, ShapeCompound, "arithmetic_command"},
		{"[[ a ]]", Opaque, ShapeCompound, "test_command"},
		{"time a", Opaque, ShapeCompound, "time"},
		{"coproc a", Opaque, ShapeCompound, "coproc"},
		{"export a=b", Opaque, ShapeCompound, "declaration"},
		{"declare a", Opaque, ShapeCompound, "declaration"},
		{"local a", Opaque, ShapeCompound, "declaration"},
		{"let a=1", Opaque, ShapeCompound, "let"},
		{"a <<E\nx\nE\n", Dynamic, ShapeSimple, "heredoc"},
		{"a <<-'E'\nx\nE\n", Dynamic, ShapeSimple, "heredoc"},
		{"a <<<b", Opaque, ShapeSimple, "herestring"},
		{"a >b", Static, ShapeSimple, "redirect"},
		{"a >>b", Static, ShapeSimple, "redirect"},
		{"a <b", Static, ShapeSimple, "redirect"},
		{"a <>b", Static, ShapeSimple, "redirect"},
		{"a >|b", Static, ShapeSimple, "redirect"},
		{"a >/dev/null", Static, ShapeSimple, "redirect_null"},
		{"a 2> '/dev/'null", Static, ShapeSimple, "redirect_null"},
		{"a 1>/dev/null 2>&1", Static, ShapeSimple, "redirect_dup redirect_null"},
		{"a >>/dev/null", Static, ShapeSimple, "redirect"},
		{"a >|/dev/null", Static, ShapeSimple, "redirect"},
		{"a 3>/dev/null", Static, ShapeSimple, "redirect"},
		{"a 0>/dev/null", Static, ShapeSimple, "redirect"},
		{"a </dev/null", Static, ShapeSimple, "redirect"},
		{"a >/dev/null/../x", Static, ShapeSimple, "redirect"},
		{"a >//dev/null", Static, ShapeSimple, "redirect"},
		{"a 2>& \"1\"", Static, ShapeSimple, "redirect_dup"},
		{"a >&2", Static, ShapeSimple, "redirect"},
		{"a 2<&1", Static, ShapeSimple, "redirect"},
		{"a >&1", Static, ShapeSimple, "redirect"},
		{"a 2>&-", Static, ShapeSimple, "redirect"},
		{"a &>b", Opaque, ShapeSimple, "redirect_both"},
		{"a &>>b", Opaque, ShapeSimple, "redirect_both"},
		{"a >&b", Opaque, ShapeSimple, "redirect_both"},
		{"a 2>&b", Opaque, ShapeSimple, "redirect_both"},
		{"a <&b", Opaque, ShapeSimple, "redirect"},
		{"a >&12", Opaque, ShapeSimple, "redirect"},
		{"a 2>&1-", Opaque, ShapeSimple, "redirect_both"},
		{"a {x}>b", Opaque, ShapeSimple, "redirect"},
		{"a >$x", Dynamic, ShapeSimple, "parameter redirect"},
		{"a >/x*", Dynamic, ShapeSimple, "glob redirect"},
		{"a >~/x", Dynamic, ShapeSimple, "redirect tilde"},
		{">a", Dynamic, ShapeSimple, "redirect"},
		{">/dev/null", Dynamic, ShapeSimple, "redirect_null"},
		{"A=b", Dynamic, ShapeSimple, "assignment"},
		{"A=b c", Static, ShapeSimple, "assignment_prefix"},
		{"A=$x c", Dynamic, ShapeSimple, "assignment_prefix parameter"},
		{"A+=b c", Opaque, ShapeSimple, "array assignment_prefix"},
		{"a[1]=b", Opaque, ShapeSimple, "array assignment"},
		{"a=(b)", Opaque, ShapeSimple, "array assignment"},
		{"a /b*", Pattern, ShapeSimple, "glob"},
		{"a /*", Pattern, ShapeSimple, "glob"},
		{"a '/x'?/b", Pattern, ShapeSimple, "glob"},
		{"a *", Dynamic, ShapeSimple, "glob"},
		{"a -b/*", Dynamic, ShapeSimple, "glob"},
		{"a --b=/*", Dynamic, ShapeSimple, "glob"},
		{"a */b", Dynamic, ShapeSimple, "glob"},
		{"/bin/*", Dynamic, ShapeSimple, "glob"},
		{"A=/b* c", Dynamic, ShapeSimple, "assignment_prefix glob"},
		{"a '*' \\* \"?\"", Static, ShapeSimple, ""},
		{"a /[bc]", Dynamic, ShapeSimple, "glob_class"},
		{"a /b*[c]", Dynamic, ShapeSimple, "glob glob_class"},
		{"a [b\"]\"", Dynamic, ShapeSimple, "glob_class"},
		{"a []]", Dynamic, ShapeSimple, "glob_class"},
		{"[ a ]", Static, ShapeSimple, ""},
		{"a [b c] [] \\[d] '[e]'", Static, ShapeSimple, ""},
		{"a @(b|c)", Opaque, ShapeSimple, "extglob"},
		{"a {b,c}", Opaque, ShapeSimple, "brace_expansion"},
		{"a {1..3}", Opaque, ShapeSimple, "brace_expansion"},
		{"a {'b',\"c\"}", Opaque, ShapeSimple, "brace_expansion"},
		{"a {} {b} '{b,c}' {b\\,c} \\{b,c} {{.Names}} {b},{c}", Static, ShapeSimple, ""},
		{"a ~", Dynamic, ShapeSimple, "tilde"},
		{"a b=~ c:~d", Dynamic, ShapeSimple, "tilde"},
		{"a b~ '~' \\~", Static, ShapeSimple, ""},
		{"a $'b'", Opaque, ShapeSimple, "ansi_c_quote"},
		{"a $\"b\"", Opaque, ShapeSimple, "locale_quote"},
		{"a $ b$ \"$\" c$% '$x' \\$x", Static, ShapeSimple, ""},
		{"sh -c 'a | b'", Static, ShapeSimple, "pipe"},
		{"sh -c 'ls /b*'", Pattern, ShapeSimple, "glob"},
		{"sh -c 'a $x'", Dynamic, ShapeSimple, "parameter"},
		{"a 'b", Opaque, ShapeCompound, ""},
		{"", Opaque, ShapeEmpty, ""},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			doc := Parse(tt.line)
			var got []string
			for _, f := range doc.Features {
				got = append(got, string(f))
			}
			if s := strings.Join(got, " "); s != tt.features || doc.Certainty != tt.certainty || doc.Shape != tt.shape {
				t.Errorf("Parse(%q): %s %s [%s], want %s %s [%s] (%+v)", tt.line, doc.Certainty, doc.Shape, s, tt.certainty, tt.shape, tt.features, doc.Error)
			}
			sound(t, doc)
		})
	}
}

// TestFeatureTables holds the tables of features together.
func TestFeatureTables(t *testing.T) {
	if !slices.IsSorted(features[:]) {
		t.Error("features is not sorted")
	}
	if hasUnknown != 1<<(len(features)-1) {
		t.Error("features and the bits are not of one length")
	}
	for f := range bashOnly {
		if onlyBash&(1<<slices.Index(features[:], f)) == 0 {
			t.Errorf("%s is missing in onlyBash", f)
		}
	}
	for _, f := range onlyBash.list() {
		if _, ok := bashOnly[f]; !ok {
			t.Errorf("%s is missing in bashOnly", f)
		}
	}
	for f, bit := range map[Feature]featureSet{
		FeatureAnd: hasAnd, FeatureGlob: hasGlob, FeatureIf: hasIf, FeatureParameter: hasParameter,
		FeatureRedirectNull: hasRedirectNull, FeatureTilde: hasTilde, FeatureUnknown: hasUnknown,
	} {
		if bit.first() != f {
			t.Errorf("the bit of %s stands for %s", f, bit.first())
		}
	}
}

// sound checks what holds of every document.
func sound(t testing.TB, doc Document) {
	t.Helper()
	sendable := doc.Certainty == Static || doc.Certainty == Pattern
	if sendable != (doc.Canonical != "") || sendable != (doc.Error == nil) {
		t.Errorf("%q is %s with canonical %q and error %+v", doc.Text, doc.Certainty, doc.Canonical, doc.Error)
	}
	if doc.Error != nil && (doc.Error.Code == "" || len(doc.Error.Message) < 10) {
		t.Errorf("%q has an empty error", doc.Text)
	}
	if len(doc.Commands) > 0 && !slices.IsSorted(doc.Features) {
		t.Errorf("%q: features %q are not sorted", doc.Text, doc.Features)
	}
	for i, c := range doc.Commands {
		if c.ID != i {
			t.Errorf("%q: command %d has id %d", doc.Text, i, c.ID)
		}
		if c.Static != (c.Argv != nil) || c.Static && c.Words != nil {
			t.Errorf("%q: static %v with argv %q and words %v", doc.Text, c.Static, c.Argv, c.Words)
		}
		if sendable && c.Program == "" {
			t.Errorf("%q is sendable, but command %d has no program", doc.Text, i)
		}
	}
	if sendable && len(doc.Commands) == 0 {
		t.Errorf("%q is sendable and has no command", doc.Text)
	}
	var plain any
	b, err := json.Marshal(doc)
	if err == nil {
		err = json.Unmarshal(b, &plain)
	}
	if err != nil || hasNull(plain) {
		t.Errorf("%q: a null in %s: %v", doc.Text, b, err)
	}
	fixedPoint(t, doc)
}

// hasNull reports whether there is a null anywhere in a decoded JSON value.
func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(v, hasNull)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), hasNull)
	}
	return false
}

// fixedPoint checks that the canonical form means the same and is its own
// canonical form.
func fixedPoint(t testing.TB, doc Document) {
	t.Helper()
	if doc.Canonical == "" || len(doc.Canonical) > maxBytes {
		return
	}
	again := Parse(doc.Canonical)
	if again.Canonical != doc.Canonical {
		t.Errorf("%q renders as %q, and that as %q (%+v)", doc.Text, doc.Canonical, again.Canonical, again.Error)
	}
	doc.Text, again.Text = "", ""
	if diff := cmp.Diff(doc, again); diff != "" {
		t.Errorf("%q: its canonical form differs:\n%s", doc.Canonical, diff)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		line string
		code ErrorCode
		says string // culprit and remedy, both
	}{
		{"", Empty, "give a command"},
		{" \t\n", Empty, "nothing to run"},
		{"# x", Empty, "nothing to run"},
		{"sh -c ''", Empty, "sh -c"},
		{strings.Repeat("a ", 8193), TooLong, "16386 bytes"},
		{strings.Repeat("(", 65), TooComplex, "more than 64 opening tokens"},
		{strings.Repeat("[[ ", 40), TooComplex, "more than 64 opening tokens"},
		{strings.Repeat("if ", 65), TooComplex, "more than 64 opening tokens"},
		{strings.Repeat("a;", 65), TooComplex, "64 commands"},
		{strings.Repeat("a|", 64) + "a", TooComplex, "64 commands"},
		{"a " + strings.Repeat("b ", 1024), TooComplex, "1024 words"},
		{strings.Repeat("( ", 25) + "a" + strings.Repeat(")", 25), TooComplex, "deeper than 24"},
		{"ls -" + strings.Repeat("a", 600), TooComplex, "option or path of ls"},
		{"ls /" + strings.Repeat("a/", 600), TooComplex, "option or path of ls"},
		{nested(4, "a"), TooComplex, "deeper than 3"},
		{"a 'b", Syntax, "at byte 2"},
		{"a &&", Syntax, "must be followed"},
		{"a ;; b", Syntax, "at byte 2"},
		{"cat <<E", Syntax, "here-document"},
		{"fi", Syntax, "`fi`"},
		{"'' a", Syntax, "names no program"},
		{"/bin/ a", Syntax, "'/bin/' names no program"},
		{"up\x00time", BadText, "U+0000 (null) at byte 2"},
		{"a\r\nb", BadText, "U+000D (carriage return) at byte 1"},
		{"a\x1b[0m", BadText, "U+001B (escape) at byte 1"},
		{"a\x7f", BadText, "U+007F (delete) at byte 1"},
		{"a\u0085", BadText, "U+0085 (a control character) at byte 1"},
		{"a\u00a0b", BadText, "U+00A0"},
		{"a\u3000b", BadText, "ordinary space"},
		{"a\u200bb", BadText, "U+200B (an invisible formatting character) at byte 1"},
		{"a\u202eb", BadText, "U+202E"},
		{"a\ufeff", BadText, "U+FEFF"},
		{"a\u2028b", BadText, "line or paragraph separator"},
		{"a\ue000", BadText, "private-use"},
		{"a\U000e0041", BadText, "invisible"},
		{"a\u0378", BadText, "unassigned"},
		{"é\xff", BadText, "0xFF at offset 2"},
		{"a \xed\xa0\x80", BadText, "not valid UTF-8"},
		{"ls $HOME", NotLiteral, "$HOME: a parameter expansion"},
		{"ls ~", NotLiteral, "write the directory out"},
		{"ls *", NotLiteral, "begin it with a slash"},
		{"A=b", NotLiteral, "env NAME=value COMMAND"},
		{"for x in a; do b; done", NotLiteral, "how often a loop runs"},
		{"sh -c 'ls $x'", NotLiteral, "in the text of sh -c: $x"},
		{"a {b,c}", ShellDependent, "brace expansion"},
		{"a &>b", ShellDependent, "use > FILE 2>&1"},
		{"]] a", ShellDependent, "bash does not accept"},
		{"a\\\nb", ShellDependent, "at byte 1"},
		{"a \\\n b\\\nc", ShellDependent, "at byte 6"},
		{"a\\", ShellDependent, "backslash at the end of the text"},
		{"a # b\\", ShellDependent, "comment"},
		{"a | # b \\\nc", ShellDependent, "comment"},
		{"if a; then # \\\nb\nfi", ShellDependent, "comment"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.30q", tt.line), func(t *testing.T) {
			doc := Parse(tt.line)
			if doc.Error == nil || doc.Error.Code != tt.code || !strings.Contains(doc.Error.Message, tt.says) {
				t.Errorf("%+v, want %s with %q", doc.Error, tt.code, tt.says)
			}
			sound(t, doc)
		})
	}
}

// nested is a command inside n of sh -c.
func nested(n int, line string) string {
	for range n {
		line = "sh -c " + Quote(line)
	}
	return line
}

func TestLimitsAreInclusive(t *testing.T) {
	for _, line := range []string{
		strings.Repeat("a", 16384),
		"echo '" + strings.Repeat("(", 64) + "'",
		strings.Repeat("a;", 64),
		"a " + strings.Repeat("b ", 1023),
		strings.Repeat("( ", 24) + "a" + strings.Repeat(")", 24),
		nested(3, "a"),
		"ls -" + strings.Repeat("a", 500),
	} {
		if doc := Parse(line); doc.Error != nil {
			t.Errorf("%.30q: %+v", line, doc.Error)
		}
	}
}

// calls writes the commands of a line as a test reads them.
func calls(doc Document) string {
	var list []string
	for _, c := range doc.Commands {
		s := c.Dir + c.Program
		if c.Static {
			s = strings.Join(c.Argv, " ")
		}
		for _, w := range slices.Backward(c.Wrappers) {
			s = strings.Join(append([]string{w.Dir + w.Program}, w.Args...), " ") + ": " + s
		}
		for _, a := range c.Assigns {
			s += " " + a.Name + "=" + a.Value
		}
		if c.User != "" {
			s += " as " + c.User
		}
		if len(c.Scope) > 0 {
			s += " in " + strings.Join(c.Scope, ",")
		}
		if c.Stdin != "inherit" {
			s += " from " + c.Stdin
		}
		for _, r := range c.Redirects {
			s += fmt.Sprintf(" %s(%d,%s,%v)", r.Op, r.FD, r.Path, r.Static)
		}
		list = append(list, s)
	}
	return strings.Join(list, "; ")
}

func TestCommands(t *testing.T) {
	tests := []struct{ line, want string }{
		{"a b | c", "a b; c from pipe"},
		{"'a b' \"c'd\" e\\ f \\'g\"\" ''", "a b c'd e f 'g "},
		{"\"a\\b\\$\\`\\\"\\\\\"", "a\\b$`\"\\"},
		{"/usr/bin/ls x", "/usr/bin/ls x"},
		{"./ls", "./ls"},
		{"''", ""},
		{"$x a", ""},
		{"ls $(b $(c)) `d`", "ls; b in substitution; c in substitution,substitution; d in substitution"},
		{"echo \"x $(b)\"", "echo; b in substitution"},
		{"a ${x:-$(b)} ${y/$(c)/$(d)} $(( $(e) ))", "a; b in substitution; c in substitution; d in substitution; e in substitution"},
		{"A=$(b) c", "c A=$(b); b in substitution"},
		{"a >$(b)", "a write(1,$(b),false); b in substitution"},
		{"a <<E\n$(b)\nE", "a from heredoc heredoc(0,,false); b in substitution"},
		{"a <(b)", "a; b in process_substitution"},
		{"f() { a; b; }; f", "a in function,group; b in function,group; f"},
		{"(a; { b; })", "a in subshell; b in subshell,group"},
		{"if a; then b; else c; fi", "a in if; b in if; c in if"},
		{"while a; do b; done", "a in loop; b in loop"},
		{"for x in $(a); do b; done", "a in substitution; b in loop"},
		{"case $(a) in $(b)) c;; esac", "a in substitution; b in substitution; c in case"},
		{"[[ $(a) ]]", "a in substitution"},
		{"(( $(a) ))", "a in substitution"},
		{"export x=$(a)", "a in substitution"},
		{"x=($(a))", " x=; a in substitution"},
		{"time a", "a in time"},
		{"coproc a", "a in coproc"},
		{"a && ! b | c", "a; b; c from pipe"},
		{"a | (b; c)", "a; b in subshell from pipe; c in subshell from pipe"},
		{"a <b", "a from file read(0,b,true)"},
		{"a </dev/null", "a from null read(0,/dev/null,true)"},
		{"a <&-", "a from null close(0,,true)"},
		{"a <&3", "a from file dup(0,3,true)"},
		{"a <<<b", "a from herestring herestring(0,b,true)"},
		{"a | b <c", "a; b from file read(0,c,true)"},
		{">x a 2>&1 b 3<>y 4>>z 5>|w", "a b write(1,x,true) dup(2,1,true) readwrite(3,y,true) append(4,z,true) write(5,w,true)"},
		{"a >&b", "a write(1,b,true)"},
		{"a >&$b", "a dup(1,$b,false)"},
		{">x", " write(1,x,true)"},
		{"A=b C='d e' f", "f A=b C=d e"},
		{"A=b", " A=b"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			doc := Parse(tt.line)
			if got := calls(doc); got != tt.want {
				t.Errorf("\n got %q\nwant %q", got, tt.want)
			}
			sound(t, doc)
		})
	}
}

func TestDetachedRedirects(t *testing.T) {
	doc := Parse("{ a; } >x <y 2>/dev/null 3>&1 4<>z")
	got := fmt.Sprint(doc.Writes, doc.Reads, doc.Commands[0].Redirects)
	want := "[{write 1 x true} {write 2 /dev/null true} {readwrite 4 z true}] [{read 0 y true} {readwrite 4 z true}] []"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWrappers(t *testing.T) {
	tests := []struct {
		line string
		want string // the commands, or what the refusal says
	}{
		{"sudo a b", "sudo: a b as root"},
		{"sudo -n -- a", "sudo -n --: a as root"},
		{"sudo -nEu bob a", "sudo -nEu bob: a as bob"},
		{"sudo -ubob a", "sudo -ubob: a as bob"},
		{"sudo --user=bob --non-interactive a", "sudo --user=bob --non-interactive: a as bob"},
		{"sudo --user bob a", "sudo --user bob: a as bob"},
		{"sudo A=b C=d a", "sudo A=b C=d: a A=b C=d as root"},
		{"/usr/bin/sudo a", "/usr/bin/sudo: a as root"},
		{"sudo -n", "sudo -n"},
		{"sudo -s", "!-s"},
		{"sudo -i a", "!-i"},
		{"sudo -nS a", "!-S"},
		{"sudo -b a", "!-b"},
		{"sudo --non-inter a", "!--non-inter"},
		{"sudo --preserve-env=A a", "!--preserve-env"},
		{"sudo -u", "!value is missing"},
		{"sudo -- A=b a", "!assignment"},
		{"sudo 1A=b a", "!assignment"},
		{"sudo A=b -s", "!-s"},
		{"sudo - a", "!-"},
		{"sudo $x", "sudo:  as root"},
		{"sudo -u $x a", "!not literal"},
		{"sudo -u$x a", "!not literal"},
		{"/tmp/sudo a", "!/tmp/"},
		{"./env a", "!./"},
		{"doas -u bob a", "doas -u bob: a as bob"},
		{"doas -s", "!-s"},
		{"timeout 5 a", "timeout 5: a"},
		{"timeout -s KILL --kill-after=5 1.5m a", "timeout -s KILL --kill-after=5 1.5m: a"},
		{"timeout -k 5 --foreground -v 30s a b", "timeout -k 5 --foreground -v 30s: a b"},
		{"timeout a b", "!operand"},
		{"timeout 5ss a", "!operand"},
		{"timeout $x a", "!operand"},
		{"timeout 5 -s a", "!-s"},
		{"timeout 5", "timeout 5"},
		{"nice a", "nice: a"},
		{"nice -n 10 a", "nice -n 10: a"},
		{"nice -n -20 a", "nice -n -20: a"},
		{"nice -5 a", "nice -5: a"},
		{"nice --adjustment=5 a", "nice --adjustment=5: a"},
		{"nice -x a", "!-x"},
		{"nohup a", "nohup: a"},
		{"ionice -c2 -n 7 a", "ionice -c2 -n 7: a"},
		{"ionice -p 1", "!-p"},
		{"setsid -w a", "setsid -w: a"},
		{"stdbuf -oL --error=0 a", "stdbuf -oL --error=0: a"},
		{"env", "env"},
		{"env a", "env: a"},
		{"env A=b a", "env A=b: a A=b"},
		{"env -- A=b a", "env -- A=b: a A=b"},
		{"env -i a", "!-i"},
		{"env - a", "!-"},
		{"env -S 'a b'", "!-S"},
		{"env -u X a", "!-u"},
		{"command a", "command: a"},
		{"command -p a", "command -p: a"},
		{"command -v a", "command -v a"},
		{"command -pV a", "command -pV a"},
		{"command -x a", "!-x"},
		{"exec a", "exec: a"},
		{"exec", "exec"},
		{"exec -a b c", "!-a"},
		{"sudo -n timeout 5 nice -n 5 env A=b a", "sudo -n: timeout 5: nice -n 5: env A=b: a A=b as root"},
		{"sudo -n sudo -u bob a", "sudo -n: sudo -u bob: a as bob"},
		{"sh -c a", "sh -c: a in shell"},
		{"sh -c 'a | b'", "sh -c: a in shell; sh -c: b in shell from pipe"},
		{"sudo -n sh -c 'a; timeout 5 b'", "sudo -n: sh -c: a as root in shell; sudo -n: sh -c: timeout 5: b as root in shell"},
		{"bash -c a", "bash -c: a in shell"},
		{"/bin/dash -c a", "/bin/dash -c: a in shell"},
		{"sh -c 'sh -c a'", "sh -c: sh -c: a in shell,shell"},
		{"A=b sh -c 'C=d a'", "sh -c: a A=b C=d in shell"},
		{"x | sh -c 'a <b' 2>/dev/null", "x; sh -c: a in shell from file write(2,/dev/null,true) read(0,b,true)"},
		{"x | sh -c a", "x; sh -c: a in shell from pipe"},
		{"sh -c $x", "!not literal"},
		{"sh -c \"a $x\"", "!not literal"},
		{"sh -c /x*", "!not literal"},
		{"sh -c a b", "!exactly -c"},
		{"sh -ec a", "!exactly -c"},
		{"sh", "!exactly -c"},
		{"sh x.sh", "!exactly -c"},
		{"sh -s", "!exactly -c"},
		{"zsh -c a", "!shell"},
		{"sh -c 'xargs a'", "!in the text of sh -c: xargs"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			doc := Parse(tt.line)
			sound(t, doc)
			if says, refused := strings.CutPrefix(tt.want, "!"); refused {
				if doc.Certainty != Opaque || doc.Error.Code != RunsUnseen || !strings.Contains(doc.Error.Message, says) {
					t.Errorf("%s %+v, want a refusal with %q", doc.Certainty, doc.Error, says)
				}
				return
			}
			if got := calls(doc); got != tt.want {
				t.Errorf("\n got %q\nwant %q (%+v)", got, tt.want, doc.Error)
			}
		})
	}
}

func TestRunsUnseen(t *testing.T) {
	refused := []string{
		"xargs a", "parallel a", "eval a", ". a", "source a", "trap a EXIT", "busybox a", "toybox a", "su -c a", "su", "watch a",
		"alias a=b", "'export' A=b", "\\declare x", "builtin a", "hash -p /x a", "\\let x=1", "\\time a", "chroot /x a", "flock x a",
		"find / -exec a", "find / -name x -execdir a", "find -ok a", "find -okdir a", "sudo -n find / -exec a", "ip netns exec x a",
		"test -v 'a[$(b)]'", "[ -v 'a[1]' ]", "test ! -v 'a[$(b)]'", "printf -v 'a[$(b)]' x", "printf '-va[$(b)]' x",
		"read 'a[$(b)]'", "unset 'a[$(b)]'", "mapfile -C a x", "/usr/bin/xargs a", "./xargs a", "timeout 5 xargs a", "env eval a",
		"command eval a", "fish -c a", "ash", "compgen -W a",
	}
	for _, line := range refused {
		doc := Parse(line)
		sound(t, doc)
		if doc.Certainty != Opaque || doc.Error.Code != RunsUnseen {
			t.Errorf("%q: %s %+v, want it refused", line, doc.Certainty, doc.Error)
		}
	}
	for _, line := range []string{
		"find /x -name exec", "hash", "test -f 'a[1]'", "[ 'a[1]' = -v ]", "printf '%s' 'a[1]'", "read x", "mapfile x", "ip addr",
		"python3 -c x", "awk x", "git -c a=b log", "set -e", "cd /x", "machinectl list",
	} {
		if doc := Parse(line); doc.Certainty != Static {
			t.Errorf("%q: %s %+v, want it static", line, doc.Certainty, doc.Error)
		}
	}
}

func TestCanonical(t *testing.T) {
	tests := []struct{ line, want string }{
		{"sudo -n systemctl status nginx 2>/dev/null | grep -c \"act\"ive", "'sudo' '-n' 'systemctl' 'status' 'nginx' 2>'/dev/null' | 'grep' '-c' 'active'"},
		{"a\n\nb;c", "'a'; 'b'; 'c'"},
		{"a&&b||c", "'a' && 'b' || 'c'"},
		{"a & b", "'a' & 'b'"},
		{"a & b &", "'a' & 'b' &"},
		{"! a|b", "! 'a' | 'b'"},
		{"(a;b)", "( 'a'; 'b' )"},
		{"{ a; b & }", "{ 'a'; 'b' & }"},
		{"if a;then b;elif c;then d;else e;fi", "if 'a'; then 'b'; elif 'c'; then 'd'; else 'e'; fi"},
		{"if a& then b& fi", "if 'a' & then 'b' & fi"},
		{"A=b C= d", "A='b' C='' 'd'"},
		{"ls /a\"*\"b*c?", "'ls' '/a*b'*'c'?"},
		{"echo it\\'s a\\!b \"\\\\\" ''", "'echo' 'it'\\''s' 'a'\\!'b' \\\\ ''"},
		{"a 2>&1 >x <y >>z 3<>w >|v 4<&- 5>&2", "'a' 2>&1 >'x' <'y' >>'z' 3<>'w' >|'v' 4<&- 5>&2"},
		{"sh -c 'ls   -l|wc'", "'sh' '-c' \\''ls'\\'' '\\''-l'\\'' | '\\''wc'\\'"},
		{"a # comment", "'a'"},
		{"a \\\n  b", "'a' 'b'"},
		{"a 'b \\\nc'", "'a' 'b '\\\\'\nc'"},
	}
	for _, tt := range tests {
		doc := Parse(tt.line)
		sound(t, doc)
		if doc.Canonical != tt.want {
			t.Errorf("%q\n got %s\nwant %s (%+v)", tt.line, doc.Canonical, tt.want, doc.Error)
		}
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(Parse("sudo -n ls -la --color=/x /var/log/*.log 2>/dev/null"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"text":"sudo -n ls -la --color=/x /var/log/*.log 2\u003e/dev/null","certainty":"pattern","shape":"simple",` +
		`"features":["glob","redirect_null"],` +
		`"canonical":"'sudo' '-n' 'ls' '-la' '--color=/x' '/var/log/'*'.log' 2\u003e'/dev/null'","commands":[{"id":0,"program":"ls","dir":"",` +
		`"static":false,"words":[{"text":"ls","kinds":[]},{"text":"-la","kinds":[]},{"text":"--color=/x","kinds":[]},{"text":"/var/log/*.log","kinds":["glob"]}],` +
		`"args":[{"text":"-la","kind":"letters","letters":["l","a"],"tails":["a",""]},` +
		`{"text":"--color=/x","kind":"long","name":"color","value":"/x","path":{"clean":true,"name":"/x","under":["/","/x"]}},` +
		`{"text":"/var/log/*.log","kind":"operand","pattern":true,"path":{"clean":true,"name":"/var/log/*.log","under":["/","/var","/var/log"]}}],` +
		`"wrappers":[{"program":"sudo","dir":"","args":["-n"]}],"user":"root","assigns":[],"stdin":"inherit",` +
		`"redirects":[{"op":"write","fd":2,"path":"/dev/null","static":true}],"scope":[]}],"writes":[],"reads":[]}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
	const empty = `{"text":"","certainty":"opaque","shape":"empty","features":[],"commands":[],"writes":[],"reads":[],"error":{"code":"empty","message":"there is nothing to run; give a command"}}`
	b, err = json.Marshal(Parse(""))
	if err != nil || string(b) != empty {
		t.Errorf("%s %v", b, err)
	}
	if text := Parse("a\xff").Text; text != "" {
		t.Errorf("text that is not UTF-8 is kept: %q", text)
	}
}

// TestHostile gives the parser what it recurses on. It is here for the stack,
// which a test run without limits would overflow, and for documents that grow.
func TestHostile(t *testing.T) {
	tokens := []string{
		"(", "{ ", "`", "[[ ", "$(", "${a:-", "$((", "((", "$[", "a[", "if ", "while ", "until ", "for i in a;do ", "case a in a) ", "select a;do ",
		"function f ", "a(){ ", "coproc ", "time ", "! ", "a&&", "a|", "a;", "a\n", "a&", "a ", "<<a ", ">a", "$a", "\"$a\"", "''", "'a'", "\\\n", "\\", "#",
		"* ", "/*", "{a,", "~", "-a ", "/a", "-", "let ", "((-", "$((-", "x=", "x=(", "a[1]=", "é", "\"", "'", "2>&1 ", "eval ", "sh -c ",
	}
	for _, token := range tokens {
		for _, before := range []string{"", "echo ", "$((", "echo \""} {
			Parse(before + strings.Repeat(token, 1<<20/len(token)))
			doc := Parse(before + strings.Repeat(token, (maxBytes-len(before))/len(token)))
			b, err := json.Marshal(doc)
			if err != nil || len(b) > 1<<20 {
				t.Errorf("%s%s...: a document of %d bytes (%v)", before, token, len(b), err)
			}
			sound(t, doc)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, bb := range []struct{ name, line string }{
		{"simple", "uptime"},
		{"pipeline", "journalctl -u app --no-pager -n 500 2>/dev/null | grep -c ERROR"},
		{"long_pipeline", "cat /var/log/syslog | tr -s ' ' | cut -d' ' -f5 | sort | uniq -c | sort -rn | head"},
		{"pattern", "tail -n 3 /var/log/nginx/*error*"},
		{"wrapped", "sudo -n timeout 30s sh -c 'systemctl restart app-worker && uptime'"},
		{"hostile", "a $(b ${c:-$(d `e`)}) <(f) | { g; } >h"},
		{"refused", strings.Repeat("(", maxBytes)},
		{"longest", strings.Repeat("a&&", maxBytes/3-1) + "a"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse(bb.line)
			}
		})
	}
}
