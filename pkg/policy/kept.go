package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// archives are where the bundles of servers are kept that decided last, to start from
// when a server is away. Its index changes in one step, so that what it names
// decided together. What comes from here is verified and goes through the gate
// as if it came from the server.
type archives struct {
	dir   string // empty: nothing is kept
	log   *slog.Logger
	index keptIndex
}

// keptIndex names the archives, by the names of bundles.
type keptIndex struct {
	Bundles map[string]keptBundle `json:"bundles"`
}

// keptBundle is a bundle that decided.
type keptBundle struct {
	File     string `json:"file,omitempty"` // empty: it is not to be kept
	From     string `json:"from"`
	ETag     string `json:"etag,omitempty"`
	Revision string `json:"revision"`
	Serial   int64  `json:"serial"` // none before it is taken any more
}

const keptIndexFile = "index.json"

// load is what was kept of the sources, as far as it still comes from where they
// are.
func (k *archives) load(sources []Source) map[string]*fetched {
	found := map[string]*fetched{}
	if k.dir == "" || len(sources) == 0 {
		return found
	}
	text, err := os.ReadFile(filepath.Join(k.dir, keptIndexFile))
	if err == nil {
		err = json.Unmarshal(text, &k.index)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.log.Error("kept bundles cannot be read; the servers are asked", "dir", k.dir, "problem", err)
	}
	for _, s := range sources {
		b, there := k.index.Bundles[s.Name]
		if !there || b.File == "" || b.From != s.where() || !s.Persist {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(k.dir, filepath.Base(b.File)))
		if err != nil {
			k.log.Error("kept bundle cannot be read; the server is asked", "bundle", s.Name, "problem", err)
			continue
		}
		f := newFetched(raw, b.ETag)
		f.restored = true
		found[s.Name] = f
	}
	return found
}

// notOlder refuses a bundle that was released before the one that decided last,
// in this run or in one before.
func (k *archives) notOlder(name string, b *bundle.Bundle) error {
	if f := older(b, k.index.Bundles[name].Serial); f != nil {
		return Faults{*f}
	}
	return nil
}

// save keeps what decides. The index is written last, and what it does not name
// any more is removed.
func (k *archives) save(sources []Source, remote map[string]*fetched, bundles map[string]*bundle.Bundle) error {
	next := keptIndex{map[string]keptBundle{}}
	maps.Copy(next.Bundles, k.index.Bundles) // another configuration's, for the serials
	var err error
	for _, s := range sources {
		f, m := remote[s.Name], bundles[s.Name].Manifest
		b := keptBundle{From: s.where(), ETag: f.etag, Revision: m.Revision, Serial: serial(m.Metadata)}
		if k.dir != "" && s.Persist {
			b.File = f.digest + ".tar.gz"
			err = errors.Join(err, k.write(b.File, f.raw))
		}
		next.Bundles[s.Name] = b
	}
	k.index = next
	if k.dir == "" || err != nil {
		return err
	}
	text, err := json.MarshalIndent(next, "", "  ")
	if err == nil {
		err = k.write(keptIndexFile, append(text, '\n'))
	}
	if err == nil {
		k.tidy()
	}
	return err
}

// write makes a file that is whole or not there.
func (k *archives) write(name string, data []byte) error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(k.dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(k.dir, name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", filepath.Join(k.dir, name), err), os.Remove(f.Name()))
	}
	return syncDir(k.dir)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// tidy removes archives that nothing names. What cannot be removed stays.
func (k *archives) tidy() {
	named := map[string]bool{}
	for _, b := range k.index.Bundles {
		named[b.File] = true
	}
	files, _ := filepath.Glob(filepath.Join(k.dir, "*.tar.gz"))
	for _, path := range files {
		if !named[filepath.Base(path)] {
			_ = os.Remove(path)
		}
	}
}
