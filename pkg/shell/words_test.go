package shell

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lexed writes arguments as a test reads them.
func lexed(args []Arg) string {
	var list []string
	for _, a := range args {
		s := string(a.Kind) + " " + a.Text
		switch a.Kind {
		case Letters:
			s = "letters"
			for i := range a.Letters {
				s += " " + a.Letters[i] + "(" + a.Tails[i] + ")"
			}
			if a.Number {
				s += " number"
			}
		case Long:
			s = "long " + a.Name
			if a.Value != nil {
				s += "=" + *a.Value
			}
		}
		if a.Pattern {
			s += " pattern"
		}
		if a.Path != nil {
			s += fmt.Sprintf(" %s %v %v", a.Path.Name, a.Path.Clean, a.Path.Under)
		}
		list = append(list, s)
	}
	return strings.Join(list, "; ")
}

func TestArgs(t *testing.T) {
	tests := []struct{ line, want string }{
		{"a", ""},
		{"a b - '' +x", "operand b; operand -; operand ; operand +x"},
		{"a -l", "letters l()"},
		{"a -la", "letters l(a) a()"},
		{"a -é1", "letters é(1) 1()"},
		{"a -50", "letters 5(0) 0() number"},
		{"a -5x", "letters 5(x) x()"},
		{"a '-b c'", "letters b( c)  (c) c()"},
		{"a -=", "letters =()"},
		{"a --b --c=d --e= --=f ---", "long b; long c=d; long e=; long =f; long -"},
		{"a --b=c=d", "long b=c=d"},
		{"a b -- -c -- --d=/e", "operand b; end --; operand -c; operand --; operand --d=/e"},
		{"a -- /b", "end --; operand /b /b true [/ /b]"},
		{"a /", "operand / / true [/]"},
		{"a /b/c", "operand /b/c /b/c true [/ /b /b/c]"},
		{"a /b/c/", "operand /b/c/ /b/c true [/ /b /b/c]"},
		{"a //", "operand // / false []"},
		{"a /b//c", "operand /b//c /b//c false []"},
		{"a /b/c//", "operand /b/c// /b/c/ false []"},
		{"a //b", "operand //b //b false []"},
		{"a /./b", "operand /./b /./b false []"},
		{"a /b/..", "operand /b/.. /b/.. false []"},
		{"a /b/../", "operand /b/../ /b/.. false []"},
		{"a /.b/...", "operand /.b/... /.b/... true [/ /.b /.b/...]"},
		{"a b/c ./d ../e", "operand b/c; operand ./d; operand ../e"},
		{"a --b=/c/d --e=c", "long b=/c/d /c/d true [/ /c /c/d]; long e=c"},
		{"a -b/c", "letters b(/c) /(c) c()"},
		{"a /b/*.c", "operand /b/*.c pattern /b/*.c true [/ /b]"},
		{"a /b/*/c", "operand /b/*/c pattern /b/*/c true [/ /b]"},
		{"a /*", "operand /* pattern /* true [/]"},
		{"a /b*", "operand /b* pattern /b* true [/]"},
		{"a /b/c?/d*/", "operand /b/c?/d*/ pattern /b/c?/d* true [/ /b]"},
		{"a /b/.*", "operand /b/.* pattern /b/.* false []"},
		{"a /b/*/../c", "operand /b/*/../c pattern /b/*/../c false []"},
		{"a /b/'*'/c*", "operand /b/*/c* pattern /b/*/c* true [/ /b /b/*]"},
		{"a /b/'.*'/c*", "operand /b/.*/c* pattern /b/.*/c* true [/ /b /b/.*]"},
		{"a '/b/*'", "operand /b/* /b/* true [/ /b /b/*]"},
		{"sudo -n a -b", "letters b()"},
	}
	for _, tt := range tests {
		doc := Parse(tt.line)
		if diff := cmp.Diff(tt.want, lexed(doc.Commands[0].Args)); diff != "" {
			t.Errorf("%q (-want +got)\n%s", tt.line, diff)
		}
	}
	for _, line := range []string{"a -b $c", "a *", "$a -b", "a -b*"} {
		if args := Parse(line).Commands[0].Args; args != nil {
			t.Errorf("%q has args %+v", line, args)
		}
	}
}

func TestWords(t *testing.T) {
	doc := Parse("a 'b'c $d\"e\" ~/f 'g h'* \"$(i)\"/*")
	b, err := json.Marshal(doc.Commands[0].Words)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"text":"a","kinds":[]},{"text":"bc","kinds":[]},{"text":"$d\"e\"","kinds":["parameter"]},` +
		`{"text":"~/f","kinds":["tilde"]},{"text":"g h*","kinds":["glob"]},{"text":"\"$(i)\"/*","kinds":["command_substitution","glob"]}]`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
}

// TestBracesLikeBash compares what is taken for brace expansion with what bash
// expands, over every word of a few characters.
func TestBracesLikeBash(t *testing.T) {
	const alphabet = "{},.a"
	words := []string{""}
	for from := 0; len(words) < 4000; {
		to := len(words)
		for _, w := range words[from:to] {
			for _, c := range alphabet {
				words = append(words, w+string(c))
			}
		}
		from = to
	}
	words = append(words[1:], "{1..3}", "{a..c}", "{{a,b}", "{a,b}}", "a{b,c}d{e,f}", "{{.a}},{{.a}}", "{a},{a},a}", "{a{,}", "{,{}", "{},{a,}")
	var script strings.Builder
	for _, w := range words {
		fmt.Fprintf(&script, "printf '[%%s]' x%s\necho\n", w)
	}
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(require(t, "bash", "bash"), path).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(words) {
		t.Fatalf("%d lines for %d words", len(lines), len(words))
	}
	for i, w := range words {
		expanded := lines[i] != "[x"+w+"]"
		taken := slices.Contains(Parse("echo x"+w).Features, FeatureBraceExpansion)
		if expanded && !taken {
			t.Errorf("bash makes %s of %q, which passes for literal", lines[i], w)
		}
	}
	for _, w := range []string{"{}", "{a}", "{a}{b}", "{{.Names}}", "{{.Names}},{{.ID}}", "a,b", "..", "{a}..{b}", "{", "}", "a{b"} {
		if slices.Contains(Parse("echo "+w).Features, FeatureBraceExpansion) {
			t.Errorf("%q is literal in bash, and is taken for brace expansion", w)
		}
	}
}

// A line that runs in a known directory has the facts of relative paths, unless
// it goes elsewhere itself.
func TestIn(t *testing.T) {
	tests := map[string]struct {
		line, dir string
		want      string // where the last operand leads; empty if that is not known
	}{
		"relative":        {"cat app.log", "/var/log", "/var/log/app.log"},
		"below":           {"cat nginx/app.log", "/var/log", "/var/log/nginx/app.log"},
		"from the root":   {"cat etc", "/", "/etc"},
		"absolute":        {"cat /etc/hosts", "/var/log", "/etc/hosts"},
		"standard input":  {"cat -", "/var/log", ""},
		"unknown":         {"cat app.log", "", ""},
		"not absolute":    {"cat app.log", "var", ""},
		"not clean":       {"cat app.log", "/var/../etc", ""},
		"moves":           {"cd /etc && cat shadow", "/var/log", ""},
		"wrapped":         {"sudo -n cat app.log", "/var/log", "/var/log/app.log"},
		"moved by sudo":   {"sudo -D /etc cat shadow", "/var/log", ""},
		"moved by env":    {"env -C /etc cat shadow", "/var/log", ""},
		"behind dashes":   {"cat -- -n", "/var/log", "/var/log/-n"},
		"leads back":      {"cat ../shadow", "/var/log", ""},
		"a quoted option": {"cat '-n'", "/var/log", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			doc := Parse(test.line).In(test.dir)
			last := doc.Commands[len(doc.Commands)-1]
			got := ""
			if n := len(last.Args); n > 0 && last.Args[n-1].Path != nil && last.Args[n-1].Path.Clean {
				got = last.Args[n-1].Path.Name
			}
			if got != test.want {
				t.Errorf("leads to %q, want %q", got, test.want)
			}
			if plain := Parse(test.line); plain.Canonical != doc.Canonical {
				t.Errorf("sends %q, without a directory %q", doc.Canonical, plain.Canonical)
			}
		})
	}
}
