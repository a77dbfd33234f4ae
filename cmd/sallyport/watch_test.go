package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Every way in which a file comes to be another one is seen, and what happens
// beside it is not.
func TestLook(t *testing.T) {
	long := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tc := range map[string]struct {
		change func(dir string) error
		unseen bool
	}{
		"nothing": {func(string) error { return nil }, true},
		"a record beside it": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "audit.jsonl"), []byte("{}\n{}\n"), 0o600)
		}, true},
		"written in place": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "policy.yml"), []byte("two"), 0o600)
		}, false},
		"longer, of the same time": {func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "policy.yml"), []byte("three"), 0o600); err != nil {
				return err
			}
			return os.Chtimes(filepath.Join(dir, "policy.yml"), long, long)
		}, false},
		"another of the same size and time": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "spare.yml"), filepath.Join(dir, "policy.yml"))
		}, false},
		"taken away": {func(dir string) error { return os.Remove(filepath.Join(dir, "policy.yml")) }, false},
		"there at last": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "servers.yml"), nil, 0o600)
		}, false},
		"closed to us": {func(dir string) error { return os.Chmod(filepath.Join(dir, "policy.yml"), 0) }, false},
		"a link on the way": {func(dir string) error {
			if err := os.Symlink("later", filepath.Join(dir, "..new")); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data"))
		}, false},
		"new below a directory": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "bundle", "deep", "new.rego"), nil, 0o600)
		}, false},
		"changed below a directory": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "bundle", "deep", "old.rego"), []byte("two"), 0o600)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, d := range []string{"now", "later", "bundle/deep"} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range []string{"policy.yml", "spare.yml", "audit.jsonl", "now/map.yml", "later/map.yml", "bundle/deep/old.rego"} {
				f = filepath.Join(dir, f)
				if err := os.WriteFile(f, []byte("one"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(f, long, long); err != nil {
					t.Fatal(err)
				}
			}
			for to, from := range map[string]string{"now": "..data", "..data/map.yml": "credentials.yml"} {
				if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
					t.Fatal(err)
				}
			}
			paths := []string{}
			for _, p := range []string{"servers.yml", "credentials.yml", "policy.yml", "bundle"} {
				paths = append(paths, filepath.Join(dir, p))
			}
			before := look(paths)
			if err := tc.change(dir); err != nil {
				t.Fatal(err)
			}
			if unseen := slices.EqualFunc(before, look(paths), sight.same); unseen != tc.unseen {
				t.Errorf("unseen is %v", unseen)
			}
		})
	}
}
