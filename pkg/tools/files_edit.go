package tools

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"

	"github.com/sallyport/sallyport/pkg/syntax"
	"github.com/sallyport/sallyport/pkg/tool"
)

type editArgs struct {
	place
	Operation    string  `json:"operation,omitempty" enum:"replace,regex,insert,append,prepend,delete,replace_line" doc:"replace if left out"`
	OldText      string  `json:"old_text,omitempty" arg:"text" doc:"replace: literal text that is in the file once, line breaks and all"`
	NewText      string  `json:"new_text,omitempty" arg:"text" doc:"replace: what stands there instead"`
	Pattern      string  `json:"pattern,omitempty" arg:"text" doc:"regular expression (RE2); for lines, one that a line matches"`
	Replacement  string  `json:"replacement,omitempty" arg:"text" doc:"regex: instead of the match; \\1 to \\9 are its groups, \\0 is all of it"`
	Content      *string `json:"content,omitempty" arg:"text" doc:"insert, append, prepend, replace_line: one or more lines; a line break at the end may be left out"`
	Line         int     `json:"line,omitempty" arg:"min=1" doc:"insert: before this line; delete, replace_line: this one"`
	StartLine    int     `json:"start_line,omitempty" arg:"min=1" doc:"delete, replace_line: from this line"`
	EndLine      int     `json:"end_line,omitempty" arg:"min=1" doc:"to this one"`
	Global       *bool   `json:"global,omitempty" doc:"all matches; otherwise there must be exactly one. True if left out, but for replace and replace_line"`
	Preview      bool    `json:"preview,omitempty" doc:"show the difference and write nothing"`
	Expect       string  `json:"expect,omitempty" doc:"SHA-256 of the file as you know it: otherwise nothing is written"`
	SkipValidate bool    `json:"skip_validate,omitempty" doc:"write it even if it is not well formed for its type afterwards"`
}

func (a editArgs) operation() string { return cmp.Or(a.Operation, "replace") }

func (a editArgs) change() change {
	c := change{
		operation: a.operation(), old: a.OldText, new: a.NewText, pattern: a.Pattern,
		line: a.Line, from: a.StartLine, to: cmp.Or(a.EndLine, a.StartLine),
	}
	if c.operation == "regex" {
		c.new = a.Replacement
	}
	c.all = c.operation != "replace" && c.operation != "replace_line"
	if a.Global != nil {
		c.all = *a.Global
	}
	if a.Content != nil {
		c.content = *a.Content
	}
	return c
}

// takes are the arguments of each operation, of which those before the bar have
// to be there; of those in brackets exactly one.
var takes = map[string]struct{ needs, oneOf, may []string }{
	"replace":      {needs: []string{"old_text"}, may: []string{"new_text", "global"}},
	"regex":        {needs: []string{"pattern"}, may: []string{"replacement", "global"}},
	"insert":       {needs: []string{"line", "content"}},
	"append":       {needs: []string{"content"}, may: []string{"pattern", "global"}},
	"prepend":      {needs: []string{"content"}, may: []string{"pattern", "global"}},
	"delete":       {oneOf: []string{"line", "start_line", "pattern"}, may: []string{"end_line", "global"}},
	"replace_line": {needs: []string{"content"}, oneOf: []string{"line", "start_line", "pattern"}, may: []string{"end_line", "global"}},
}

// given are the arguments of operations that are there.
func (a editArgs) given() []string {
	var names []string
	for _, g := range []struct {
		name  string
		there bool
	}{
		{"old_text", a.OldText != ""},
		{"new_text", a.NewText != ""},
		{"pattern", a.Pattern != ""},
		{"replacement", a.Replacement != ""},
		{"content", a.Content != nil},
		{"line", a.Line > 0},
		{"start_line", a.StartLine > 0},
		{"end_line", a.EndLine > 0},
		{"global", a.Global != nil},
	} {
		if g.there {
			names = append(names, g.name)
		}
	}
	return names
}

func (a editArgs) check() error {
	op, given := a.operation(), a.given()
	t := takes[op]
	bad := func(name, message, remedy string) error {
		return &tool.ArgumentError{Argument: name, Message: message, Remedy: remedy}
	}
	for _, name := range t.needs {
		if !slices.Contains(given, name) {
			return bad(name, fmt.Sprintf("operation %s needs %s", op, name), "send it")
		}
	}
	picks := slices.DeleteFunc(slices.Clone(t.oneOf), func(name string) bool { return !slices.Contains(given, name) })
	switch {
	case len(t.oneOf) > 0 && len(picks) == 0:
		return bad("", fmt.Sprintf("operation %s needs to know which lines", op), "send one of "+strings.Join(t.oneOf, ", "))
	case len(picks) > 1:
		return bad(picks[1], fmt.Sprintf("operation %s is given both %s and %s", op, picks[0], picks[1]), "send one of them")
	case a.EndLine > 0 && a.StartLine == 0:
		return bad("end_line", "end_line without start_line", "send both")
	case a.EndLine > 0 && a.EndLine < a.StartLine:
		return bad("end_line", fmt.Sprintf("end_line %d is before start_line %d", a.EndLine, a.StartLine), "send them in order")
	case a.Expect != "" && !isDigest(a.Expect):
		return bad("expect", "argument \"expect\" is no SHA-256", "send the sha256 that read gave")
	}
	known := slices.Concat(t.needs, t.oneOf, t.may)
	for _, name := range given {
		if !slices.Contains(known, name) {
			return bad(name, fmt.Sprintf("operation %s has no use for %s", op, name), "leave it out; it takes "+strings.Join(known, ", "))
		}
	}
	return nil
}

func editFile() *tool.Tool {
	return tool.New(tool.Spec[editArgs, editResult]{
		Name: "edit", Set: "files", Effect: tool.Change,
		Doc: "Change some of a text file, if policy allows to read and write it, and show the difference. " +
			"Nothing is written if what is looked for is not there, or in several places without global.",
		Plan:   editArgs.plan,
		Format: func(a editArgs, runs []tool.Run) editResult { return editOf(a, runs[0]) },
	})
}

// plan finds the file, reads it, and writes it as it will be: three decisions.
func (a editArgs) plan() (tool.Plan, error) {
	if err := a.check(); err != nil {
		return tool.Plan{}, err
	}
	action := tool.FileWrite
	if a.Preview {
		action = tool.FileRead
	}
	plan := a.located(action, nil, func(f tool.FileFacts, op tool.Op) (*tool.Plan, *tool.Failure) {
		switch wrong := notRegular(a.place, f); {
		case !f.Exists && a.createsFile():
			return a.save(op, f, "", tool.Absent)
		case wrong != nil:
			return nil, wrong
		}
		read := tool.FileOp(tool.FileRead, op.Path).At(f)
		next := a.then(read, tool.Read{Path: f.Path, Whole: true})
		next.Next = func(out []tool.Output) (*tool.Plan, *tool.Failure) {
			got, failure := answered[tool.FileContent](out)
			if failure != nil {
				return nil, failure
			}
			return a.rewrite(op, f, got)
		}
		return next, nil
	})
	if a.createsFile() {
		plan.Steps[0].Do = tool.Locate{Path: a.Path, Missing: true} // for a preview, too
	}
	return plan, nil
}

// createsFile: lines are appended to a file that is not there, too.
func (a editArgs) createsFile() bool {
	return a.operation() == "append" && a.Pattern == "" && a.Expect == ""
}

// rewrite plans what becomes of a file that was read.
func (a editArgs) rewrite(op tool.Op, f tool.FileFacts, got tool.FileContent) (*tool.Plan, *tool.Failure) {
	switch {
	case !utf8.Valid(got.Bytes):
		return nil, &tool.Failure{Code: "edit_not_text", Message: a.Path + " is not UTF-8 text", Remedy: "read and write it as base64"}
	case a.Expect != "" && a.Expect != got.Digest:
		return nil, &tool.Failure{
			Code: tool.FailExpectation, Message: fmt.Sprintf("%s is not as expected: its sha256 is %s", a.Path, got.Digest),
			Remedy: "read it again and look at what has changed",
		}
	}
	return a.save(op, f, string(got.Bytes), got.Digest)
}

// save plans to write what a text becomes; a preview ends before that.
func (a editArgs) save(op tool.Op, f tool.FileFacts, text, expect string) (*tool.Plan, *tool.Failure) {
	changed, _, err := a.apply(text)
	var wrong *editError
	if errors.As(err, &wrong) {
		return nil, &tool.Failure{Code: tool.FailureCode(wrong.code), Message: wrong.message, Remedy: wrong.remedy}
	}
	if a.Preview || changed == text && f.Exists {
		return nil, nil
	}
	op.Content = &tool.Content{Bytes: int64(len(changed)), Digest: digestOf([]byte(changed))}
	return a.then(op, tool.Write{Path: f.Path, Content: []byte(changed), Expect: expect}), nil
}

// byteOrderMark is of the file, not of its first line: it stays in front.
const byteOrderMark = "\uFEFF"

// apply makes the change and refuses one that breaks what was well formed.
func (a editArgs) apply(text string) (string, int, error) {
	c := a.change()
	mark, rest := "", text
	if cut, ok := strings.CutPrefix(text, byteOrderMark); ok && !strings.HasPrefix(c.old, byteOrderMark) {
		mark, rest = byteOrderMark, cut
	}
	changed, n, err := operations[c.operation](c, rest)
	changed = mark + changed
	if err != nil || a.SkipValidate {
		return changed, n, err
	}
	kind := syntax.Of(a.Path)
	if problems := syntax.Check(kind, changed); len(problems) > 0 && len(syntax.Check(kind, text)) == 0 {
		return "", 0, &editError{
			"edit_syntax", fmt.Sprintf("afterwards it would be no well-formed %s, so nothing was written: %s", kind, sentences(problems)),
			"mend the change, or set skip_validate",
		}
	}
	return changed, n, nil
}

type editResult struct {
	writeResult
	Operation string `json:"operation"`
	Matches   int    `json:"matches" doc:"places that change"`
	Changed   bool   `json:"changed" doc:"the file is another now"`
	Preview   bool   `json:"preview,omitempty"`
	Before    string `json:"sha256_before,omitempty"`
	Diff      string `json:"diff,omitempty" doc:"unified; cut off when it is long"`
}

// maxDiff is how much of a difference is shown, in bytes.
const maxDiff = 64 << 10

func editOf(a editArgs, r tool.Run) editResult {
	res := editResult{writeResult: writeResult{fileFacts: factsAbout(r, a.Path)}, Operation: a.operation(), Preview: a.Preview}
	res.take(r)
	res.Changed = res.Digest != ""
	if res.Failed() {
		return res
	}
	old, _ := readBefore(r)
	text, n, err := a.apply(string(old.Bytes))
	if err != nil {
		return res
	}
	res.Matches, res.Before = n, old.Digest
	res.Diff = unified(res.Path, string(old.Bytes), text)
	kind := syntax.Of(a.Path)
	switch problems := syntax.Check(kind, text); {
	case a.SkipValidate:
	case len(problems) > 0:
		res.Warnings = append(res.Warnings, fmt.Sprintf("it was no well-formed %s and is none now: %s", kind, sentences(problems)))
	default:
		res.Syntax = string(kind)
	}
	return res
}

// readBefore is what was read of a file before it was written, if it was.
func readBefore(r tool.Run) (tool.FileContent, bool) {
	for run := &r; run != nil; run = run.Before {
		if got, ok := answer[tool.FileContent](*run); ok {
			return got, true
		}
	}
	return tool.FileContent{}, false
}

func unified(path, before, after string) string {
	diff := udiff.Unified(path, path, before, after)
	if len(diff) > maxDiff {
		diff = string(wholeRunes([]byte(diff[:maxDiff]))) + "\n[cut off]\n"
	}
	return diff
}

func (r editResult) Text() string {
	switch {
	case r.Failed():
		return r.Status.Text()
	case r.Preview:
		return strings.Join(append([]string{"Nothing was written; this would be:"}, append(r.Warnings, r.Diff)...), "\n")
	case !r.Changed:
		return r.Path + " is like that already; nothing was written."
	}
	return r.writeResult.Text() + "\n" + r.Diff
}
