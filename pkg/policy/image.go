package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader/filter"

	"github.com/sallyport/sallyport/policies"
)

// image is what a bundle held at one moment. Its signature is verified over the
// very bytes that are then compiled, however long somebody goes on writing to
// the directory that they come from.
type image struct {
	files []imageFile
	bare  bool // a directory without a .manifest
}

type imageFile struct {
	url, path string // where it is, and what it is called within the bundle
	text      []byte
}

const manifestFile = ".manifest"

// take reads all that a loader has.
func take(from bundle.DirectoryLoader, most int64) (image, error) {
	var img image
	for {
		d, err := from.NextFile()
		if errors.Is(err, io.EOF) {
			return img, nil
		}
		if err != nil {
			return image{}, err
		}
		var text bytes.Buffer
		_, err = d.Read(&text, most+1)
		err = errors.Join(ignoreEOF(err), d.Close())
		if err != nil {
			return image{}, err
		}
		if most -= int64(text.Len()); most < 0 {
			return image{}, errTooLarge
		}
		img.files = append(img.files, imageFile{d.URL(), d.Path(), text.Bytes()})
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// loader gives the files of an image as OPA wants them, again at each call.
func (img image) loader() bundle.DirectoryLoader { return &imageLoader{rest: img.files} }

type imageLoader struct {
	rest []imageFile
	skip filter.LoaderFilter
}

func (l *imageLoader) NextFile() (*bundle.Descriptor, error) {
	for len(l.rest) > 0 {
		f := l.rest[0]
		l.rest = l.rest[1:]
		if l.skip == nil || !l.skip(f.path, nil, 0) {
			return bundle.NewDescriptor(f.url, f.path, bytes.NewReader(f.text)), nil
		}
	}
	return nil, io.EOF
}

func (l *imageLoader) WithFilter(f filter.LoaderFilter) bundle.DirectoryLoader {
	l.skip = f
	return l
}

// What an image holds has its names and its size already.
func (l *imageLoader) WithPathFormat(bundle.PathFormat) bundle.DirectoryLoader { return l }
func (l *imageLoader) WithSizeLimitBytes(int64) bundle.DirectoryLoader         { return l }
func (l *imageLoader) WithFollowSymlinks(bool) bundle.DirectoryLoader          { return l }

// maxImage bounds what a bundle may hold, unpacked. A small archive can unpack
// to more than there is memory.
const maxImage = 256 << 20

var errTooLarge = errors.New("is too large when it is unpacked")

// imageOf reads what is on disk at a path, the shipped bundle if that is empty.
func imageOf(path string) (image, error) {
	if path == "" {
		return take(bundle.NewFSLoaderWithRoot(policies.Files, "."), maxImage)
	}
	info, err := os.Stat(path)
	if err != nil {
		return image{}, err
	}
	if !info.IsDir() {
		return imageOfArchive(path)
	}
	img, err := take(bundle.NewDirectoryLoader(path), maxImage)
	_, missing := os.Stat(filepath.Join(path, manifestFile))
	img.bare = errors.Is(missing, fs.ErrNotExist)
	return img, err
}

func imageOfArchive(path string) (image, error) {
	f, err := os.Open(path)
	if err != nil {
		return image{}, err
	}
	defer f.Close()
	return take(bundle.NewTarballLoaderWithBaseURL(f, path), maxImage)
}

// read makes a bundle of an image; problems name its files by where they are.
func (img image) read(where, name string) (*bundle.Bundle, error) {
	b, err := bundle.NewCustomReader(img.loader().WithFilter(notTests)).WithBaseDir(where).
		WithBundleName(name).WithProcessAnnotations(true).WithRegoVersion(ast.RegoV1).
		WithLazyLoadingMode(false).WithSkipBundleVerification(true).WithSizeLimitBytes(maxImage).Read()
	return &b, err
}

// verify sees that the signature is as it has to be, and is of all the files
// that are there and no other, those among them that only `opa test` runs.
func (img image) verify(v *bundle.VerificationConfig) error {
	signatures, rest, err := img.signatures()
	if err != nil {
		return err
	}
	if signatures.Signatures == nil && signatures.Plugin == "" {
		if v.SignatureRequired() {
			return errUnsigned
		}
		return nil
	}
	signed, err := bundle.VerifyBundleSignature(signatures, v)
	if err != nil {
		return err
	}
	for _, f := range rest {
		if err := bundle.VerifyBundleFile(strings.TrimPrefix(f.path, "/"), *bytes.NewBuffer(f.text), signed); err != nil {
			return err
		}
	}
	if len(signed) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(slices.Sorted(maps.Keys(signed)), ", "), errTakenAway)
	}
	return nil
}

// signatures are what the one file of them says, and the other files.
func (img image) signatures() (s bundle.SignaturesConfig, rest []imageFile, err error) {
	found := false
	for _, f := range img.files {
		switch {
		case !bundle.IsSignaturesFile(f.path):
			rest = append(rest, f)
		case found:
			return s, nil, errors.New("there is more than one .signatures.json")
		default:
			found = true
			if err := json.Unmarshal(f.text, &s); err != nil {
				return s, nil, fmt.Errorf(".signatures.json: %w", err)
			}
		}
	}
	return s, rest, nil
}

var (
	errUnsigned  = errors.New("is not signed, and a signature is required")
	errTakenAway = errors.New("signed, and not there")
)

// signatureFault says what is wrong with a signature, and what to do.
func signatureFault(err error) Fault {
	f := Fault{Message: "signature: " + message(err), Remedy: "take the bundle as it was signed, or sign what it is now"}
	switch {
	case strings.Contains(f.Message, "delta bundles"):
		return deltaFault
	case errors.Is(err, errUnsigned), strings.Contains(f.Message, "missing .signatures.json"):
		f.Message, f.Remedy = errUnsigned.Error(), "sign it, as in: opa sign --signing-key KEY --bundle . in its directory"
	case strings.Contains(f.Message, "verification key"):
		f.Remedy = "add the key under that name to policy.keys, or sign with one that is there"
	case strings.Contains(f.Message, "scope mismatch"):
		f.Remedy = "sign it for the scope that the key or the bundle's signing names"
	}
	return f
}

// notTests leaves out what only `opa test` runs.
func notTests(path string, _ fs.FileInfo, _ int) bool {
	return strings.HasSuffix(path, "_test.rego")
}
