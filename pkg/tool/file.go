package tool

import (
	"path"
	"slices"
)

// A tool for files asks the host first where a path leads ([Locate]), and what
// it was told goes into a further plan that is judged anew. So policy sees the
// path as it was written before the host is asked, and the real path before any
// content moves.

// Locate resolves a path on the host, links and all. A Missing last component is
// an answer, not a failure. Its answer is [FileFacts].
type Locate struct {
	Path    string `json:"path"`
	Missing bool   `json:"missing,omitempty"`
}

// Read reads Length bytes from Offset of the regular file whose real path is
// Path, or as much as the limit of the job keeps. Its answer is [FileContent].
type Read struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset,omitempty"`
	Length int64  `json:"length,omitempty"` // 0: to the end
	// Whole: all of the file or nothing; one that is longer than the limit is a
	// failure.
	Whole bool `json:"whole,omitempty"`
}

// Write puts content in the place of the file whose real path is Path, wholly or
// not at all. Its answer is [Written].
type Write struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
	// Mode is for a new file, in octal digits; empty leaves it to the host. One
	// that is replaced keeps its mode and owner.
	Mode string `json:"mode,omitempty"`
	// Expect is the SHA-256 in hex of the content that is replaced, "absent" for
	// a file that must not be there yet; empty replaces whatever there is.
	Expect string `json:"expect,omitempty"`
}

// Absent is the digest of what is not there.
const Absent = "absent"

// List reads the names in the directory whose real path is Path, sorted by
// their bytes. Its answer is [Listing].
type List struct {
	Path   string `json:"path"`
	Offset int    `json:"offset,omitempty"` // entries to leave out
	Most   int    `json:"most"`             // entries to give
}

// Send is the half of a copy that reads, Receive the one that writes. They are in
// two plans, see [Plan.Onto]; the answer of both is [Copied].
type Send struct {
	Path string `json:"path"`
}

// Receive puts what is sent in the place of the file whose real path is Path,
// wholly or not at all, with the mode of the source.
type Receive struct {
	Path string `json:"path"`
}

func (Locate) do()  {}
func (Read) do()    {}
func (Write) do()   {}
func (List) do()    {}
func (Send) do()    {}
func (Receive) do() {}

// What can be wrong with a file.
const (
	FailNoSFTP       FailureCode = "no_sftp" // the host has no SFTP subsystem
	FailName         FailureCode = "name_invalid"
	FailNotFound     FailureCode = "not_found"  //
	FailExists       FailureCode = "exists"     // something is there that must not be replaced
	FailNotFile      FailureCode = "not_a_file" //
	FailNotDirectory FailureCode = "not_a_directory"
	FailSpecialFile  FailureCode = "special_file" // a device, a FIFO, a socket
	FailHardLinked   FailureCode = "hard_linked"  // it has other names, which a new file would not have
	FailAttributes   FailureCode = "attributes"   // an owner or an ACL that a new file could not be given
	FailPermission   FailureCode = "permission"   // the account on the host may not
	FailTooLarge     FailureCode = "too_large"    // longer than the limit
	FailNoSpace      FailureCode = "no_space"     //
	FailChanged      FailureCode = "changed"      // the path leads elsewhere than it did when it was judged
	FailExpectation  FailureCode = "not_as_expected"
	FailFile         FailureCode = "file" // the host gives no better reason
)

// FileType is what kind of thing a path leads to.
type FileType string

const (
	RegularFile FileType = "regular"
	Directory   FileType = "directory"
	Symlink     FileType = "link"
	FIFO        FileType = "fifo"
	Socket      FileType = "socket"
	Device      FileType = "device"
	OtherType   FileType = "other"
)

// FileFacts are what a host says of a path.
type FileFacts struct {
	Path     string   `json:"path"`     // where it leads, links resolved
	Under    []string `json:"under"`    // directories that this is at or below, "/" first and itself last
	Exists   bool     `json:"exists"`   // something is there
	Type     FileType `json:"type"`     // regular, directory, link, fifo, socket, device, other; empty when it does not exist
	Bytes    int64    `json:"bytes"`    // of a regular file
	Mode     string   `json:"mode"`     // permissions in octal digits: 0644, 4755
	UID      int      `json:"uid"`      // of the owner
	GID      int      `json:"gid"`      // of the group
	Modified string   `json:"modified"` // RFC 3339, UTC
	// Links counts the names that a regular file has; 0 when the host does not
	// tell.
	Links int `json:"links"`
	// ACL says that more rights hang on it than its mode tells.
	ACL bool `json:"acl"`
	// Inode is what the host knows it by, whatever its names are; 0 when it does
	// not tell. Who opens the path later can see whether it is the same still.
	Inode uint64 `json:"-"`
}

// FileContent is some of a file.
type FileContent struct {
	Bytes  []byte
	Offset int64
	Size   int64  // of the file when it was opened
	Digest string // SHA-256 in hex, when all of the file is here
	More   bool   // there was more behind these bytes
}

// Written is what became of a write.
type Written struct {
	Path     string
	Bytes    int64
	Digest   string // of what is there now
	Created  bool
	Mode     string
	Warnings []string // what the new file lacks that the old one had
}

// Listing is some of a directory.
type Listing struct {
	Entries []FileEntry
	Total   int // names in the directory
}

// FileEntry is a name in a directory. The name is as the host gave it, perhaps
// not UTF-8.
type FileEntry struct {
	Name     string
	Type     FileType
	Bytes    int64
	Mode     string
	UID, GID int
	Modified string
	Accessed string
	Link     string // where a link leads, as it is written there
}

// Copied is what became of a copy from one host to another.
type Copied struct {
	Bytes   int64
	Digest  string // SHA-256 in hex, the same at both ends
	Mode    string
	Created bool
	Resumed int64 // bytes that an earlier copy had left there
}

// Content is what would be written or given to a command, as policy sees it.
type Content struct {
	Bytes  int64  `json:"bytes"`  // how many
	Digest string `json:"digest"` // SHA-256 in hex
}

// Flow is the other end of a copy.
type Flow struct {
	Alias string `json:"alias"` // of the other host
	Path  string `json:"path"`  // there
	To    bool   `json:"to"`    // content goes there; otherwise it comes from there
}

// LocateFile is the step that asks where a path leads, with the meaning of what
// will be done there.
func LocateFile(a Action, name string) Step {
	return Step{Op: FileOp(a, name), Do: Locate{Path: name, Missing: a == FileWrite}}
}

// FileOp is what a path means before the host was asked where it leads.
func FileOp(a Action, name string) Op {
	op := file(a, name)
	op.Effect = a.Effect()
	return op
}

// At is an op with what the host said.
func (o Op) At(f FileFacts) Op {
	o.File = &f
	return o
}

// Under lists the directories that a clean absolute path is at or below: "/"
// first and itself last. It is nil for any other.
func Under(name string) []string {
	if !path.IsAbs(name) || path.Clean(name) != name {
		return nil
	}
	under := []string{"/"}
	for i := 1; i < len(name); i++ {
		if name[i] == '/' {
			under = append(under, name[:i])
		}
	}
	if name != "/" {
		under = append(under, name)
	}
	return under
}

// In is a plan in a working directory: relative paths begin there. Without one a
// relative path stays as it is, and nothing permits it.
func (p Plan) In(dir string) Plan {
	if dir == "" {
		return p
	}
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		p.Steps[i] = p.Steps[i].in(dir)
	}
	return p
}

func (s Step) in(dir string) Step {
	s.Op = s.Op.in(dir)
	switch do := s.Do.(type) {
	case Locate:
		if !path.IsAbs(do.Path) && do.Path != "" {
			do.Path = path.Join(dir, do.Path)
		}
		s.Do = do
	case Shell:
		doc := do.Command.In(dir)
		do.Command = &doc
		s.Op.Command, s.Do = &doc, do
	}
	return s
}

// in is an op whose file, if its path is relative, is named from a directory.
func (o Op) in(dir string) Op {
	if o.Place == "host" && o.Path != "" && !path.IsAbs(o.Path) {
		o.Path = path.Join(dir, o.Path)
		o.Under = Under(o.Path)
	}
	return o
}
