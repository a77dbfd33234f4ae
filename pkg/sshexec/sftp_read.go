package sshexec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sallyport/sallyport/pkg/tool"
)

// read reads some of a file, or of a device if it was judged as one.
func (w *fileWork) read(do tool.Read, facts *tool.FileFacts) (any, error) {
	device := facts != nil && facts.Type == tool.Device
	h, err := w.hold(openRequest{asked: do.Path, real: do.Path, flags: os.O_RDONLY, device: device})
	if err != nil {
		return nil, err
	}
	defer h.close()
	if err := w.regular(h, facts); err != nil {
		return nil, err
	}
	most := w.most()
	if do.Whole && h.info.Size() > most {
		return nil, w.tooLarge(do.Path, most)
	}
	c := tool.FileContent{Offset: do.Offset, Size: h.info.Size()}
	want := most
	if do.Length > 0 && !do.Whole {
		want = min(want, do.Length)
	}
	if c.Bytes, c.More, err = w.content(h, do.Offset, want, h.info.Size()); err != nil {
		return nil, w.explain(err, do.Path)
	}
	if do.Whole && c.More {
		return nil, w.tooLarge(do.Path, most)
	}
	if do.Offset == 0 && !c.More {
		sum := sha256.Sum256(c.Bytes)
		c.Digest = hex.EncodeToString(sum[:])
	}
	return c, nil
}

// most is how much of a file the job's limit lets into memory.
func (w *fileWork) most() int64 {
	if limit := w.r.job.Limits.OutputBytes; limit > 0 {
		return limit
	}
	return uncapped
}

func (w *fileWork) tooLarge(name string, most int64) error {
	return w.wrong(tool.FailTooLarge, name, fmt.Sprintf("is longer than %d bytes, which is the limit", most), "read ranges of it")
}

// regular sees that an open file is one with content, and the one that was
// judged if the host tells files apart.
func (w *fileWork) regular(h *handle, facts *tool.FileFacts) error {
	switch t := typeOf(h.info); {
	case t == tool.RegularFile, t == tool.Device && h.kind == t:
	case t == tool.Directory:
		return w.wrong(tool.FailNotFile, h.path, "is a directory", "list it")
	default:
		return w.special(h.path, t)
	}
	if facts == nil || facts.Inode == 0 {
		return nil
	}
	inode, err := w.inode(h)
	if err == nil && inode != 0 && inode != facts.Inode {
		err = w.moved(h.path)
	}
	return w.explain(err, h.path)
}

// inode is what the kernel says of an open file; 0 if it says nothing, as before
// Linux 5.14. Another name of a file that was not to be read has its inode.
func (w *fileWork) inode(h *handle) (uint64, error) {
	h.asked.Do(func() { h.inode, h.err = w.askInode(h) })
	return h.inode, h.err
}

func (w *fileWork) askInode(h *handle) (uint64, error) {
	if h.fd < 0 {
		return 0, nil
	}
	w.opening.Lock()
	defer w.opening.Unlock()
	f, err := w.client.Open(fmt.Sprintf("/proc/self/fdinfo/%d", h.fd))
	if err != nil {
		return 0, nil
	}
	defer f.Close()
	buf := make([]byte, 4<<10)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for line := range bytes.Lines(buf[:n]) {
		var inode uint64
		if _, err := fmt.Sscanf(string(line), "ino:%d", &inode); err == nil {
			return inode, nil
		}
	}
	return 0, nil
}

// content reads up to most bytes from an offset, and whether there is more.
func (w *fileWork) content(h *handle, offset, most, size int64) ([]byte, bool, error) {
	if size == 0 { // files in /proc do not tell theirs
		return w.unsized(h, offset, most)
	}
	b := make([]byte, max(0, min(most, size-offset)))
	n, err := w.fill(h, b, offset)
	return b[:n], offset+int64(n) < size && n == len(b), err
}

// unsized reads to the end, in order.
func (w *fileWork) unsized(h *handle, offset, most int64) ([]byte, bool, error) {
	var all bytes.Buffer
	buf := make([]byte, plainPacket)
	for int64(all.Len()) <= most && w.ctx.Err() == nil {
		n, err := h.ReadAt(buf, offset+int64(all.Len()))
		all.Write(buf[:n])
		w.bytes.Add(int64(n))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, false, err
		}
	}
	more := int64(all.Len()) > most
	return all.Bytes()[:min(int64(all.Len()), most)], more, w.ctx.Err()
}
