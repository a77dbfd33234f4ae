package shell

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestQuote(t *testing.T) {
	tests := []struct {
		words []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, "''"},
		{[]string{"a", "b c"}, "'a' 'b c'"},
		{[]string{"it's"}, `'it'\''s'`},
		{[]string{"'"}, `\'`},
		{[]string{`a\`}, `'a'\\`},
		{[]string{"a!b"}, `'a'\!'b'`},
		{[]string{`!\'`}, `\!\\\'`},
		{[]string{"$x `y` \"z\" *"}, "'$x `y` \"z\" *'"},
		{[]string{"-n", "+x"}, "'-n' '+x'"},
	}
	for _, tt := range tests {
		if got := Quote(tt.words...); got != tt.want {
			t.Errorf("Quote(%q) = %s, want %s", tt.words, got, tt.want)
		}
	}
}

func TestRemote(t *testing.T) {
	if got, want := Remote("'a' 'it'\\''s'"), `exec /bin/sh -c \''a'\'' '\''it'\'\\\'\''s'\'`; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if got, want := RemoteEnv(nil, "'a'"), Remote("'a'"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got := RemoteEnv([]string{"A=it's", "B="}, "'a'")
	if want := Remote(`export 'A=it'\''s' 'B='; 'a'`); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for _, bad := range []string{"", "A", "-i", "=x", "1A=b", "-S=a", "A B=c"} {
		t.Run(bad, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Errorf("RemoteEnv takes %q", bad)
				}
			}()
			RemoteEnv([]string{bad}, "'a'")
		})
	}
}

// A line runs in its directory, whatever that is called, or not at all.
func TestRemoteIn(t *testing.T) {
	home := t.TempDir()
	names := []string{"plain", "with space", "it's", "-n", "q$(touch X)", "q`touch X`", "q\"; touch X #", "a!b", "b\\", "ünï", "~", "*", "; exit 3"}
	for _, sh := range shellsHere(t) {
		for _, name := range names {
			dir := filepath.Join(home, name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			run := func(dir string) (stdout, stderr string, exit int) {
				line := RemoteIn([]string{"MARK=x"}, dir, "LOST", Quote("printf", "%s", "ran ")+"; pwd; "+Quote("printenv", "MARK"))
				cmd := exec.Command(sh.argv[0], append(sh.argv[1:], line)...)
				cmd.Dir = home
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				_ = cmd.Run()
				return out.String(), errs.String(), cmd.ProcessState.ExitCode()
			}
			if out, _, exit := run(dir); out != "ran "+dir+"\nx\n" || exit != 0 {
				t.Errorf("%s: in %q: %q, exit %d", sh.name, dir, out, exit)
			}
			out, errs, exit := run(dir + "/gone")
			if sh.name == "bash interactive" { // it complains that it has no terminal
				_, errs, _ = strings.Cut(errs, "shell\n")
			}
			if out != "" || errs != "LOST" || exit != NoDirectory {
				t.Errorf("%s: without %q: %q, %q, exit %d", sh.name, dir, out, errs, exit)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(home, "X")); left != nil {
		t.Error("the name of a directory was executed")
	}
}

// reader is a shell that reads quoted words back.
type wordsOf struct {
	name string
	argv []string
	// newlines: it can have a newline in a word. csh cannot, and runs nothing.
	newlines bool
}

// shellsHere are the shells of this machine; bash and dash must be among them.
func shellsHere(t testing.TB) []wordsOf {
	t.Helper()
	require(t, "bash", "bash")
	require(t, "dash", "dash")
	all := []wordsOf{
		{"bash", []string{"bash", "-c"}, true},
		{"bash posix", []string{"bash", "--posix", "-c"}, true},
		{"bash interactive", []string{"bash", "--norc", "--noprofile", "-ic"}, true},
		{"dash", []string{"dash", "-c"}, true},
		{"busybox", []string{"busybox", "sh", "-c"}, true},
		{"mksh", []string{"mksh", "-c"}, true},
		{"ksh", []string{"ksh", "-c"}, true},
		{"yash", []string{"yash", "-c"}, true},
		{"posh", []string{"posh", "-c"}, true},
		{"zsh", []string{"zsh", "-c"}, true},
		{"zsh rcquotes", []string{"zsh", "-o", "rcquotes", "-o", "extendedglob", "-c"}, true},
		{"fish", []string{"fish", "--no-config", "-c"}, true},
		{"tcsh", []string{"tcsh", "-fc"}, false},
		{"csh", []string{"bsd-csh", "-fc"}, false},
	}
	return slices.DeleteFunc(all, func(s wordsOf) bool {
		_, err := exec.LookPath(s.argv[0])
		return err != nil
	})
}

// readBack has every shell print quoted words, once as they are and once
// through [Remote].
func readBack(t testing.TB, words []string) {
	t.Helper()
	line := Quote(append([]string{"/usr/bin/printf", `%s\0`}, words...)...)
	want := strings.Join(words, "\x00") + "\x00"
	multiline := strings.Contains(want, "\n")
	for _, sh := range shellsHere(t) {
		if multiline && !sh.newlines {
			continue
		}
		for _, text := range []string{line, Remote(line), RemoteEnv([]string{"A=b"}, line)} {
			cmd := exec.Command(sh.argv[0], append(slices.Clone(sh.argv[1:]), text)...)
			cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "HOME=/nonexistent"}
			var complaint bytes.Buffer
			cmd.Stderr = &complaint
			out, err := cmd.Output()
			if err != nil || string(out) != want {
				t.Errorf("%s reads %q back as %q (%v, %s)", sh.name, words, out, err, complaint.String())
			}
		}
	}
}

// hardWords are what shells trip over.
var hardWords = []string{
	"", "a", "'", "''", "\\", "\\\\", "\\'", "'\\", "!", "!!", "a!b", "\"", "$x", "$(id)", "`id`", "*", "?", "[a]", "{a,b}", "~", "=ls", "%1", "#", "a#",
	";", "&&", "|", ">x", "<", "-n", "+x", "--", "a=b", "if", "\t", " ", "a\nb", "\n", "é", "日本", "\u200b", "\x01\x7f", "^a^b", "$'a'", "@(a)", "\\n", "a\\",
	"export", "exec", "{}", "!a", "${x}", "(a)", "\\!",
}

func TestQuoteReadsBack(t *testing.T) {
	var plain, multiline []string
	for _, w := range hardWords {
		if strings.Contains(w, "\n") {
			multiline = append(multiline, w)
		} else {
			plain = append(plain, w)
		}
	}
	readBack(t, plain)
	readBack(t, multiline)
	r := rand.New(rand.NewPCG(4, 5))
	for range 4 {
		var words []string
		for range 60 {
			w := ""
			for range r.IntN(6) {
				w += plain[r.IntN(len(plain))]
			}
			words = append(words, w)
		}
		readBack(t, words)
	}
}

func FuzzQuote(f *testing.F) {
	for _, w := range hardWords {
		f.Add(w, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) || !utf8.ValidString(a+b) || len(a)+len(b) > 1000 {
			t.Skip("no word of a program, or not one that all these shells take")
		}
		readBack(t, []string{a, b, a + b})
	})
}

func ExampleQuote() {
	fmt.Println(Quote("echo", "it's", "$HOME"))
	// Output: 'echo' 'it'\''s' '$HOME'
}
