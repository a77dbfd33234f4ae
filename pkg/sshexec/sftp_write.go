package sshexec

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	// temporary is what stands behind the name of a file in that of the one which
	// is to replace it, beside it.
	temporary = ".sallyport"
	// slots is how many names temporary files of one name may have.
	slots = 4
	// litterAge is how old a temporary file is that nobody works on any more.
	litterAge = time.Hour

	permissions = 0o777
	specialBits = 0o6000 // setuid and setgid
	private     = 0o600
)

// write puts content in the place of a file.
func (w *fileWork) write(do tool.Write, facts *tool.FileFacts) (any, error) {
	mode, err := modeOf(do.Mode)
	if err != nil {
		return nil, err
	}
	s, err := w.spot(do.Path)
	if err != nil {
		return nil, err
	}
	defer s.leave()
	if err := s.replaceable(do.Expect, facts); err != nil {
		return nil, err
	}
	if err := s.create(mode); err != nil {
		return nil, err
	}
	var sum [sha256.Size]byte
	var beside sync.WaitGroup
	beside.Go(s.clean)
	beside.Go(func() { sum = sha256.Sum256(do.Content) })
	err = w.pour(s.file, do.Content)
	beside.Wait()
	if err != nil {
		return nil, w.explain(err, do.Path)
	}
	if err := s.finish(mode, do.Expect, facts); err != nil {
		return nil, err
	}
	return tool.Written{
		Path: do.Path, Bytes: int64(len(do.Content)), Digest: hex.EncodeToString(sum[:]),
		Created: s.before == nil, Mode: s.mode, Warnings: s.warnings,
	}, nil
}

// modeOf reads a mode in octal digits; 0 for an empty one.
func modeOf(octal string) (uint32, error) {
	if octal == "" {
		return 0, nil
	}
	mode, err := strconv.ParseUint(octal, 8, 32)
	if err != nil || mode == 0 || mode > 0o7777 {
		return 0, fmt.Errorf("%q is not a mode in octal digits", octal)
	}
	return uint32(mode), nil
}

// spot is where a file is put: a name in a directory that is held open. The new
// file is made beside the old one and takes its name when it is whole.
type spot struct {
	*fileWork
	path, name string
	dir        *handle
	before     os.FileInfo // what is there; nil if nothing
	temp       string      // name of the new file, while it has one of its own
	file       *handle     // the new file
	made       uint64      // its inode; 0 if the host does not tell
	anew       bool        // a mode that is said counts also for a file that is replaced
	mode       string
	warnings   []string
}

// spot opens the directory of a judged path, and looks at what stands there.
func (w *fileWork) spot(name string) (*spot, error) {
	s := &spot{fileWork: w, path: name, name: path.Base(name)}
	var err error
	if s.dir, err = w.pin(path.Dir(name)); err != nil {
		return nil, err
	}
	if s.before, err = s.there(); err != nil {
		s.leave()
		return nil, err
	}
	return s, nil
}

// pin holds a directory open, so that it stays the judged one. Where descriptors
// cannot be seen there is nothing to hold on to.
func (w *fileWork) pin(name string) (*handle, error) {
	if !w.visible {
		real, err := w.real(name)
		if err == nil && real != name {
			err = w.moved(name)
		}
		if err != nil {
			return nil, w.explain(err, name)
		}
		return &handle{files: w.files, path: name, fd: -1}, w.directory(name)
	}
	h, err := w.at(name)
	if err == nil && h.kind != tool.Directory {
		h.close()
		return nil, w.wrong(tool.FailNotDirectory, name, "is not a directory", "check the path")
	}
	return h, err
}

// there is what stands at the spot now; nil if nothing does. Only a regular file
// can be replaced.
func (s *spot) there() (os.FileInfo, error) {
	info, err := s.client.Lstat(s.dir.below(s.name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, s.explain(err, s.path)
	}
	switch t := typeOf(info); t {
	case tool.RegularFile:
		return info, nil
	case tool.Directory:
		return nil, s.wrong(tool.FailNotFile, s.path, "is a directory", "name a file in it")
	case tool.Symlink:
		return nil, s.moved(s.path)
	default:
		return nil, s.special(s.path, t)
	}
}

// replaceable refuses to replace what the caller does not expect, or what a new file
// could not stand for.
func (s *spot) replaceable(expect string, facts *tool.FileFacts) error {
	switch {
	case facts != nil && facts.Exists != (s.before != nil):
		return s.moved(s.path)
	case s.before == nil && expect != "" && expect != tool.Absent:
		return s.wrong(tool.FailExpectation, s.path, "does not exist", "read it again before writing it")
	case s.before == nil:
		return nil
	case expect == tool.Absent:
		return s.exists()
	}
	p := s.known(facts)
	switch {
	case p.links > 1:
		return s.wrong(tool.FailHardLinked, s.path, fmt.Sprintf("has %d names, and the others would keep the old content", p.links), "write it by a command on the host, or remove its other names")
	case p.acl:
		return s.wrong(tool.FailAttributes, s.path, "has an access control list, which a new file would not have", "write it by a command on the host")
	case p.links == 0:
		s.warn("the host does not tell whether it had other names (hard links) or an access control list; a new file has neither")
	}
	return nil
}

func (s *spot) exists() error {
	return s.wrong(tool.FailExists, s.path, "exists", "read it, and say what is to be replaced")
}

// known is what is known of the old file beside its attributes.
func (s *spot) known(facts *tool.FileFacts) probe {
	if facts != nil && facts.Links > 0 {
		return probe{inode: facts.Inode, links: facts.Links, acl: facts.ACL}
	}
	return s.r.probe(s.ctx, s.path)
}

func (s *spot) warn(what string) { s.warnings = append(s.warnings, what) }

// create makes the new file beside the old one, under the first of a few names
// that is free, so that what a killed gateway has left is met again.
func (s *spot) create(mode uint32) error {
	first := mode
	if s.before != nil || mode != 0 {
		first = private // until it is whole
	}
	for slot := range slots {
		s.temp = s.slot(slot)
		if err := s.createAs(first); !s.taken(err) {
			return err
		}
	}
	s.temp = s.slot(0) + "-" + strings.ToLower(rand.Text())
	return s.createAs(first)
}

// slot is one of the names that a new file has at first.
func (s *spot) slot(n int) string {
	short := s.name[:min(len(s.name), maxName-len(temporary)-30)]
	name := "." + short + temporary
	if n > 0 {
		name += "-" + strconv.Itoa(n+1)
	}
	return name
}

func (s *spot) createAs(mode uint32) error {
	file, err := s.hold(openRequest{
		asked: s.dir.below(s.temp), real: path.Join(s.dir.path, s.temp), shown: s.path,
		flags: os.O_RDWR | os.O_CREATE | os.O_EXCL, mode: mode,
	})
	if err != nil {
		return err
	}
	s.file = file
	return nil
}

// taken reports whether the new file could not be made because there is one of
// that name.
func (s *spot) taken(err error) bool {
	if err == nil {
		return false
	}
	_, missing := s.client.Lstat(s.dir.below(s.temp))
	return missing == nil
}

// clean removes what earlier gateways have left here: files under the names of
// temporary ones, of the same owner as the new file and an hour older, by the
// host's own clock.
func (s *spot) clean() {
	for slot := range slots {
		if s.slot(slot) == s.temp {
			continue
		}
		old, err := s.client.Lstat(s.dir.below(s.slot(slot)))
		if err != nil {
			return
		}
		if typeOf(old) == tool.RegularFile && statOf(old).UID == statOf(s.file.info).UID && s.file.info.ModTime().Sub(old.ModTime()) > litterAge {
			_ = s.client.Remove(s.dir.below(s.slot(slot)))
		}
	}
}

// finish gives the new file, which is whole, the attributes of the old one and
// then its name.
func (s *spot) finish(mode uint32, expect string, facts *tool.FileFacts) error {
	if err := s.dress(mode); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil && !unsupported(err) {
		return s.explain(err, s.path)
	}
	if err := s.unchanged(expect, facts); err != nil {
		return err
	}
	if err := s.commit(s.rename); err != nil {
		return s.notRenamed(err)
	}
	s.temp = ""
	s.file.path = s.path
	var elsewhere *tool.Failure
	if errors.As(s.settled(), &elsewhere) {
		return s.wrong(tool.FailChanged, s.path, "was written, but at the same moment it or its directory was moved", "look where it is on the host")
	}
	return nil
}

// settled has the new name written to disk, and sees that the new file is where
// it was to be.
func (s *spot) settled() error {
	var beside sync.WaitGroup
	var dir, file error
	if s.dir.File != nil {
		beside.Go(func() { _ = s.dir.Sync() })
	}
	beside.Go(func() { dir = s.still(s.dir) })
	if s.before != nil { // a file that replaces none loses its first name, and then the kernel has none for it
		beside.Go(func() { file = s.still(s.file) })
	}
	beside.Wait()
	return cmp.Or(dir, file)
}

// dress gives the new file its owner and mode. Who may not give it the old owner
// leaves the old file alone. Content of somebody else's must not run with the
// rights of an owner who has not seen it, so the bits for that are not kept.
func (s *spot) dress(mode uint32) error {
	is := statOf(s.file.info)
	if s.before != nil {
		was := statOf(s.before)
		if !s.anew {
			mode = was.Mode & permissions
		}
		if was.Mode&specialBits != 0 {
			s.warn("its setuid and setgid bits were not kept")
		}
		if was.UID != is.UID || was.GID != is.GID {
			if err := s.file.Chown(int(was.UID), int(was.GID)); err != nil {
				return s.attributes(err, fmt.Sprintf("belongs to %d:%d, to whom a new file could not be given", was.UID, was.GID))
			}
		}
	}
	if mode == 0 && s.before == nil {
		mode = is.Mode & permissions
	} else if err := s.file.Chmod(os.FileMode(mode)); err != nil {
		return s.attributes(err, fmt.Sprintf("has mode %s, which a new file could not be given", octal(mode)))
	}
	s.mode = octal(mode)
	return nil
}

func (s *spot) attributes(err error, what string) error {
	if !answered(err) {
		return s.explain(err, s.path)
	}
	f := s.wrong(tool.FailAttributes, s.path, what, "write it with an account that owns it, or by a command on the host")
	f.Cause = err
	return f
}

// unchanged sees, at the last moment, that what is replaced is what was judged
// and expected.
func (s *spot) unchanged(expect string, facts *tool.FileFacts) error {
	var now os.FileInfo
	var dir, err error
	var beside sync.WaitGroup
	beside.Go(func() { dir = s.still(s.dir) })
	now, err = s.there()
	beside.Wait()
	switch {
	case dir != nil:
		return dir
	case err != nil:
		return err
	case now == nil && s.before == nil:
		return nil
	case now == nil:
		return s.moved(s.path)
	case s.before == nil:
		return s.exists()
	case statOf(now).Mode != statOf(s.before).Mode || statOf(now).UID != statOf(s.before).UID || statOf(now).GID != statOf(s.before).GID:
		return s.moved(s.path)
	}
	return s.asExpected(expect, facts)
}

// asExpected reads the old file if something is expected of it.
func (s *spot) asExpected(expect string, facts *tool.FileFacts) error {
	known := facts != nil && facts.Inode != 0
	if expect == "" && !known {
		return nil
	}
	h, err := s.hold(openRequest{asked: s.dir.below(s.name), real: s.path, flags: os.O_RDONLY})
	var f *tool.Failure
	if errors.As(err, &f) && f.Code == tool.FailPermission && expect == "" {
		return nil // who may not read a file may still replace it
	}
	if err != nil {
		return err
	}
	defer h.close()
	if err := s.regular(h, facts); err != nil || expect == "" {
		return err
	}
	digest, err := s.digest(h)
	if err != nil {
		return s.explain(err, s.path)
	}
	if digest != expect {
		return s.wrong(tool.FailExpectation, s.path, "has other content than expected, with SHA-256 "+digest, "read it again before writing it")
	}
	return nil
}

// rename gives the new file its name. Only where nothing was is a way taken that
// replaces nothing.
func (s *spot) rename() error {
	from, to := s.dir.below(s.temp), s.dir.below(s.name)
	if s.before != nil {
		return s.client.PosixRename(from, to)
	}
	if s.visible {
		return s.client.Rename(from, to)
	}
	if _, ok := s.client.HasExtension("hardlink@openssh.com"); !ok {
		return s.client.Rename(from, to)
	}
	err := s.client.Link(from, to)
	if err == nil {
		_ = s.client.Remove(from)
	}
	return err
}

// notRenamed says why the new file was not given its name.
func (s *spot) notRenamed(err error) error {
	switch {
	case unsupported(err):
		return s.wrong(tool.FailFile, s.path, "cannot be replaced in one step, says the host", "use an SFTP server with posix-rename, such as OpenSSH's")
	case !answered(err):
		return s.explain(err, s.path)
	}
	switch now, lookErr := s.there(); {
	case lookErr != nil:
		return lookErr
	case now != nil && s.before == nil:
		return s.exists()
	}
	return s.explain(err, s.path)
}

// leave closes what is open and removes what is not whole.
func (s *spot) leave() {
	if s.file != nil {
		s.file.close()
		if s.temp != "" && s.stage.Load() != workSent {
			_ = s.client.Remove(s.dir.below(s.temp))
		}
	}
	s.dir.close()
}
