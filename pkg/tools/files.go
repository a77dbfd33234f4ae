package tools

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"unicode/utf8"

	"github.com/sallyport/sallyport/pkg/tool"
)

// files are the tools for files on hosts. Each asks the host first where a path
// leads, and plans on from there.
func files() []*tool.Tool {
	return []*tool.Tool{readFile(), writeFile(), editFile(), validateFile(), listDir(), syncFile()}
}

// place is where a file is.
type place struct {
	Target string `json:"target,omitempty" arg:"max=200,connection" doc:"host alias, or that of an open connection; empty is your default connection"`
	Path   string `json:"path" arg:"required,path" doc:"absolute, or relative to the working directory of the connection"`
}

// named is the path for whoever may have several hosts in mind.
func (p place) named() string {
	if p.Target == "" {
		return p.Path
	}
	return p.Path + " on " + p.Target
}

func (p place) scope() tool.Scope { return tool.Scope{Alias: p.Target, Open: true} }

// located is a plan that finds out where a path leads, and then goes on with
// what next makes of that.
func (p place) located(a tool.Action, op func(*tool.Op), next func(tool.FileFacts, tool.Op) (*tool.Plan, *tool.Failure)) tool.Plan {
	step := tool.LocateFile(a, p.Path)
	if op != nil {
		op(&step.Op)
	}
	return tool.Plan{
		Scope: p.scope(), Steps: []tool.Step{step},
		Next: func(out []tool.Output) (*tool.Plan, *tool.Failure) {
			facts, failure := answered[tool.FileFacts](out)
			if failure != nil {
				return nil, failure
			}
			return next(facts, step.Op.At(facts))
		},
	}
}

// then is a plan of one step that follows on the same host.
func (p place) then(op tool.Op, do tool.Do) *tool.Plan {
	return &tool.Plan{Scope: p.scope(), Steps: []tool.Step{{Op: op, Do: do}}}
}

// answered is what a host said to the one step of a plan.
func answered[T any](out []tool.Output) (T, *tool.Failure) {
	if len(out) > 0 {
		if v, ok := out[0].Answer.(T); ok {
			return v, nil
		}
	}
	var none T
	return none, &tool.Failure{Code: tool.FailInternal, Message: "the host's answer is missing", Remedy: "report this"}
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// fileFacts is how every result about a file begins.
type fileFacts struct {
	tool.Status
	Target string `json:"target,omitempty"`
	Path   string `json:"path,omitempty" doc:"where the path leads, links resolved"`
}

// factsAbout is what is known of a file after the last of its runs. Its path is
// that of the latest step that was judged by its real one.
func factsAbout(r tool.Run, asked string) fileFacts {
	f := fileFacts{Status: tool.StatusOf(r), Target: called(r.Target), Path: asked}
	if len(r.Plan.Steps) > 0 && r.Plan.Steps[0].Op.File != nil {
		f.Path = r.Plan.Steps[0].Op.File.Path
	}
	return f
}

// notRegular says that there is no file at a path, or a directory. Whether it may
// be anything else is for policy to say.
func notRegular(p place, facts tool.FileFacts) *tool.Failure {
	switch {
	case !facts.Exists:
		return &tool.Failure{Code: tool.FailNotFound, Message: fmt.Sprintf("there is no %s", p.named()), Remedy: "list_dir shows what is in its directory"}
	case facts.Type == tool.Directory:
		return &tool.Failure{Code: tool.FailNotFile, Message: p.named() + " is a directory", Remedy: "use list_dir, or name a file in it"}
	}
	return nil
}

type readArgs struct {
	place
	Offset   int64  `json:"offset,omitempty" arg:"min=0" doc:"byte to begin at: 0, or next of the answer before"`
	Length   int64  `json:"length,omitempty" arg:"min=1" doc:"bytes to read; policy may allow less"`
	Encoding string `json:"encoding,omitempty" enum:"text,base64" doc:"of content; what is not UTF-8 comes as base64 in any case"`
}

func readFile() *tool.Tool {
	return tool.New(tool.Spec[readArgs, readResult]{
		Name: "read", Set: "files", Effect: tool.Observe,
		Doc: "Read a file, or some of it, if policy allows the path and where it leads. " +
			"While more is true, go on with next as offset.",
		Plan: func(a readArgs) (tool.Plan, error) {
			return a.located(tool.FileRead, nil, func(f tool.FileFacts, op tool.Op) (*tool.Plan, *tool.Failure) {
				if wrong := notRegular(a.place, f); wrong != nil {
					return nil, wrong
				}
				return a.then(op, tool.Read{Path: f.Path, Offset: a.Offset, Length: a.Length}), nil
			}), nil
		},
		Format: func(a readArgs, runs []tool.Run) readResult { return readOf(a, runs[0]) },
	})
}

type readResult struct {
	fileFacts
	Content  string `json:"content"`
	Encoding string `json:"encoding" enum:"text,base64"`
	Offset   int64  `json:"offset" doc:"of the first byte of content"`
	Bytes    int64  `json:"bytes" doc:"that content stands for"`
	Size     int64  `json:"size" doc:"of the file, as the host says; 0 for files in /proc"`
	More     bool   `json:"more" doc:"there is more behind"`
	Next     int64  `json:"next" doc:"offset to go on at"`
	Digest   string `json:"sha256,omitempty" doc:"of the whole file, when all of it is here"`
}

func readOf(a readArgs, r tool.Run) readResult {
	res := readResult{fileFacts: factsAbout(r, a.Path), Encoding: "text", Offset: a.Offset, Next: a.Offset}
	got, ok := answer[tool.FileContent](r)
	if !ok {
		return res
	}
	content := got.Bytes
	if a.Encoding != "base64" && got.More {
		content = wholeRunes(content)
	}
	res.Bytes, res.Size, res.Digest = int64(len(content)), got.Size, got.Digest
	res.Next = got.Offset + res.Bytes
	res.More = got.More
	if a.Encoding == "base64" || !utf8.Valid(content) {
		res.Encoding, res.Content = "base64", base64.StdEncoding.EncodeToString(content)
	} else {
		res.Content = string(content)
	}
	return res
}

// wholeRunes leaves out the beginning of a character at the end.
func wholeRunes(b []byte) []byte {
	for cut := 1; cut <= min(utf8.UTFMax-1, len(b)-1); cut++ {
		if tail := b[len(b)-cut:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return b[:len(b)-cut]
			}
			break
		}
	}
	return b
}

func (r readResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	text := r.Content
	if r.Encoding == "base64" {
		text += "\n[base64]"
	}
	if r.More {
		text += fmt.Sprintf("\n[bytes %d to %d%s; go on with offset %d]", r.Offset, r.Next, r.of(), r.Next)
	}
	return text
}

// of is the size of the file, unless the host says less than there is, as it does
// of files in /proc.
func (r readResult) of() string {
	if r.Size < r.Next {
		return ""
	}
	return fmt.Sprintf(" of %d", r.Size)
}
