package tools

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/pkg/syntax"
	"github.com/sallyport/sallyport/pkg/tool"
)

type writeArgs struct {
	place
	Content      string `json:"content" arg:"required,text,empty" doc:"what the file will hold"`
	Encoding     string `json:"encoding,omitempty" enum:"text,base64" doc:"of content; text if left out"`
	Mode         string `json:"mode,omitempty" doc:"permissions of a new file in octal digits, such as 0644"`
	Expect       string `json:"expect,omitempty" doc:"SHA-256 of what is replaced, or absent: otherwise nothing is written"`
	SkipValidate bool   `json:"skip_validate,omitempty" doc:"write it even if it is not well formed for its type"`
}

// bytes are what is written.
func (a writeArgs) bytes() ([]byte, error) {
	if a.Encoding != "base64" {
		return []byte(a.Content), nil
	}
	b, err := base64.StdEncoding.DecodeString(a.Content)
	if err != nil {
		return nil, &tool.ArgumentError{Argument: "content", Message: "argument \"content\" is not base64", Remedy: "send standard base64 with padding, or encoding text"}
	}
	return b, nil
}

func (a writeArgs) check() error {
	switch {
	case a.Mode != "" && (len(a.Mode) < 3 || len(a.Mode) > 4 || strings.Trim(a.Mode, "01234567") != "" || strings.Trim(a.Mode, "0") == ""):
		return &tool.ArgumentError{Argument: "mode", Message: fmt.Sprintf("argument \"mode\" is %q", a.Mode), Remedy: "send three or four octal digits, such as 0644"}
	case a.Expect != "" && a.Expect != tool.Absent && !isDigest(a.Expect):
		return &tool.ArgumentError{Argument: "expect", Message: "argument \"expect\" is no SHA-256", Remedy: "send the sha256 that read gave, or absent"}
	}
	return nil
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}

func writeFile() *tool.Tool {
	return tool.New(tool.Spec[writeArgs, writeResult]{
		Name: "write", Set: "files", Effect: tool.Change,
		Doc: "Write a file, wholly or not at all, if policy allows the path and where it leads. " +
			"Owner and mode of a file that is replaced are kept; directories are not made.",
		Plan:   writeArgs.plan,
		Format: func(a writeArgs, runs []tool.Run) writeResult { return writeOf(a, runs[0]) },
	})
}

func (a writeArgs) plan() (tool.Plan, error) {
	content, err := a.bytes()
	if err = errors.Join(err, a.check()); err != nil {
		return tool.Plan{}, firstOf(err)
	}
	if err := a.wellFormed(content); err != nil {
		return tool.Plan{}, err
	}
	body := &tool.Content{Bytes: int64(len(content)), Digest: digestOf(content)}
	return a.located(tool.FileWrite, func(op *tool.Op) { op.Content = body }, func(f tool.FileFacts, op tool.Op) (*tool.Plan, *tool.Failure) {
		if f.Exists {
			if wrong := notRegular(a.place, f); wrong != nil {
				return nil, wrong
			}
		}
		return a.then(op, tool.Write{Path: f.Path, Content: content, Mode: a.Mode, Expect: a.Expect}), nil
	}), nil
}

// firstOf is the first argument error of several.
func firstOf(err error) error {
	var bad *tool.ArgumentError
	if errors.As(err, &bad) {
		return bad
	}
	return err
}

func (a writeArgs) wellFormed(content []byte) error {
	problems := syntax.Check(syntax.Of(a.Path), string(content))
	if a.SkipValidate || len(problems) == 0 {
		return nil
	}
	return &tool.ArgumentError{
		Argument: "content",
		Message:  fmt.Sprintf("the content is no well-formed %s, so nothing was written: %s", syntax.Of(a.Path), sentences(problems)),
		Remedy:   "mend it, or set skip_validate",
	}
}

func sentences(problems []syntax.Problem) string {
	var list []string
	for _, p := range problems {
		if p.Line == 0 {
			list = append(list, p.Message)
		} else {
			list = append(list, fmt.Sprintf("line %d: %s", p.Line, p.Message))
		}
	}
	return strings.Join(list, "; ")
}

type writeResult struct {
	fileFacts
	Bytes    int64    `json:"bytes" doc:"that were written"`
	Digest   string   `json:"sha256,omitempty" doc:"of what is there now"`
	Created  bool     `json:"created" doc:"the file was not there before"`
	Mode     string   `json:"mode,omitempty"`
	Syntax   string   `json:"syntax,omitempty" doc:"type for which the content was found well formed"`
	Warnings []string `json:"warnings,omitempty"`
}

func writeOf(a writeArgs, r tool.Run) writeResult {
	res := writeResult{fileFacts: factsAbout(r, a.Path)}
	res.take(r)
	if a.Mode != "" && res.Mode != "" && !sameMode(a.Mode, res.Mode) {
		res.Warnings = append(res.Warnings, fmt.Sprintf("its mode is still %s: argument mode is for new files", res.Mode))
	}
	if !a.SkipValidate && !res.Failed() {
		res.Syntax = string(syntax.Of(a.Path))
	}
	return res
}

// sameMode: 644 is 0644.
func sameMode(a, b string) bool { return strings.TrimLeft(a, "0") == strings.TrimLeft(b, "0") }

func (r *writeResult) take(run tool.Run) {
	if w, ok := answer[tool.Written](run); ok {
		r.Path, r.Bytes, r.Digest, r.Created, r.Mode, r.Warnings = w.Path, w.Bytes, w.Digest, w.Created, w.Mode, w.Warnings
	}
}

func (r writeResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	text := fmt.Sprintf("%d bytes written to %s on %s, sha256 %s", r.Bytes, r.Path, r.Target, r.Digest)
	if r.Syntax != "" {
		text += "; well-formed " + r.Syntax
	}
	return strings.Join(append([]string{text}, r.Warnings...), "\n")
}

type validateArgs struct {
	place
	Type string `json:"type,omitempty" enum:"dockerfile,env,ini,json,toml,xml,yaml" doc:"told by the name if left out"`
}

func (a validateArgs) kind() syntax.Type { return cmp.Or(syntax.Type(a.Type), syntax.Of(a.Path)) }

func validateFile() *tool.Tool {
	return tool.New(tool.Spec[validateArgs, validateResult]{
		Name: "validate", Set: "files", Effect: tool.Observe,
		Doc: "Check whether a file is well formed: JSON, YAML, TOML, XML, INI, env or Dockerfile.",
		Plan: func(a validateArgs) (tool.Plan, error) {
			if a.kind() == "" {
				return tool.Plan{}, &tool.ArgumentError{Argument: "type", Message: "the name does not tell what type of file it is", Remedy: "send type"}
			}
			return a.located(tool.FileRead, nil, func(f tool.FileFacts, op tool.Op) (*tool.Plan, *tool.Failure) {
				if wrong := notRegular(a.place, f); wrong != nil {
					return nil, wrong
				}
				return a.then(op, tool.Read{Path: f.Path, Whole: true}), nil
			}), nil
		},
		Format: func(a validateArgs, runs []tool.Run) validateResult {
			res := validateResult{fileFacts: factsAbout(runs[0], a.Path), Type: string(a.kind())}
			if got, ok := answer[tool.FileContent](runs[0]); ok {
				res.Problems = syntax.Check(a.kind(), string(got.Bytes))
				res.Valid = len(res.Problems) == 0
			}
			return res
		},
	})
}

type validateResult struct {
	fileFacts
	Type     string           `json:"type"`
	Valid    bool             `json:"valid"`
	Problems []syntax.Problem `json:"problems,omitempty"`
}

func (r validateResult) Text() string {
	switch {
	case r.Failed():
		return r.Status.Text()
	case r.Valid:
		return fmt.Sprintf("%s is well-formed %s.", r.Path, r.Type)
	}
	return fmt.Sprintf("%s is no well-formed %s: %s", r.Path, r.Type, sentences(r.Problems))
}
