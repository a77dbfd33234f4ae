package sshexec

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	// mostEntries and mostNames are how many names, and bytes of them and their
	// attributes, are taken from a directory. They are sorted before a page is
	// cut out, so all must be held for a moment.
	mostEntries = 100_000
	mostNames   = 64 << 20
	// entryBytes is what an entry counts beside its name against the job's limit.
	entryBytes = 64
)

// list reads a page of a directory.
func (w *fileWork) list(do tool.List) (any, error) {
	h, err := w.pin(do.Path)
	if err != nil {
		return nil, err
	}
	defer h.close()
	all, err := w.entries(h)
	if err != nil {
		return nil, err
	}
	page := all[min(do.Offset, len(all)):min(do.Offset+do.Most, len(all))]
	found := make([]tool.FileEntry, len(page))
	err = w.each(len(page), func(i int) error {
		found[i] = entryOf(page[i])
		if found[i].Type == tool.Symlink {
			found[i].Link, _ = w.client.ReadLink(h.below(found[i].Name))
		}
		return nil
	})
	return tool.Listing{Entries: within(found, w.most()), Total: len(all)}, err
}

// within cuts a page where the job's limit is.
func within(page []tool.FileEntry, most int64) []tool.FileEntry {
	for i, e := range page {
		if most -= entryBytes + int64(len(e.Name)+len(e.Link)); most < 0 && i > 0 {
			return page[:i]
		}
	}
	return page
}

// entries are the names in a directory that can be names, sorted.
func (w *fileWork) entries(h *handle) ([]os.FileInfo, error) {
	w.listing.Lock()
	defer w.listing.Unlock()
	ctx, enough := context.WithCancelCause(w.ctx)
	defer enough(nil)
	opened, closed := w.opensDirectory()
	defer closed()
	before := w.stream.names.Load()
	w.stream.hooks.Store(&hooks{opened: opened, named: func(n int64) {
		if n-before > mostNames {
			enough(errManyEntries)
		}
	}})
	all, err := w.client.ReadDirContext(ctx, h.below("."))
	w.stream.hooks.Store(nil)
	switch {
	case len(all) > mostEntries, errors.Is(context.Cause(ctx), errManyEntries):
		return nil, w.wrong(tool.FailTooLarge, h.path, fmt.Sprintf("has more than %d entries", mostEntries), "find what is wanted by a command on the host")
	case w.ctx.Err() != nil:
		return nil, w.ctx.Err()
	case err != nil:
		return nil, w.explain(err, h.path)
	}
	all = slices.DeleteFunc(all, func(i os.FileInfo) bool { return !isName(i.Name()) })
	slices.SortFunc(all, func(a, b os.FileInfo) int { return cmp.Compare(a.Name(), b.Name()) })
	return all, w.still(h)
}

var errManyEntries = errors.New("too many entries")

// isName reports whether a server's word for an entry can be one. Others could
// lead whoever puts it behind a path out of the directory.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}

func entryOf(i os.FileInfo) tool.FileEntry {
	s := statOf(i)
	e := tool.FileEntry{
		Name: i.Name(), Type: typeOf(i), Mode: octal(s.Mode), UID: int(s.UID), GID: int(s.GID),
		Modified: rfc3339(s.Mtime), Accessed: rfc3339(s.Atime),
	}
	if e.Type == tool.RegularFile {
		e.Bytes = int64(s.Size)
	}
	return e
}
