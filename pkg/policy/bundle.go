package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// mainBundleName is the bundle with the entry point.
const mainBundleName = "sallyport"

// images reads what is on disk. It goes on after one that cannot be read.
func (e *Engine) images() (map[string]image, Faults) {
	images := map[string]image{}
	var faults Faults
	names := map[string]bool{siteBundleName: true}
	for _, s := range e.set.sources {
		if names[s.Name] {
			faults = append(faults, Fault{
				Name: s.Name, Bundle: s.where(), Message: fmt.Sprintf("another bundle is called %q", s.Name), Remedy: "rename the directory or file",
			})
			continue
		}
		names[s.Name] = true
		if s.Service != nil {
			continue
		}
		img, err := imageOf(s.Path)
		if err == nil {
			images[s.Name] = img
		}
		faults = append(faults, s.faults(err)...)
	}
	return images, faults
}

// bundles makes bundles of images, in the same way.
func (e *Engine) bundles(images map[string]image) (map[string]*bundle.Bundle, Faults) {
	bundles := map[string]*bundle.Bundle{}
	var faults Faults
	for _, s := range e.set.sources {
		img, there := images[s.Name]
		if !there {
			continue
		}
		b, err := e.readImage(s, img)
		if err == nil {
			err = e.set.kept.notOlder(s.Name, b)
		}
		if err == nil {
			bundles[s.Name] = b
		}
		faults = append(faults, s.faults(err)...)
	}
	return bundles, faults
}

// faults are an error of a source as such.
func (s Source) faults(err error) Faults {
	remedy := "name a directory, or a .tar.gz that sallyport policy build or opa build wrote"
	if s.Service != nil {
		remedy = "have the server give a .tar.gz that sallyport policy build or opa build wrote"
	}
	faults := faultsOf(err, remedy)
	for i := range faults {
		faults[i].Name, faults[i].Bundle = s.Name, s.where()
	}
	return faults
}

// readImage makes a bundle of what a source gave. The shipped one came with the
// program and needs no signature.
func (e *Engine) readImage(s Source, img image) (*bundle.Bundle, error) {
	if s.shipped() {
		return img.read("", s.Name)
	}
	v, err := e.seal.verification(s)
	if err != nil {
		return nil, err
	}
	if v != nil {
		if err := img.verify(v); err != nil {
			return nil, Faults{signatureFault(err)}
		}
	}
	b, err := img.read(s.where(), s.Name)
	if err != nil || s.Name == mainBundleName {
		return b, err
	}
	return b, asCustom(b, s, img.bare)
}

// bundleName is the name under which decisions give a custom bundle's revision.
func bundleName(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".gz"), ".tar")
}

// asCustom sees that a bundle only adds to another. It may own only what nobody
// else decides with: packages below custom, and the log's mask and drop rules.
func asCustom(b *bundle.Bundle, s Source, bare bool) error {
	if bare {
		if err := introduce(b, s.Path); err != nil {
			return err
		}
	}
	for _, root := range *b.Manifest.Roots {
		if root != "custom" && !strings.HasPrefix(root, "custom/") && root != "system/log" {
			return Faults{{
				Message: fmt.Sprintf("root %q is not its to own", root),
				Remedy:  "in its .manifest, roots may be custom, custom/... and system/log",
			}}
		}
	}
	return nil
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
