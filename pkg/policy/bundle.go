package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/sallyport/sallyport/policies"
)

// mainBundleName is the bundle with the entry point.
const mainBundleName = "sallyport"

// loadBundles reads the bundle that decides, the shipped one if main is empty,
// and the custom ones beside it. It goes on after one that cannot be read.
func loadBundles(main string, custom []string) (map[string]*bundle.Bundle, Faults) {
	bundles := map[string]*bundle.Bundle{}
	var faults Faults
	take := func(path, name string, b *bundle.Bundle, err error) {
		if err == nil {
			bundles[name] = b
		}
		for _, f := range faultsOf(err, "name a directory, or a .tar.gz that sallyport policy build or opa build wrote") {
			f.Bundle = path
			faults = append(faults, f)
		}
	}
	b, err := loadMain(main)
	take(main, mainBundleName, b, err)
	names := map[string]bool{mainBundleName: true, siteBundleName: true}
	for _, path := range custom {
		name := bundleName(path)
		if names[name] {
			faults = append(faults, Fault{
				Bundle: path, Message: fmt.Sprintf("another bundle is called %q", name), Remedy: "rename the directory or file",
			})
			continue
		}
		names[name] = true
		b, err := loadCustom(path, name)
		take(path, name, b, err)
	}
	return bundles, faults
}

func loadMain(path string) (*bundle.Bundle, error) {
	if path == "" {
		return read("", mainBundleName, bundle.NewFSLoaderWithRoot(policies.Files, "."))
	}
	return loadPath(path, mainBundleName)
}

// bundleName is the name under which decisions give a custom bundle's revision.
func bundleName(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".gz"), ".tar")
}

// loadCustom reads a bundle that adds to another. It may own only what nobody
// else decides with: packages below custom, and the log's mask and drop rules.
func loadCustom(path, name string) (*bundle.Bundle, error) {
	b, err := loadPath(path, name)
	if err == nil && isBare(path) {
		err = introduce(b, path)
	}
	if err != nil {
		return nil, err
	}
	for _, root := range *b.Manifest.Roots {
		if root != "custom" && !strings.HasPrefix(root, "custom/") && root != "system/log" {
			return nil, Faults{{
				Message: fmt.Sprintf("root %q is not its to own", root),
				Remedy:  "in its .manifest, roots may be custom, custom/... and system/log",
			}}
		}
	}
	return b, nil
}

func loadPath(path, name string) (*bundle.Bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return read(path, name, bundle.NewDirectoryLoader(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(path, name, bundle.NewTarballLoaderWithBaseURL(f, path))
}

// isBare says that a path is a directory without a .manifest.
func isBare(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = os.Stat(filepath.Join(path, ".manifest"))
	return errors.Is(err, fs.ErrNotExist)
}

// introduce gives a directory without a .manifest one: it owns what its packages
// and data are, and its revision is the digest of what is in it. So a team's
// first policy needs no more than a file.
func introduce(b *bundle.Bundle, path string) error {
	roots := map[string]bool{}
	sum := sha256.New()
	for _, m := range b.Modules {
		pkg := strings.TrimPrefix(m.Parsed.Package.Path.String(), "data.")
		root, owned := ownRoot(strings.Split(pkg, "."))
		if !owned {
			at := m.Parsed.Package.Loc()
			return Faults{{
				File: at.File, Line: at.Row, Column: at.Col,
				Message: "package " + pkg + ": only what is below custom counts", Remedy: "call it custom.team, for example",
			}}
		}
		roots[root] = true
		fmt.Fprintf(sum, "%s\x00%s\x00", strings.TrimPrefix(m.Path, path), m.Raw)
	}
	for top, below := range b.Data {
		names, _ := below.(map[string]any)
		for name := range names {
			root, owned := ownRoot([]string{top, name})
			if !owned {
				return Faults{{Message: "data " + top + ": only what is below custom counts", Remedy: "put it below custom.team, for example"}}
			}
			roots[root] = true
		}
	}
	data, err := json.Marshal(b.Data)
	sum.Write(data)
	list := slices.Sorted(maps.Keys(roots))
	b.Manifest.Roots, b.Manifest.Revision = &list, "sha256:"+hex.EncodeToString(sum.Sum(nil))[:16]
	return err
}

func ownRoot(path []string) (root string, owned bool) {
	if len(path) < 2 || path[0] != "custom" && path[0] != "system" {
		return "", false
	}
	return path[0] + "/" + path[1], true
}

// read reads a bundle; problems name its files by where they are on disk.
func read(path, name string, loader bundle.DirectoryLoader) (*bundle.Bundle, error) {
	b, err := bundle.NewCustomReader(loader.WithFilter(notTests)).WithBaseDir(path).
		WithBundleName(name).WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).
		WithLazyLoadingMode(false).WithSkipBundleVerification(true).Read()
	return &b, err
}

// notTests leaves out what only `opa test` runs.
func notTests(path string, _ fs.FileInfo, _ int) bool {
	return strings.HasSuffix(path, "_test.rego")
}
