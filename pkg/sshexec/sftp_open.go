package sshexec

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/sallyport/sallyport/pkg/tool"
)

// SFTP has no way to open a file without following links, so what a path led to
// when it was judged, and what it leads to when it is opened, can be two things.
// On Linux the server itself tells what it has opened: /proc/self/fd, which it
// may always read, has the kernel's own path of every descriptor. It does not
// tell which descriptor belongs to a handle, but its process works for us alone,
// one request after the other, and the kernel gives out the lowest descriptor
// that is free. So the next one is known before it is there: it is seen to be
// free, then a file is opened, then it is seen to lead to that path.
//
// A directory that was opened so stays what it is, whatever becomes of its
// name. What is done below /proc/self/fd/N is done in that directory.

// openLimit is how long the server may take to open a file. A FIFO that has taken
// its place keeps it waiting for ever, and with it everything on the session.
const openLimit = 5 * time.Second

// manyDescriptors is how many of the server's descriptors are looked at beyond
// those that are known.
const manyDescriptors = 16

// deleted is what Linux puts behind the path of something that has no name any
// more.
const deleted = " (deleted)"

// servers are the programs whose process serves one client: OpenSSH's.
var servers = []string{"sftp-server", "sshd", "sshd-session", "internal-sftp"}

// descriptors are those of the server's process.
type descriptors struct {
	opening sync.Mutex // held while one is opened or closed
	visible bool       // they can be seen
	pid     int        // of the process; 0 if it is not to be seen
	used    []bool     // as far as was seen, and changed by us; those behind are free
}

// see finds out whether descriptors can be seen, and which are in use.
func (d *descriptors) see(client *sftp.Client) {
	var asked sync.WaitGroup
	var program, process string
	asked.Go(func() { program, _ = client.ReadLink("/proc/self/exe") })
	asked.Go(func() { process, _ = client.ReadLink("/proc/self") })
	d.look(client)
	asked.Wait()
	program = strings.TrimSuffix(program, deleted) // by an upgrade
	if d.visible = slices.Contains(servers, path.Base(program)); d.visible {
		d.pid, _ = strconv.Atoi(process)
	}
}

// look finds out which descriptors are in use.
func (d *descriptors) look(client *sftp.Client) {
	d.used = make([]bool, len(d.used)+manyDescriptors)
	var asked sync.WaitGroup
	for fd := range d.used {
		asked.Go(func() {
			_, err := client.ReadLink(self(fd))
			d.used[fd] = !errors.Is(err, os.ErrNotExist)
		})
	}
	asked.Wait()
	last := len(d.used)
	for last > 0 && !d.used[last-1] {
		last--
	}
	d.used = d.used[:last]
}

// free is the descriptor that the server will open next; -1 if that is not to be
// seen.
func (d *descriptors) free() int {
	if !d.visible {
		return -1
	}
	if fd := slices.Index(d.used, false); fd >= 0 {
		return fd
	}
	return len(d.used)
}

// take notes that a descriptor is in use, or not any more.
func (d *descriptors) take(fd int, used bool) {
	if fd < 0 {
		return
	}
	for len(d.used) <= fd {
		d.used = append(d.used, false)
	}
	d.used[fd] = used
}

// self is the server's name for what it has open.
func self(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// handle is a file or a directory that the server holds open.
type handle struct {
	*sftp.File
	files *files
	path  string        // as it was judged
	fd    int           // in the server's process; -1 when that is not to be seen
	kind  tool.FileType // as it was before it was opened
	info  os.FileInfo   // as it was once it was open

	asked sync.Once // for its inode
	inode uint64
	err   error
}

// at opens what stands at a judged path, and nothing else: where the path leads
// elsewhere by now the failure is tool.FailChanged.
func (w *fileWork) at(name string) (*handle, error) {
	return w.hold(openRequest{asked: name, real: name, flags: os.O_RDONLY})
}

// openRequest is what the server is asked to open, and how.
type openRequest struct {
	asked string
	real  string // what the server's kernel must then call it
	shown string // what errors call it; empty for real
	flags int
	mode  uint32 // of a new file; 0 leaves it to the server

	device bool // it was judged as one, and may be one
}

func (o openRequest) creates() bool { return o.flags&os.O_EXCL != 0 }

func (w *fileWork) hold(o openRequest) (*handle, error) {
	w.opening.Lock()
	defer w.opening.Unlock()
	limit := time.AfterFunc(openLimit, func() {
		w.stuck.Store(&o.real)
		w.giveUp()
	})
	defer limit.Stop()
	h, err := w.try(o)
	if errors.Is(err, errElsewhere) {
		// The server may have opened something of its own: a socket to look names up.
		w.look(w.client)
		h, err = w.try(o)
	}
	if errors.Is(err, errElsewhere) {
		return nil, w.moved(o.real)
	}
	return h, err
}

// errElsewhere: the descriptor does not lead to the path that was opened.
var errElsewhere = errors.New("the descriptor leads elsewhere")

// try is one attempt of hold.
func (w *fileWork) try(o openRequest) (*handle, error) {
	h := &handle{files: w.files, path: o.real, fd: w.free()}
	if !o.creates() {
		if err := w.openable(o, h); err != nil {
			return nil, err
		}
	}
	w.stream.mode.Store(o.mode)
	var err error
	if h.File, err = w.client.OpenFile(o.asked, o.flags); err != nil {
		return nil, w.notOpened(o, err)
	}
	var unseen error
	var beside sync.WaitGroup
	beside.Go(func() { h.info, unseen = h.Stat() })
	err = w.verify(h)
	beside.Wait()
	if err = cmp.Or(err, w.explain(unseen, o.real)); err != nil {
		_ = h.File.Close()
		if o.creates() {
			_ = w.client.Remove(o.asked)
		}
		return nil, err
	}
	w.take(h.fd, true)
	return h, nil
}

// notOpened says why there is no descriptor. Who may write a file need not be let
// to make another one beside it.
func (w *fileWork) notOpened(o openRequest, err error) error {
	name := cmp.Or(o.shown, o.real)
	if o.creates() && errors.Is(err, os.ErrPermission) {
		return w.wrong(tool.FailPermission, path.Dir(name), "lets the account "+w.r.job.Target.User+" make no file in it, as it takes to write one wholly or not at all",
			"ask for rights to the directory on the host, or write to another one")
	}
	return w.explain(err, name)
}

// openable refuses what must not be opened: a FIFO would block the server, and a
// device may act, so it has to have been judged as one. It also sees that the
// descriptor is still free.
func (w *fileWork) openable(o openRequest, h *handle) error {
	var taken error = os.ErrNotExist
	var beside sync.WaitGroup
	if h.fd >= 0 {
		beside.Go(func() { _, taken = w.client.ReadLink(self(h.fd)) })
	}
	info, err := w.client.Lstat(o.asked)
	beside.Wait()
	if err != nil {
		return w.explain(err, h.path)
	}
	if !errors.Is(taken, os.ErrNotExist) {
		return errElsewhere
	}
	switch h.kind = typeOf(info); {
	case h.kind == tool.RegularFile, h.kind == tool.Directory, h.kind == tool.Device && o.device:
		return nil
	case h.kind == tool.Symlink:
		return w.moved(h.path)
	}
	return w.special(h.path, h.kind)
}

// verify sees that what was opened is what was judged.
func (w *fileWork) verify(h *handle) error {
	if h.fd < 0 {
		return w.compare(h)
	}
	real, err := w.client.ReadLink(self(h.fd))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errElsewhere
	case err != nil:
		return w.explain(err, h.path)
	case real != h.path || strings.HasSuffix(real, deleted):
		return errElsewhere
	}
	return nil
}

// compare is what is left without /proc: that the path still leads to itself,
// and to something like what was opened. What is being written to may need
// several looks.
func (w *fileWork) compare(h *handle) error {
	for range 3 {
		open, err := h.Stat()
		if err != nil {
			return w.explain(err, h.path)
		}
		real, err := w.real(h.path)
		if err != nil {
			return w.explain(err, h.path)
		}
		there, err := w.client.Lstat(h.path)
		if err != nil {
			return w.explain(err, h.path)
		}
		if real == h.path && alike(open, there) {
			return nil
		}
	}
	return w.moved(h.path)
}

// alike reports whether two looks may have been at the same file.
func alike(a, b os.FileInfo) bool {
	s, t := statOf(a), statOf(b)
	same := s.Mode == t.Mode && s.UID == t.UID && s.GID == t.GID
	return same && (a.IsDir() || s.Size == t.Size && s.Mtime == t.Mtime)
}

// opensDirectory makes room for the descriptor of a directory that pkg/sftp opens,
// reads and closes in one. It returns what is to be called when the server has
// opened it, so that others may open files meanwhile, and when it is closed.
func (f *files) opensDirectory() (opened, closed func()) {
	f.opening.Lock()
	fd := f.free()
	opened = sync.OnceFunc(func() {
		f.take(fd, true)
		f.opening.Unlock()
	})
	return opened, func() {
		opened()
		f.opening.Lock()
		f.take(fd, false)
		f.opening.Unlock()
	}
}

// below is the path by which the server reaches a name in a directory that it
// holds open.
func (h *handle) below(name string) string {
	if h.fd < 0 {
		return path.Join(h.path, name)
	}
	return self(h.fd) + "/" + name
}

// still sees that the path of an open file is what it was, as far as that is to be
// seen.
func (w *fileWork) still(h *handle) error {
	if h.fd < 0 {
		return nil
	}
	real, err := w.client.ReadLink(self(h.fd))
	if err == nil && real != h.path {
		err = w.moved(h.path)
	}
	return w.explain(err, h.path)
}

// close gives the descriptor back. Nobody waits for that, nor does the next one to
// open a file: the server does what it is asked in order, so the descriptor is free
// for all that is asked after this.
func (h *handle) close() {
	if h.File == nil {
		return
	}
	f := h.files
	f.conn.spawn(func() {
		f.opening.Lock()
		free := sync.OnceFunc(func() {
			f.take(h.fd, false)
			f.opening.Unlock()
		})
		f.stream.closing.Store(&free)
		_ = h.File.Close() // a descriptor that is not free after all is noticed
		free()
	})
}
