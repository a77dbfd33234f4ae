package policy

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/sallyport/sallyport/policies"
)

// mainBundleName is the bundle with the entry point.
const mainBundleName = "sallyport"

// loadBundles reads the bundle that decides, the shipped one if main is empty,
// and the custom ones beside it.
func loadBundles(main string, custom []string) (map[string]*bundle.Bundle, error) {
	bundles := map[string]*bundle.Bundle{}
	b, err := loadMain(main)
	if err != nil {
		return nil, err
	}
	bundles[mainBundleName] = b
	for _, path := range custom {
		name := bundleName(path)
		if _, taken := bundles[name]; taken || name == siteBundleName {
			return nil, fmt.Errorf("bundle %s: another bundle is called %q", path, name)
		}
		if bundles[name], err = loadCustom(path, name); err != nil {
			return nil, err
		}
	}
	return bundles, nil
}

func loadMain(path string) (*bundle.Bundle, error) {
	if path == "" {
		return read("shipped", mainBundleName, bundle.NewFSLoaderWithRoot(policies.Files, "."))
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
	if err != nil {
		return nil, err
	}
	for _, root := range *b.Manifest.Roots {
		if root != "custom" && !strings.HasPrefix(root, "custom/") && root != "system/log" {
			return nil, fmt.Errorf(
				"bundle %s: root %q is not its to own; .manifest may list custom, custom/... and system/log", path, root)
		}
	}
	return b, nil
}

func loadPath(path, name string) (*bundle.Bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if info.IsDir() {
		return read(path, name, bundle.NewDirectoryLoader(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	defer f.Close()
	return read(path, name, bundle.NewTarballLoaderWithBaseURL(f, path))
}

func read(path, name string, loader bundle.DirectoryLoader) (*bundle.Bundle, error) {
	b, err := bundle.NewCustomReader(loader.WithFilter(notTests)).
		WithBundleName(name).WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).
		WithLazyLoadingMode(false).WithSkipBundleVerification(true).Read()
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", path, err)
	}
	return &b, nil
}

// notTests leaves out what only `opa test` runs.
func notTests(path string, _ fs.FileInfo, _ int) bool {
	return strings.HasSuffix(path, "_test.rego")
}
