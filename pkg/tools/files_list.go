package tools

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/sallyport/sallyport/pkg/tool"
)

type listArgs struct {
	place
	Offset int `json:"offset,omitempty" arg:"min=0" doc:"entries to leave out: 0, or next of the answer before"`
	Limit  int `json:"limit,omitempty" arg:"min=1,max=10000" doc:"entries to give; 1000 if left out"`
}

func listDir() *tool.Tool {
	return tool.New(tool.Spec[listArgs, listResult]{
		Name: "list_dir", Set: "files", Effect: tool.Observe,
		Doc: "List a directory, sorted by name, if policy allows the path and where it leads.",
		Plan: func(a listArgs) (tool.Plan, error) {
			return a.located(tool.FileList, nil, func(f tool.FileFacts, op tool.Op) (*tool.Plan, *tool.Failure) {
				switch {
				case !f.Exists:
					return nil, notRegular(a.place, f)
				case f.Type != tool.Directory:
					return nil, &tool.Failure{Code: tool.FailNotDirectory, Message: a.Path + " is no directory", Remedy: "use read, or name its directory"}
				}
				return a.then(op, tool.List{Path: f.Path, Offset: a.Offset, Most: cmp.Or(a.Limit, 1000)}), nil
			}), nil
		},
		Format: func(a listArgs, runs []tool.Run) listResult { return listOf(a, runs[0]) },
	})
}

type listResult struct {
	fileFacts
	Entries []entry `json:"entries"`
	Total   int     `json:"total" doc:"names in the directory"`
	More    bool    `json:"more"`
	Next    int     `json:"next" doc:"offset to go on at"`
}

// entry is a name in a directory.
type entry struct {
	Name        string `json:"name" doc:"what is not UTF-8 in it is replaced; then name_base64 has it"`
	NameBase64  string `json:"name_base64,omitempty" doc:"its bytes; paths are UTF-8, so no tool takes such a name until it is renamed"`
	Type        string `json:"type" enum:"file,dir,link,fifo,socket,device,other"`
	Size        int64  `json:"size"`
	Permissions string `json:"permissions" doc:"as ls shows them"`
	Mode        string `json:"mode" doc:"octal"`
	UID         int    `json:"uid"`
	GID         int    `json:"gid"`
	Modified    string `json:"modified"`
	Accessed    string `json:"accessed,omitempty"`
	LinkTarget  string `json:"link_target,omitempty" doc:"as it is written in the link"`
}

func listOf(a listArgs, r tool.Run) listResult {
	res := listResult{fileFacts: factsAbout(r, a.Path), Entries: []entry{}, Next: a.Offset}
	got, ok := answer[tool.Listing](r)
	if !ok {
		return res
	}
	for _, e := range got.Entries {
		res.Entries = append(res.Entries, newEntry(e))
	}
	res.Total, res.Next = got.Total, a.Offset+len(got.Entries)
	res.More = res.Next < res.Total
	return res
}

// shortTypes are the types of files as list_dir names them, with their letter in
// what ls shows.
var shortTypes = map[tool.FileType]struct {
	name   string
	letter byte
}{
	tool.RegularFile: {"file", '-'}, tool.Directory: {"dir", 'd'}, tool.Symlink: {"link", 'l'},
	tool.FIFO: {"fifo", 'p'}, tool.Socket: {"socket", 's'}, tool.Device: {"device", 'c'}, tool.OtherType: {"other", '?'},
}

func newEntry(e tool.FileEntry) entry {
	t, ok := shortTypes[e.Type]
	if !ok {
		t = shortTypes[tool.OtherType]
	}
	out := entry{
		Name: strings.ToValidUTF8(e.Name, "\uFFFD"), Type: t.name, Size: e.Bytes, Mode: e.Mode,
		Permissions: permissions(t.letter, e.Mode), UID: e.UID, GID: e.GID,
		Modified: e.Modified, Accessed: e.Accessed, LinkTarget: strings.ToValidUTF8(e.Link, "\uFFFD"),
	}
	if out.Name != e.Name {
		out.NameBase64 = base64.StdEncoding.EncodeToString([]byte(e.Name))
	}
	return out
}

// permissions writes octal digits as ls does: rwxr-sr-t.
func permissions(letter byte, octal string) string {
	var mode uint32
	for _, d := range octal {
		mode = mode<<3 | uint32(d-'0')
	}
	b := []byte{letter}
	for i := range 9 {
		if mode&(0o400>>i) != 0 {
			b = append(b, "rwxrwxrwx"[i])
		} else {
			b = append(b, '-')
		}
	}
	for i, bit := range []uint32{0o4000, 0o2000, 0o1000} {
		if at := 3 + 3*i; mode&bit != 0 {
			letters := "sst"
			if b[at] != 'x' {
				letters = "SST"
			}
			b[at] = letters[i]
		}
	}
	return string(b)
}

// oneLine quotes a name with anything in it that could pass for another line.
func oneLine(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

func (r listResult) Text() string {
	if r.Failed() {
		return r.Status.Text()
	}
	var b strings.Builder
	for _, e := range r.Entries {
		fmt.Fprintf(&b, "%s %5d %5d %10d %s %s", e.Permissions, e.UID, e.GID, e.Size, e.Modified, oneLine(e.Name))
		if e.LinkTarget != "" {
			fmt.Fprintf(&b, " -> %s", oneLine(e.LinkTarget))
		}
		b.WriteByte('\n')
	}
	if r.More {
		fmt.Fprintf(&b, "[%d of %d; go on with offset %d]", len(r.Entries), r.Total, r.Next)
	} else {
		fmt.Fprintf(&b, "[%d in all]", r.Total)
	}
	return b.String()
}
