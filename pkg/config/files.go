package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// openBeneath opens a regular file below a directory, through no symbolic link:
// not the last component, nor one on the way, nor one that is put there while
// it looks. The directory itself may be one; that is the operator's choice.
func openBeneath(dir, rel string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { root.Close() }()
	parts := strings.Split(filepath.ToSlash(rel), "/")
	for _, part := range parts[:len(parts)-1] {
		next, err := enter(root, part)
		if err != nil {
			return nil, err
		}
		root.Close()
		root = next
	}
	return openRegular(root, parts[len(parts)-1])
}

func enter(root *os.Root, name string) (*os.Root, error) {
	seen, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if err := notLink(name, seen); err != nil {
		return nil, err
	}
	next, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	got, err := next.Stat(".")
	if err == nil && !os.SameFile(seen, got) {
		err = errSwapped(name)
	}
	if err != nil {
		next.Close()
		return nil, err
	}
	return next, nil
}

// openRegular does not wait for a named pipe that was put there meanwhile.
func openRegular(root *os.Root, name string) (*os.File, error) {
	seen, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if err := notLink(name, seen); err != nil {
		return nil, err
	}
	if !seen.Mode().IsRegular() {
		return nil, faultf("put a file there", "%s is not a regular file", name)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	got, err := f.Stat()
	if err == nil && !os.SameFile(seen, got) {
		err = errSwapped(name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func notLink(name string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSymlink != 0 {
		return faultf("put the file itself there", "%s is a symbolic link", name)
	}
	return nil
}

// cause is an error of a file without the call and the path.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

func errSwapped(name string) error {
	return faultf("try again", "%s was replaced while it was opened", name)
}

// readPrivate reads a file below a directory that nobody but its owner may
// read or write.
func readPrivate(dir, rel string, limit int64) ([]byte, error) {
	return readBeneath(dir, rel, limit, 0o077)
}

// readBeneath refuses a file with one of the mode bits set.
func readBeneath(dir, rel string, limit int64, forbidden fs.FileMode) ([]byte, error) {
	f, err := openBeneath(dir, rel)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, faultf("chmod go-rwx "+filepath.Join(dir, rel), "mode %04o is open to others", mode)
	}
	return readLimited(f, limit)
}
