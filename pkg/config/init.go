package config

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// initial is what Init writes.
//
//go:embed initial
var initial embed.FS

const (
	privateDir  = 0o700
	privateFile = 0o600
)

// Init writes a commented configuration that loads and works. It overwrites
// nothing: when one of its files exists, the error names it and nothing is
// written. Directories that exist are used as they are.
func Init(dir string) (written []string, err error) {
	files, err := initialFiles()
	if err != nil {
		return nil, err
	}
	return writeAll(dir, files)
}

// writeAll writes files into a directory and the directories beside them.
func writeAll(dir string, files map[string][]byte) (written []string, err error) {
	if dir == "" {
		return nil, errors.New("the name of the directory is empty; name one, such as ./sallyport")
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is a file; name a directory", dir)
	}
	if err := absent(dir, files); err != nil {
		return nil, err
	}
	for _, sub := range []string{"", "keys", "secrets"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), privateDir); err != nil {
			return nil, fmt.Errorf("%s cannot be made: %w (name a directory where this user may write)", dir, cause(err))
		}
	}
	for _, file := range sortedKeys(files) {
		path := filepath.Join(dir, file)
		if err := writeNew(path, files[file]); err != nil {
			return nil, errors.Join(err, remove(written))
		}
		written = append(written, path)
	}
	return written, nil
}

func initialFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(initial, "initial", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[strings.TrimPrefix(path, "initial/")], err = initial.ReadFile(path)
		return err
	})
	return files, err
}

// absent names every file that is there already.
func absent(dir string, files map[string][]byte) error {
	var there []string
	for _, file := range sortedKeys(files) {
		path := filepath.Join(dir, file)
		if _, err := os.Lstat(path); err == nil {
			there = append(there, path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s cannot be made: %w (name another)", dir, cause(err))
		}
	}
	if there == nil {
		return nil
	}
	return fmt.Errorf("%s: already there, and nothing is overwritten (name an empty directory)", strings.Join(there, ", "))
}

func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, privateFile)
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, cause(err))
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func remove(files []string) error {
	var errs []error
	for _, file := range files {
		errs = append(errs, os.Remove(file))
	}
	return errors.Join(errs...)
}
