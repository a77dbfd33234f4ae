package tools

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/tool"
)

func TestChange(t *testing.T) {
	tests := map[string]struct {
		args string // of edit, without the path
		text string
		want string
		n    int
		code string // of the refusal, and a word of it
		says string
	}{
		"once":                    {`"old_text":"b","new_text":"B"`, "a\nb\nc\n", "a\nB\nc\n", 1, "", ""},
		"quotes are literal":      {`"old_text":"it's $(id)","new_text":"\\1 & 'x'"`, "it's $(id)\n", "\\1 & 'x'\n", 1, "", ""},
		"over lines":              {`"old_text":"a\nb","new_text":"c"`, "a\nb\n", "c\n", 1, "", ""},
		"to nothing":              {`"old_text":"b\n"`, "a\nb\nc\n", "a\nc\n", 1, "", ""},
		"not there":               {`"old_text":"x","new_text":"y"`, "a\n", "", 0, "edit_no_match", "old_text"},
		"twice":                   {`"old_text":"a","new_text":"b"`, "a\nx\na a\n", "", 0, "edit_ambiguous", "3 times, in lines 1, 3"},
		"twice in one line":       {`"old_text":"a","new_text":"b"`, "a a\n", "", 0, "edit_ambiguous", "in line 1"},
		"all":                     {`"old_text":"a","new_text":"b","global":true`, "a\nx\na a\n", "b\nx\nb b\n", 3, "", ""},
		"replace what overlaps":   {`"old_text":"aa","new_text":"b"`, "aaa\n", "", 0, "edit_ambiguous", "2 times, in line 1"},
		"replace all overlapping": {`"old_text":"aa","new_text":"b","global":true`, "aaaaa\n", "bba\n", 2, "", ""},
		"replace in other lines":  {`"old_text":"a\nb"`, "a\r\nb\r\n", "", 0, "edit_no_match", `end in \r\n`},
		"replace behind a mark":   {`"operation":"replace_line","pattern":"^a$","content":"b"`, "\uFEFFa\n", "\uFEFFb\n", 1, "", ""},
		"prepend behind a mark":   {`"operation":"prepend","content":"b"`, "\uFEFFa\n", "\uFEFFb\na\n", 1, "", ""},
		"replace the mark":        {`"old_text":"\uFEFFa","new_text":"b"`, "\uFEFFa\n", "b\n", 1, "", ""},
		"regex without the group": {`"operation":"regex","pattern":"a(.)","replacement":"\\2"`, "ab\n", "", 0, "edit_pattern", `has \2, and pattern no such group`},
		"regex as it was sent":    {`"operation":"regex","pattern":"(a","replacement":"x"`, "a\n", "", 0, "edit_pattern", "closing ): `(a`"},
		"regex that closes":       {`"operation":"regex","pattern":"a)|(?:b","replacement":"x"`, "ab\n", "", 0, "edit_pattern", "unexpected )"},
		"insert an empty line":    {`"operation":"insert","line":2,"content":""`, "a\nb\n", "a\n\nb\n", 1, "", ""},
		"empty a line":            {`"operation":"replace_line","line":1,"content":""`, "a\nb\n", "\nb\n", 1, "", ""},
		"regex with groups":       {`"operation":"regex","pattern":"(a)(b)","replacement":"\\2\\1"`, "ab\n", "ba\n", 1, "", ""},
		"regex is global":         {`"operation":"regex","pattern":"[0-9]+","replacement":"n"`, "1\n22 3\n", "n\nn n\n", 3, "", ""},
		"regex once":              {`"operation":"regex","pattern":"[0-9]+","replacement":"n","global":false`, "1\n22\n", "", 0, "edit_ambiguous", "pattern"},
		"regex by lines":          {`"operation":"regex","pattern":"^a$","replacement":"$1 \\0 \\n\\\\"`, "a\nba\n", "$1 a \n\\\nba\n", 1, "", ""},
		"regex without a match":   {`"operation":"regex","pattern":"x"`, "a\n", "", 0, "edit_no_match", "pattern"},
		"regex broken":            {`"operation":"regex","pattern":"(","replacement":""`, "a\n", "", 0, "edit_pattern", "missing closing"},
		"insert first":            {`"operation":"insert","line":1,"content":"x"`, "a\nb\n", "x\na\nb\n", 1, "", ""},
		"insert last":             {`"operation":"insert","line":3,"content":"x\ny\n"`, "a\nb\n", "a\nb\nx\ny\n", 1, "", ""},
		"insert behind the end":   {`"operation":"insert","line":4,"content":"x"`, "a\nb\n", "", 0, "edit_no_line", "no line 4, it has 2"},
		"append":                  {`"operation":"append","content":"x"`, "a\n", "a\nx\n", 1, "", ""},
		"append to an open end":   {`"operation":"append","content":"x"`, "a", "a\nx\n", 1, "", ""},
		"append to nothing":       {`"operation":"append","content":"x"`, "", "x\n", 1, "", ""},
		"append behind lines":     {`"operation":"append","content":"x","pattern":"^a"`, "a\nb\nab", "a\nx\nb\nab\nx\n", 2, "", ""},
		"prepend":                 {`"operation":"prepend","content":"x"`, "a", "x\na", 1, "", ""},
		"prepend before lines":    {`"operation":"prepend","content":"x","pattern":"b"`, "a\nb", "a\nx\nb", 1, "", ""},
		"delete a line":           {`"operation":"delete","line":2`, "a\nb\nc\n", "a\nc\n", 1, "", ""},
		"delete lines":            {`"operation":"delete","start_line":1,"end_line":2`, "a\nb\nc\n", "c\n", 2, "", ""},
		"delete what matches":     {`"operation":"delete","pattern":"[ac]"`, "a\nb\nc\n", "b\n", 2, "", ""},
		"delete nothing":          {`"operation":"delete","pattern":"x"`, "a\n", "", 0, "edit_no_match", "pattern"},
		"replace a line":          {`"operation":"replace_line","line":2,"content":"x\ny"`, "a\nb\nc\n", "a\nx\ny\nc\n", 1, "", ""},
		"replace lines":           {`"operation":"replace_line","start_line":1,"end_line":2,"content":"x"`, "a\nb\nc\n", "x\nc\n", 2, "", ""},
		"replace the whole line":  {`"operation":"replace_line","pattern":"b","content":"x"`, "a\nabc\n", "a\nx\n", 1, "", ""},
		"replace one of two":      {`"operation":"replace_line","pattern":"b","content":"x"`, "b\nb\n", "", 0, "edit_ambiguous", "lines 1, 2"},
		"replace a line too many": {`"operation":"replace_line","start_line":2,"end_line":3,"content":"x"`, "a\nb\n", "", 0, "edit_no_line", "no line 3"},
		"line ends stay":          {`"operation":"insert","line":2,"content":"x\ny"`, "a\r\nb\r\n", "a\r\nx\r\ny\r\nb\r\n", 1, "", ""},
		"regex at ends of lines":  {`"operation":"regex","pattern":"$","replacement":";"`, "a\nb\n", "a;\nb;\n", 2, "", ""},
		"regex at begins, open":   {`"operation":"regex","pattern":"^","replacement":"# "`, "a\nb", "# a\n# b", 2, "", ""},
		"regex of one line's end": {`"operation":"regex","pattern":"$","replacement":";","global":false`, "a\n", "a;\n", 1, "", ""},
		"regex at the very end":   {`"operation":"regex","pattern":"\\z","replacement":"b\\n"`, "a\n", "a\nb\n", 1, "", ""},
		"delete an open end":      {`"operation":"delete","line":2`, "a\nb", "a\n", 1, "", ""},
		"a lone return stays":     {`"operation":"insert","line":1,"content":"x"`, "a\nb\r", "x\na\nb\r", 1, "", ""},
		"a return ends no line":   {`"operation":"insert","line":1,"content":"x"`, "a\r", "x\na\r", 1, "", ""},
		"an open end stays":       {`"operation":"replace_line","line":2,"content":"x"`, "a\nb", "a\nx", 1, "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var a editArgs
			if err := tool.Decode(json.RawMessage(`{"path":"/f",`+test.args+`}`), &a); err != nil {
				t.Fatal(err)
			}
			if err := a.check(); err != nil {
				t.Fatal(err)
			}
			got, n, err := a.apply(test.text)
			var wrong *editError
			switch {
			case test.code == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.code == "" && (got != test.want || n != test.n):
				t.Errorf("%q in %d places, want %q in %d", got, n, test.want, test.n)
			case test.code != "" && (!errors.As(err, &wrong) || wrong.code != test.code || !strings.Contains(wrong.message, test.says)):
				t.Errorf("%q, %v; want %s: %s", got, err, test.code, test.says)
			}
		})
	}
}

// What an operation has no use for is refused, so that nobody believes that it
// counted.
func TestEditArguments(t *testing.T) {
	for args, says := range map[string]string{
		`{"path":"/f"}`: "needs old_text",
		`{"path":"/f","old_text":"a","pattern":"b"}`:                                       "no use for pattern",
		`{"path":"/f","operation":"insert","content":"a"}`:                                 "needs line",
		`{"path":"/f","operation":"delete"}`:                                               "which lines",
		`{"path":"/f","operation":"delete","line":1,"pattern":"a"}`:                        "both line and pattern",
		`{"path":"/f","operation":"delete","start_line":3,"end_line":2}`:                   "before start_line",
		`{"path":"/f","operation":"delete","end_line":2,"line":1}`:                         "without start_line",
		`{"path":"/f","operation":"sed","old_text":"a"}`:                                   "send one of replace",
		`{"path":"/f","operation":"insert","line":0,"content":"a"}`:                        "at least 1",
		`{"path":"/f","old_text":"a","expect":"0123"}`:                                     "no SHA-256",
		`{"path":"","old_text":"a"}`:                                                       "is empty",
		`{"path":"~/f","old_text":"a"}`:                                                    "begins with ~",
		`{"path":"/f\u0000","old_text":"a"}`:                                               "null character",
		`{"path":"/` + strings.Repeat("d/", 2048) + `","old_text":"a"}`:                    "4097 bytes",
		`{"path":"/f","old_text":"a","operation":"replace","content":"x","target":"web1"}`: "no use for content",
	} {
		var bad *tool.ArgumentError
		if _, err := editFile().Plan(json.RawMessage(args)); !errors.As(err, &bad) || !strings.Contains(bad.Error(), says) {
			t.Errorf("%.80s: %v, want %q", args, err, says)
		}
	}
}

// host answers steps as a host would on which there is one file.
type host struct {
	facts   tool.FileFacts
	content string
}

func (h *host) do(do tool.Do) (any, *tool.Failure) {
	switch do := do.(type) {
	case tool.Locate:
		if !h.facts.Exists && !do.Missing {
			return nil, &tool.Failure{Code: tool.FailNotFound, Message: "no such file"}
		}
		return h.facts, nil
	case tool.Read:
		return tool.FileContent{Bytes: []byte(h.content), Size: int64(len(h.content)), Digest: digestOf([]byte(h.content))}, nil
	case tool.Write:
		created := !h.facts.Exists
		h.content = string(do.Content)
		return tool.Written{Path: do.Path, Bytes: int64(len(do.Content)), Digest: digestOf(do.Content), Created: created, Mode: "0644"}, nil
	}
	return nil, &tool.Failure{Code: tool.FailInternal, Message: "no such step"}
}

// resultOf is what a call tells of a run.
func resultOf(t *testing.T, def *tool.Tool, args string, run tool.Run) tool.Result {
	t.Helper()
	plan, err := def.Plan(json.RawMessage(args))
	if err != nil {
		t.Fatal(err)
	}
	return plan.Result([]tool.Run{run})
}

// follow takes a call from plan to plan, as the walk does.
func follow(t *testing.T, def *tool.Tool, args string, h *host) (tool.Result, []tool.Op) {
	t.Helper()
	plan, err := def.Plan(json.RawMessage(args))
	if err != nil {
		t.Fatal(err)
	}
	first := plan
	var ops []tool.Op
	var before *tool.Run
	for {
		ops = append(ops, plan.Ops()...)
		v, failure := h.do(plan.Steps[0].Do)
		run := tool.Run{Plan: plan, Decision: tool.Decision{Allow: true}, Target: tool.Target{Alias: "web1"}, Before: before}
		run.Report = &tool.Report{Outcome: tool.Finished, Err: failure, Outputs: []tool.Output{{Answer: v}}}
		if failure == nil && plan.Next != nil {
			next, wrong := plan.Next(run.Report.Outputs)
			if next != nil {
				plan, before = *next, &run
				continue
			}
			run.Report.Err = wrong
		}
		return first.Result([]tool.Run{run}), ops
	}
}

func regular(path string) tool.FileFacts {
	return tool.FileFacts{Path: path, Under: tool.Under(path), Exists: true, Type: tool.RegularFile, Mode: "0644"}
}

// The path is judged as it was written, and then what is done by its real one.
func TestFileToolsGoOnByTheRealPath(t *testing.T) {
	for _, test := range []struct {
		def     *tool.Tool
		args    string
		actions []tool.Action
	}{
		{readFile(), `{"target":"web1","path":"/srv/link"}`, []tool.Action{tool.FileRead, tool.FileRead}},
		{writeFile(), `{"target":"web1","path":"/srv/link","content":"x"}`, []tool.Action{tool.FileWrite, tool.FileWrite}},
		{editFile(), `{"target":"web1","path":"/srv/link","old_text":"a","new_text":"b"}`, []tool.Action{tool.FileWrite, tool.FileRead, tool.FileWrite}},
		{editFile(), `{"target":"web1","path":"/srv/link","old_text":"a","new_text":"b","preview":true}`, []tool.Action{tool.FileRead, tool.FileRead}},
		{validateFile(), `{"target":"web1","path":"/srv/link","type":"env"}`, []tool.Action{tool.FileRead, tool.FileRead}},
	} {
		h := &host{facts: regular("/etc/real"), content: "a=1\n"}
		res, ops := follow(t, test.def, test.args, h)
		if res.Failed() {
			t.Errorf("%s: %s", test.def.Name, res.Text())
		}
		var actions []tool.Action
		for i, op := range ops {
			actions = append(actions, op.Action)
			if op.Path != "/srv/link" || (op.File == nil) != (i == 0) || op.File != nil && op.File.Path != "/etc/real" {
				t.Errorf("%s: op %d is about %q, file %+v", test.def.Name, i, op.Path, op.File)
			}
		}
		if d := cmp.Diff(test.actions, actions); d != "" {
			t.Errorf("%s: %s", test.def.Name, d)
		}
	}
}

func TestEdit(t *testing.T) {
	h := &host{facts: regular("/srv/a.json"), content: "{\n  \"a\": 1\n}\n"}
	res, ops := follow(t, editFile(), `{"target":"web1","path":"/srv/a.json","old_text":": 1","new_text":": 2"}`, h)
	got := res.(editResult)
	if !got.Changed || got.Matches != 1 || got.Before == got.Digest || got.Syntax != "json" || !strings.Contains(got.Diff, "-  \"a\": 1\n+  \"a\": 2\n") {
		t.Errorf("%+v", got)
	}
	if write := ops[2]; write.Content == nil || write.Content.Digest != digestOf([]byte(h.content)) {
		t.Errorf("what would be written is not in the op: %+v", write.Content)
	}

	res, _ = follow(t, editFile(), `{"target":"web1","path":"/srv/a.json","old_text":": 2","new_text":": 2"}`, h)
	if got = res.(editResult); got.Changed || got.Failed() || !strings.Contains(got.Text(), "like that already") {
		t.Errorf("a change to the same: %+v", got)
	}
	was := h.content
	res, _ = follow(t, editFile(), `{"target":"web1","path":"/srv/a.json","old_text":": 2","new_text":": "}`, h)
	if got = res.(editResult); !got.Failed() || got.Error.Code != "edit_syntax" || !strings.Contains(got.Error.Message, "line 3") || h.content != was {
		t.Errorf("a change that breaks the file: %+v", got)
	}
	res, _ = follow(t, editFile(), `{"target":"web1","path":"/srv/a.json","old_text":": 2","new_text":": ","preview":true,"skip_validate":true}`, h)
	if got = res.(editResult); got.Failed() || got.Changed || !got.Preview || got.Diff == "" || h.content != was {
		t.Errorf("a preview: %+v", got)
	}
	res, _ = follow(t, editFile(), `{"target":"web1","path":"/srv/a.json","old_text":": 2","new_text":": 3","expect":"`+strings.Repeat("0", 64)+`"}`, h)
	if got = res.(editResult); !got.Failed() || got.Error.Code != "not_as_expected" || h.content != was {
		t.Errorf("a file that is not as expected: %+v", got)
	}
}

// A file that was broken may be changed, and whoever does is told that it still is.
func TestEditSaysWhatIsStillBroken(t *testing.T) {
	for args, says := range map[string]string{
		`"old_text":"a","new_text":"b"`:                "is none now: line 1",
		`"old_text":"a","new_text":"b","preview":true`: "is none now: line 1",
		`"old_text":"}","new_text":"1}"`:               "well-formed json",
	} {
		h := &host{facts: regular("/srv/a.json"), content: `{"a":}` + "\n"}
		res, _ := follow(t, editFile(), `{"target":"web1","path":"/srv/a.json",`+args+`}`, h)
		if got := res.(editResult); got.Failed() || !strings.Contains(got.Text(), says) {
			t.Errorf("%s: %s, want %q", args, got.Text(), says)
		}
	}
}

// The mode is that of a new file, so whoever sends one for an old file is told.
func TestWriteSaysThatTheModeStays(t *testing.T) {
	written := tool.Written{Path: "/a", Mode: "0644"}
	run := tool.Run{Decision: tool.Decision{Allow: true}, Report: &tool.Report{Outputs: []tool.Output{{Answer: written}}}}
	for mode, told := range map[string]bool{"0600": true, "644": false, "0644": false} {
		r := resultOf(t, writeFile(), `{"path":"/a","content":"","mode":"`+mode+`"}`, run).(writeResult)
		if strings.Contains(r.Text(), "still 0644") != told {
			t.Errorf("%s: %s", mode, r.Text())
		}
	}
}

// A copy that cannot be made is told with the host on which it cannot.
func TestSyncNamesTheEnd(t *testing.T) {
	plan, err := syncFile().Plan(json.RawMessage(`{"source_node":"web1","source_path":"/a","dest_node":"web2","dest_path":"/a"}`))
	if err != nil {
		t.Fatal(err)
	}
	directory := regular("/a")
	directory.Type = tool.Directory
	_, failure := plan.Next([]tool.Output{{Answer: regular("/a")}, {Answer: directory}})
	if failure == nil || failure.Message != "/a on web2 is a directory" {
		t.Errorf("got %+v", failure)
	}
}

func TestEditOfWhatIsNotThere(t *testing.T) {
	missing := tool.FileFacts{Path: "/srv/new", Under: tool.Under("/srv/new")}
	h := &host{facts: missing}
	res, _ := follow(t, editFile(), `{"target":"web1","path":"/srv/new","operation":"append","content":"x"}`, h)
	if got := res.(editResult); got.Failed() || !got.Created || h.content != "x\n" {
		t.Errorf("append makes no file: %+v", got)
	}
	h = &host{facts: missing}
	res, ops := follow(t, editFile(), `{"target":"web1","path":"/srv/new","operation":"append","content":"x","preview":true}`, h)
	if got := res.(editResult); got.Failed() || got.Created || !strings.Contains(got.Text(), "+x") || h.content != "" || ops[0].Action != tool.FileRead {
		t.Errorf("a preview of a new file: %+v", got)
	}
	res, _ = follow(t, editFile(), `{"target":"web1","path":"/srv/new","operation":"prepend","content":"x"}`, &host{facts: missing})
	if got := res.(editResult); !got.Failed() || got.Error.Code != "not_found" {
		t.Errorf("prepend: %+v", got)
	}
}

func TestWriteChecksWhatItWrites(t *testing.T) {
	for args, says := range map[string]string{
		`{"path":"/a.json","content":"{"}`:                 "no well-formed json, so nothing was written: line 1",
		`{"path":"/a.yml","content":"a: 1\na: 2\n"}`:       "line 2",
		`{"path":"/a","content":"%%","encoding":"base64"}`: "not base64",
		`{"path":"/a","content":"","mode":"rw"}`:           "octal",
		`{"path":"/a","content":"","mode":"000"}`:          "octal",
		`{"path":"/a","content":"","expect":"x"}`:          "SHA-256",
		`{"path":"/a"}`:                                         `"content" is required`,
		`{"path":"/a","content":"\ud800"}`:                      "surrogate",
		`{"path":"/a","content":"x","encoding":"utf-16"}`:       "send one of text",
		`{"path":"/a","content":"x","target":"web1; reboot #"}`: "the character",
	} {
		if _, err := writeFile().Plan(json.RawMessage(args)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", args, err, says)
		}
	}
	for _, args := range []string{
		`{"path":"/etc/nginx/nginx.conf","content":"events {\n}\n"}`,
		`{"path":"/a.json","content":"{","skip_validate":true}`,
		`{"path":"/a","content":""}`,
	} {
		if _, err := writeFile().Plan(json.RawMessage(args)); err != nil {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestReadShowsTextOrBase64(t *testing.T) {
	show := func(args string, c tool.FileContent) readResult {
		run := tool.Run{Decision: tool.Decision{Allow: true}, Report: &tool.Report{Outputs: []tool.Output{{Answer: c}}}}
		return resultOf(t, readFile(), args, run).(readResult)
	}
	if r := show(`{"path":"/a"}`, tool.FileContent{Bytes: []byte("a€"), Size: 4}); r.Content != "a€" || r.Encoding != "text" || r.Next != 4 || r.More {
		t.Errorf("%+v", r)
	}
	// A character that is cut in two comes with the next read.
	if r := show(`{"path":"/a"}`, tool.FileContent{Bytes: []byte("a€")[:3], Size: 9, More: true}); r.Content != "a" || r.Next != 1 || !r.More {
		t.Errorf("%+v", r)
	}
	if r := show(`{"path":"/a"}`, tool.FileContent{Bytes: []byte{0xff, 'a'}, Size: 2}); r.Encoding != "base64" || r.Content != "/2E=" {
		t.Errorf("%+v", r)
	}
	if r := show(`{"path":"/a"}`, tool.FileContent{Bytes: []byte{0xff, 'a'}, Size: 2}); r.Text() != "/2E=\n[base64]" {
		t.Errorf("text of what is none: %q", r.Text())
	}
	if r := show(`{"path":"/proc/x"}`, tool.FileContent{Bytes: []byte("ab"), More: true}); r.Text() != "ab\n[bytes 0 to 2; go on with offset 2]" {
		t.Errorf("a file without a size: %q", r.Text())
	}
	if r := show(`{"path":"/a","encoding":"base64","offset":7}`, tool.FileContent{Bytes: []byte("a€")[:3], Offset: 7, Size: 19, More: true}); r.Next != 10 || r.Bytes != 3 {
		t.Errorf("%+v", r)
	}
}

func TestListShowsAnyName(t *testing.T) {
	run := tool.Run{Decision: tool.Decision{Allow: true}, Report: &tool.Report{Outputs: []tool.Output{{Answer: tool.Listing{Total: 5, Entries: []tool.FileEntry{
		{Name: "a\nb", Type: tool.RegularFile, Mode: "4755"},
		{Name: "\xff", Type: tool.Directory, Mode: "1777"},
		{Name: "l", Type: tool.Symlink, Mode: "0777", Link: "/etc"},
	}}}}}}
	r := resultOf(t, listDir(), `{"path":"/d","offset":1}`, run).(listResult)
	if r.Entries[0].Name != "a\nb" || r.Entries[0].Permissions != "-rwsr-xr-x" || r.Entries[0].NameBase64 != "" {
		t.Errorf("%+v", r.Entries[0])
	}
	if r.Entries[1].NameBase64 != "/w==" || r.Entries[1].Permissions != "drwxrwxrwt" || r.Entries[1].Type != "dir" {
		t.Errorf("%+v", r.Entries[1])
	}
	for _, line := range []string{` "a\nb"` + "\n", " l -> /etc\n"} {
		if text := r.Text(); strings.Count(text, "\n") != 3 || !strings.Contains(text, line) {
			t.Errorf("no line of its own for each name, or not %q: %s", line, text)
		}
	}
	if !r.More || r.Next != 4 || r.Entries[2].LinkTarget != "/etc" {
		t.Errorf("%+v", r)
	}
}
