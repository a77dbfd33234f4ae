package shell

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// require is the path of a program that the tests must have.
func require(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, pkg)
	}
	return path
}

// lab is a place where command lines run with stand-ins for every program.
type lab struct {
	dir, bin string
	bash     string
	dash     string
}

// standIn notes its words: how many there are, its name and the words, each
// ended by a null byte, in one write.
const standIn = `printf '%s\0' "$#" "${0##*/}" "$@" >>"$STARTS"
case ${0##*/} in fail*) exit 1 ;; esac
`

// inShell is standIn for programs that a batch has as functions.
const inShell = `rec() { printf '%s\0' "$(($#-1))" "$@" >>"$STARTS"; }
`

func newLab(t testing.TB, programs ...string) *lab {
	t.Helper()
	for fd := range 10 { // a fuzzing process has some that a line like "echo >&4" must not reach
		if fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	l := &lab{dir: t.TempDir(), bash: require(t, "bash", "bash"), dash: require(t, "dash", "dash")}
	l.bin = filepath.Join(l.dir, "bin")
	if err := os.Mkdir(l.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	real := map[string]string{"sh": l.dash, "dash": l.dash, "bash": l.bash}
	for _, name := range []string{"env", "nohup", "timeout", "nice"} {
		real[name] = require(t, name, "coreutils") // what they run is a stand-in
	}
	for name, path := range real {
		if err := os.Symlink(path, filepath.Join(l.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	l.provide(t, programs...)
	return l
}

// provide makes stand-ins of these names.
func (l *lab) provide(t testing.TB, programs ...string) {
	t.Helper()
	for _, name := range programs {
		path := filepath.Join(l.bin, name)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if err := os.WriteFile(path, []byte("#!"+l.dash+"\n"+standIn), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// trace is what a line did: the programs that it started, each as its words,
// what the shell itself wrote, and the files that it left.
type trace struct {
	starts [][]string
	files  []string
	stdout string
}

func (a trace) equal(b trace) bool {
	return slices.EqualFunc(a.starts, b.starts, slices.Equal) && slices.Equal(a.files, b.files) && a.stdout == b.stdout
}

// run runs one line as SHELL -c does.
func (l *lab) run(t testing.TB, shell, line string) trace {
	t.Helper()
	return l.runAs(t, framed(line), shell, "-c")
}

// runAs runs a text by a shell with its options.
func (l *lab) runAs(t testing.TB, text string, argv ...string) trace {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "run")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	starts := dir + ".starts"
	defer os.Remove(starts)
	out := l.start(t, dir, starts, argv[0], append(argv[1:], text)...)
	return trace{readStarts(t, starts), listFiles(t, dir), tidy(out, dir)}
}

// framed is a line as a shell is given it: not mistaken for an option, and with
// its background jobs done when it ends.
func framed(line string) string { return "\n" + line + "\nwait\n" }

// shellPrefix is what a shell puts before its own complaints.
var shellPrefix = regexp.MustCompile(`(?m)^\S*: (line )?\d+: `)

// tidy takes out of a shell's output what differs between two runs.
func tidy(out, dir string) string {
	return shellPrefix.ReplaceAllString(strings.ReplaceAll(out, dir, "DIR"), "")
}

func (l *lab) start(t testing.TB, dir, starts, shell string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + l.bin, "STARTS=" + starts, "LC_ALL=C.UTF-8", "HOME=/nonexistent"}
	var out bytes.Buffer
	cmd.Stdout = &out
	_ = cmd.Run() // an exit status is no concern here
	if ctx.Err() != nil {
		t.Fatalf("%s %q did not end", shell, args)
	}
	return out.String()
}

// readStarts reads what stand-ins noted. A pipeline's order is not fixed, so
// the starts are sorted.
func readStarts(t testing.TB, path string) [][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Split(string(b), "\x00")
	var starts [][]string
	for len(fields) > 1 {
		n, err := strconv.Atoi(fields[0])
		if err != nil || len(fields) < n+2 {
			t.Fatalf("torn record %q", fields)
		}
		starts = append(starts, fields[1:n+2])
		fields = fields[n+2:]
	}
	slices.SortFunc(starts, slices.Compare)
	return starts
}

func listFiles(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			names = append(names, path[len(dir)+1:])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// judged reports whether a start is one of the document's calls, seen from
// outside any of its wrappers.
func judged(doc Document, start []string) bool {
	return slices.ContainsFunc(doc.Commands, func(c Command) bool {
		words := c.Argv
		if slices.Equal(words, start) {
			return true
		}
		for _, w := range slices.Backward(c.Wrappers) {
			words = slices.Concat([]string{w.Dir + w.Program}, w.Args, words)
			if slices.Equal(words, start) {
				return true
			}
		}
		return false
	})
}

// check compares what a line and its canonical form do in one shell with each
// other and with what was judged.
func check(t testing.TB, shell string, doc Document, raw, canonical trace) {
	t.Helper()
	if !raw.equal(canonical) {
		t.Errorf("%s: %q\n does  %q\n %q\n does  %q", filepath.Base(shell), doc.Text, raw, doc.Canonical, canonical)
	}
	for _, start := range canonical.starts {
		if doc.Certainty == Static && !judged(doc, start) {
			t.Errorf("%s: %q starts %q, which is none of %+v", filepath.Base(shell), doc.Text, start, doc.Commands)
		}
	}
}

// TestCorpusInShells runs every permitted line of the corpus as it is and in
// its canonical form.
func TestCorpusInShells(t *testing.T) {
	l := newLab(t)
	for _, c := range corpus(t) {
		if c.Expect != "allow" {
			continue
		}
		doc := Parse(c.Command)
		for _, cmd := range doc.Commands {
			l.provide(t, cmd.Program)
			for _, w := range cmd.Wrappers {
				l.provide(t, w.Program)
			}
		}
		if slices.ContainsFunc(doc.Commands, func(c Command) bool { return c.Dir != "" }) {
			continue // a program of this machine, not a stand-in
		}
		for _, shell := range []string{l.bash, l.dash} {
			raw, canonical := l.run(t, shell, c.Command), l.run(t, shell, doc.Canonical)
			check(t, shell, doc, raw, canonical)
			if len(raw.starts) == 0 && raw.stdout == "" && !slices.Contains([]string{"true", "test", "["}, doc.Commands[0].Program) {
				t.Errorf("%s: %q started nothing", shell, c.Command)
			}
		}
	}
}

// TestPatternsInShells: what is left unquoted in a canonical form matches what
// it matched before.
func TestPatternsInShells(t *testing.T) {
	l := newLab(t, "a")
	dir := t.TempDir()
	for _, name := range []string{"x.log", "y z.log", "q'.log", "s*r.log", ".h.log", "-n.log", "!b.log", "sub"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, operand := range []string{
		"*.log", "*", "?.log", "'y z'*", "\"y \"?.log", "q\\'*", "s'*'r*", "s\\*?.log", ".*.log", "-*", "\\!*", "'!'b*", "*none*", "'*'*", "*/", "../*/x.log", "x*.log y*",
	} {
		doc := Parse("a " + dir + "/" + operand)
		if strings.Contains(operand, " y") {
			doc = Parse("a " + dir + "/x*.log " + dir + "/y*")
		}
		if doc.Certainty != Pattern {
			t.Errorf("%q is %s: %+v", doc.Text, doc.Certainty, doc.Error)
			continue
		}
		sound(t, doc)
		for _, shell := range []string{l.bash, l.dash} {
			check(t, shell, doc, l.run(t, shell, doc.Text), l.run(t, shell, doc.Canonical))
		}
	}
}

// TestRemoteInLoginShells: whichever shell an account has, what is sent does
// what the canonical form does in sh.
func TestRemoteInLoginShells(t *testing.T) {
	l := newLab(t, "a", "b", "c", "id", "fail", "f")
	docs := randomLines(3, 60)
	for _, line := range []string{
		"a 'it''s' \"x!y\" '\\\\' | b '$x' 2>/dev/null && c \"'\" || fail; id >f", "if fail; then a; else b '*'; fi", "! a; (b; c) & { a; }", "A='!' sh -c 'a \"$\"'",
	} {
		docs = append(docs, Parse(line))
	}
	for _, doc := range docs {
		if doc.Canonical == "" {
			t.Fatalf("%q: %+v", doc.Text, doc.Error)
		}
		want := l.run(t, l.dash, doc.Canonical)
		line := doc.Canonical + "; wait" // on the same line, because of csh
		if strings.HasSuffix(doc.Canonical, "&") {
			line = doc.Canonical + " wait"
		}
		for _, sh := range shellsHere(t) {
			if strings.Contains(doc.Canonical, "\n") && !sh.newlines {
				continue
			}
			path, err := exec.LookPath(sh.argv[0])
			if err != nil {
				t.Fatal(err)
			}
			got := l.runAs(t, Remote(line), append([]string{path}, sh.argv[1:]...)...)
			if !got.equal(want) {
				t.Errorf("%s: %q does %q, want %q", sh.name, doc.Canonical, got, want)
			}
		}
	}
}

// vocabulary is what random lines are made of: every operator, quote and
// expansion, and nothing that could do harm.
var vocabulary = []string{
	"a", "b", "c", "fail", "id", "a", "b", " ", " ", " ", " ", " ", " ", "\t", "\n", ";", "; ", " && ", "||", " | ", "|", "&", "!", "! ",
	"(", ")", "{ ", "; }", "}", "if ", "; then ", "; else ", "; elif ", "; fi", "in", "do", "time", "echo ", "echo ",
	"'", "\"", "'x y'", "\"x y\"", "'\\'", "\"\\\\\"", "\"\\a\"", "\\", "\\ ", "\\\n", " \\\n", "\\'", "\\\"", "\\$", "\\`", "\\#", "\\!", "!",
	">", ">>", "<", "<>", ">|", " >f", " <f", ">&", "2>&1", " 2>&1", " >&2", "2>", "1", "2", "31", ">&-", " /dev/null ", " 2>/dev/null ", "f", "&>", "<<",
	"#", " #x", " # x \\\n", "$", "$x", "$'", "`", "~", "=~", ":~", "x=", "A=b ", "A='b c' ", "+=", "=",
	"*", "?", "[", "]", "[[", "]]", "{", ",", "..", "{a,b}", "{}", "-", "-n", "--", "@(", "é", "%", "^", ".", ":",
	"sh -c ", "sh -c 'a b'", "sh -c \"a; b 'c'\"", "exec ", "command ", "env ", "env A=b ", "nohup ", "timeout 5 ", "nice -n 5 ", "''", "\"\"",
}

// randomLines are static lines out of random tokens, without repeats.
func randomLines(seed uint64, n int) []Document {
	r := rand.New(rand.NewPCG(seed, 2))
	seen := map[string]bool{}
	var docs []Document
	for len(docs) < n {
		var b strings.Builder
		for range 1 + r.IntN(14) {
			b.WriteString(vocabulary[r.IntN(len(vocabulary))])
		}
		doc := Parse(b.String())
		if doc.Certainty == Static && !seen[doc.Text] && harmless(doc) {
			seen[doc.Text] = true
			docs = append(docs, doc)
		}
	}
	return docs
}

// harmless reports whether a line leaves alone what is outside its directory.
func harmless(doc Document) bool {
	return !slices.ContainsFunc(doc.Commands, func(c Command) bool {
		return slices.ContainsFunc(c.Redirects, func(r Redirect) bool {
			return strings.Contains(r.Path, "/") && r.Path != "/dev/null"
		})
	})
}

// TestRandomLinesInShells runs random static lines, as they are and in their
// canonical form, in one shell process for many.
func TestRandomLinesInShells(t *testing.T) {
	l := newLab(t, "a", "b", "c", "id", "fail", "f")
	docs := randomLines(1, 1000)
	for _, shell := range []string{l.bash, l.dash} {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			raw := l.batch(t, shell, docs, func(d Document) string { return d.Text })
			canonical := l.batch(t, shell, docs, func(d Document) string { return d.Canonical })
			for i, doc := range docs {
				check(t, shell, doc, raw[i], canonical[i])
			}
		})
	}
}

// batch runs lines in subshells of one shell, each in a directory of its own.
func (l *lab) batch(t testing.TB, shell string, docs []Document, line func(Document) string) []trace {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "batch")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString(inShell)
	for _, name := range []string{"a", "b", "c", "id"} {
		fmt.Fprintf(&script, "%s() { rec %s \"$@\"; }\n", name, name)
	}
	for i, doc := range docs {
		at := fmt.Sprintf("%s/%d", dir, i)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&script, "export STARTS=%s.starts; (cd %s; eval %s) >%s.out\n", at, at, Quote(framed(line(doc))), at)
	}
	path := filepath.Join(dir, "script")
	if err := os.WriteFile(path, []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	l.start(t, dir, "", shell, path)
	traces := make([]trace, len(docs))
	for i := range docs {
		at := fmt.Sprintf("%s/%d", dir, i)
		out, err := os.ReadFile(at + ".out")
		if err != nil {
			t.Fatal(err)
		}
		traces[i] = trace{readStarts(t, at+".starts"), listFiles(t, at), tidy(string(out), dir)}
	}
	return traces
}
