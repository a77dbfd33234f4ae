package tools

import (
	"cmp"
	"fmt"

	"github.com/sallyport/sallyport/pkg/tool"
)

type syncArgs struct {
	SourceNode string `json:"source_node" arg:"required,max=200,connection" doc:"host alias or connection to read from"`
	SourcePath string `json:"source_path" arg:"required,path" doc:"file to read"`
	DestNode   string `json:"dest_node" arg:"required,max=200,connection" doc:"host alias or connection to write to"`
	DestPath   string `json:"dest_path" arg:"required,path" doc:"file to write, with its name; one that is there is replaced"`
}

func (a syncArgs) ends() (from, to place) {
	return place{a.SourceNode, a.SourcePath}, place{a.DestNode, a.DestPath}
}

func syncFile() *tool.Tool {
	return tool.New(tool.Spec[syncArgs, syncResult]{
		Name: "sync", Set: "files", Effect: tool.Change,
		Doc:    "Copy a file from one host to another, as a stream, with a checksum at both ends.",
		Plan:   syncArgs.plan,
		Format: func(a syncArgs, runs []tool.Run) syncResult { return syncOf(a, runs) },
	})
}

// plan finds both files, then has each half judged by where its path leads and
// where the content goes.
func (a syncArgs) plan() (tool.Plan, error) {
	from, to := a.ends()
	send, receive := tool.LocateFile(tool.FileRead, from.Path), tool.LocateFile(tool.FileWrite, to.Path)
	send.Op.Flow = &tool.Flow{Alias: to.Target, Path: to.Path, To: true}
	receive.Op.Flow = &tool.Flow{Alias: from.Target, Path: from.Path}
	return tool.Plan{
		Scope: from.scope(), Steps: []tool.Step{send},
		Onto: &tool.Plan{Scope: to.scope(), Steps: []tool.Step{receive}},
		Next: func(out []tool.Output) (*tool.Plan, *tool.Failure) {
			source, failure := answered[tool.FileFacts](out)
			if failure != nil || len(out) < 2 {
				return nil, cmp.Or(failure, &tool.Failure{Code: tool.FailInternal, Message: "the other host's answer is missing"})
			}
			dest, failure := answered[tool.FileFacts](out[1:])
			if failure != nil {
				return nil, failure
			}
			if wrong := cmp.Or(notRegular(from, source), busy(to, dest)); wrong != nil {
				return nil, wrong
			}
			return a.copy(send.Op.At(source), receive.Op.At(dest)), nil
		},
	}, nil
}

// busy says that something is in a file's place that is none.
func busy(p place, f tool.FileFacts) *tool.Failure {
	if !f.Exists {
		return nil
	}
	return notRegular(p, f)
}

func (a syncArgs) copy(send, receive tool.Op) *tool.Plan {
	from, to := a.ends()
	receive.Content = &tool.Content{Bytes: send.File.Bytes}
	plan := from.then(send, tool.Send{Path: send.File.Path})
	plan.Onto = to.then(receive, tool.Receive{Path: receive.File.Path})
	return plan
}

type syncResult struct {
	tool.Status
	Source   string `json:"source,omitempty" doc:"alias:path, links resolved"`
	Dest     string `json:"dest,omitempty" doc:"alias:path, links resolved"`
	Bytes    int64  `json:"bytes"`
	Digest   string `json:"sha256,omitempty" doc:"the same at both ends"`
	Mode     string `json:"mode,omitempty"`
	Created  bool   `json:"created" doc:"there was no such file before"`
	Resumed  int64  `json:"resumed,omitempty" doc:"bytes that an earlier copy had left there"`
	Duration int64  `json:"duration_ms"`
}

func syncOf(a syncArgs, runs []tool.Run) syncResult {
	from, to := runs[0], runs[1]
	res := syncResult{
		Status: tool.StatusOf(from),
		Source: a.SourceNode + ":" + factsAbout(from, a.SourcePath).Path,
		Dest:   a.DestNode + ":" + factsAbout(to, a.DestPath).Path,
	}
	if other := tool.StatusOf(to); !res.Failed() && other.Failed() {
		res.Status = other
	}
	if c, ok := answer[tool.Copied](from); ok {
		res.Bytes, res.Digest, res.Mode, res.Created, res.Resumed = c.Bytes, c.Digest, c.Mode, c.Created, c.Resumed
		res.Duration = from.Report.Duration.Milliseconds()
	}
	return res
}

func (r syncResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	return fmt.Sprintf("%d bytes copied from %s to %s, sha256 %s", r.Bytes, r.Source, r.Dest, r.Digest)
}
