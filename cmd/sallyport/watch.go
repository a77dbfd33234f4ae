package main

import (
	"context"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/pkg/config"
)

// lookEvery is the time between two looks at the files of the configuration. A
// change is loaded once two looks have seen the same: editors and config maps
// write several files at once.
//
// We look, instead of being told by the system, because the logs usually lie in
// the same directory: it would tell of every record, in the middle of a call. A
// look also sees what a mount from elsewhere tells nobody.
const lookEvery = 500 * time.Millisecond

// reloadOnChange loads the configuration again at SIGHUP and when one of its
// files changes, until ctx is done.
func (s *stack) reloadOnChange(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	// Loading takes twice the memory that it leaves in use.
	debug.FreeOSMemory()
	last, changed := s.seen, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			last, changed = look(s.filesRead()), false
			s.reloadFor(ctx, "SIGHUP")
		case <-tick.C:
			next := look(s.filesRead())
			switch {
			case !slices.EqualFunc(last, next, sight.same):
				last, changed = next, true
			case changed:
				changed = false
				s.reloadFor(ctx, "file change")
			}
		}
	}
}

// reloadFor reloads; how it went is in the log and in the audit stream.
func (s *stack) reloadFor(ctx context.Context, why string) { _, _ = s.gateway.Reload(ctx, why) }

// filesRead are the files and directories that the configuration is read from.
func (s *stack) filesRead() []string {
	conf := s.config.Load()
	return slices.Concat(conf.Files(), conf.KnownHosts(), bundlePaths(conf))
}

// bundlePaths are where the bundles are that do not come with the program.
func bundlePaths(conf *config.Config) []string {
	paths := slices.Clone(conf.Settings.Policy.Custom)
	if main := conf.Settings.Policy.Bundle; main != "" {
		paths = append(paths, main)
	}
	for _, b := range conf.Settings.Policy.Bundles {
		if b.Path != "" {
			paths = append(paths, b.Path)
		}
	}
	return paths
}

// sight is a file as it was when it was looked at.
type sight struct {
	path string
	info fs.FileInfo
}

func (a sight) same(b sight) bool {
	return a.path == b.path && os.SameFile(a.info, b.info) &&
		a.info.Size() == b.info.Size() && a.info.ModTime().Equal(b.info.ModTime()) && a.info.Mode() == b.info.Mode()
}

// look looks at some files, at directories and all that is in them. Of a link it
// sees what it leads to. What is not there is not seen.
func look(paths []string) []sight {
	var all []sight
	for _, path := range paths {
		_ = filepath.WalkDir(path, func(path string, _ fs.DirEntry, _ error) error {
			if info, err := os.Stat(path); err == nil {
				all = append(all, sight{path, info})
			}
			return nil
		})
	}
	return all
}
