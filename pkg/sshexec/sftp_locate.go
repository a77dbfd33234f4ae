package sshexec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// probeLimit is how long a host may take to tell what SFTP does not.
const probeLimit = 3 * time.Second

// locate asks the host where a path leads, and what is there.
func (w *fileWork) locate(do tool.Locate) (any, error) {
	name := path.Clean(do.Path)
	probed := make(chan probe, 1)
	w.conn.spawn(func() { probed <- w.r.probe(w.ctx, name) })
	facts, err := w.resolve(name)
	var f *tool.Failure
	if do.Missing && errors.As(err, &f) && f.Code == tool.FailNotFound {
		return nil, w.nowhere(name)
	}
	if err != nil {
		return nil, err
	}
	if !facts.Exists && !do.Missing {
		return nil, w.explain(os.ErrNotExist, name)
	}
	if facts.Type == tool.RegularFile {
		p := <-probed
		facts.Links, facts.ACL, facts.Inode = p.links, p.acl, p.inode
	}
	return facts, nil
}

// resolve finds the real path of one that may lead through links, and what is
// there.
func (w *fileWork) resolve(name string) (tool.FileFacts, error) {
	real, err := w.real(name)
	if badName(err) { // a link a moment ago
		return tool.FileFacts{}, w.moved(name)
	}
	if err != nil {
		return tool.FileFacts{}, w.explain(err, name)
	}
	if w.r.judged(real) != nil {
		return tool.FileFacts{}, w.wrong(tool.FailName, name, "leads to a name that is not text", "rename it on the host")
	}
	facts, err := w.lstat(real)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return tool.FileFacts{Path: real, Under: tool.Under(real)}, w.directory(path.Dir(real))
	case err != nil:
		return facts, w.explain(err, real)
	case facts.Type == tool.Symlink:
		return facts, w.moved(name)
	}
	return facts, nil
}

// nowhere says why there can be no file at a path: that it is not there is no
// reason.
func (w *fileWork) nowhere(name string) error {
	dir := path.Dir(name)
	info, err := w.client.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return w.wrong(tool.FailNotFound, dir, "does not exist", "make the directory first, or name one that is there")
	case err != nil:
		return w.explain(err, dir)
	case typeOf(info) != tool.Directory:
		return w.wrong(tool.FailNotDirectory, dir, "is not a directory", "check the path")
	}
	return w.wrong(tool.FailNotFound, name, "is a link that leads nowhere", "name a file in a directory that is there")
}

// mostLinks is how many links a path may lead through, as with Linux.
const mostLinks = 40

// real resolves the links in a path, of which the last name need not exist.
// OpenSSH's server does that; others only clean the path, so there every name is
// looked at.
func (w *fileWork) real(name string) (string, error) {
	if w.visible {
		return w.client.RealPath(name)
	}
	done, rest, links := "/", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		next := path.Join(done, rest[0])
		rest = rest[1:]
		info, err := w.client.Lstat(next)
		switch {
		case errors.Is(err, os.ErrNotExist) && len(rest) == 0:
			return next, nil
		case err != nil:
			return "", err
		case typeOf(info) == tool.Symlink:
		case typeOf(info) != tool.Directory && len(rest) > 0:
			return "", os.ErrNotExist
		default:
			done = next
			continue
		}
		to, err := w.client.ReadLink(next)
		if err != nil {
			return "", err
		}
		if links++; links > mostLinks {
			return "", os.ErrNotExist // so says OpenSSH's server
		}
		if path.IsAbs(to) {
			done = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return done, nil
}

// directory refuses what is not one.
func (w *fileWork) directory(name string) error {
	facts, err := w.lstat(name)
	if err != nil {
		return w.explain(err, name)
	}
	if facts.Type != tool.Directory {
		return w.wrong(tool.FailNotDirectory, name, "is not a directory", "check the path")
	}
	return nil
}

// lstat looks at a path without following a link.
func (w *fileWork) lstat(name string) (tool.FileFacts, error) {
	info, err := w.client.Lstat(name)
	if err != nil {
		return tool.FileFacts{}, err
	}
	s := statOf(info)
	f := tool.FileFacts{
		Path: name, Under: tool.Under(name), Exists: true, Type: typeOf(info), Mode: octal(s.Mode),
		UID: int(s.UID), GID: int(s.GID), Modified: rfc3339(s.Mtime),
	}
	if f.Type == tool.RegularFile {
		f.Bytes = int64(s.Size)
	}
	return f, nil
}

func statOf(i os.FileInfo) *sftp.FileStat { return i.Sys().(*sftp.FileStat) }

// typeOf reads the type bits that Unix gives a mode.
func typeOf(i os.FileInfo) tool.FileType {
	t, ok := map[uint32]tool.FileType{
		0o100000: tool.RegularFile, 0o040000: tool.Directory, 0o120000: tool.Symlink,
		0o010000: tool.FIFO, 0o140000: tool.Socket, 0o060000: tool.Device, 0o020000: tool.Device,
	}[statOf(i).Mode&0o170000]
	if !ok {
		return tool.OtherType
	}
	return t
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }

func rfc3339(seconds uint32) string {
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}

// probe is what SFTP does not tell of a file. Zero is not told.
type probe struct {
	inode uint64
	links int
	acl   bool
}

// probe asks ls, which all hosts have.
func (r *run) probe(ctx context.Context, name string) probe {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	out, err := r.ask(ctx, "exec "+shell.Quote("ls", "-ldinL", "--", name))
	if err != nil {
		return probe{}
	}
	return parseProbe(out)
}

// ask runs a fixed line beside the job's steps and returns what it says. It is
// stopped when time is up, but nobody waits for that.
func (r *run) ask(ctx context.Context, line string) (string, error) {
	beside := &run{e: r.e, job: r.job, key: r.key, task: rand.Text()}
	s, err := beside.open(ctx, wantSession, command{
		line: shell.RemoteEnv([]string{"LC_ALL=C", taskVariable + "=" + beside.task}, line), limit: 16 << 10,
	})
	if err != nil {
		return "", err
	}
	defer s.release()
	select {
	case <-s.over:
		s.rest(ctx)
	case <-ctx.Done():
		s.conn.spawn(func() { beside.stop(s) })
		return "", ctx.Err()
	}
	if !s.hasExited() || s.exit.code != 0 || s.exit.signal != "" {
		return "", fmt.Errorf("ended badly: %s", printable(string(s.stderr.stream(false).Kept)))
	}
	return string(s.stdout.stream(false).Kept), nil
}

// listed is how a line of ls -ldin begins: inode, mode, a sign for an ACL, links,
// owner and group. What follows may be a name with anything in it.
var listed = regexp.MustCompile(`^ *([0-9]{1,20}) +-[-rwxsStT]{9}([.+@]?) +([0-9]{1,10}) +[0-9]+ +[0-9]+ `)

func parseProbe(said string) probe {
	m := listed.FindStringSubmatch(said)
	if m == nil {
		return probe{}
	}
	inode, _ := strconv.ParseUint(m[1], 10, 64)
	links, _ := strconv.Atoi(m[3])
	return probe{inode: inode, links: links, acl: strings.Contains(m[2], "+")}
}
