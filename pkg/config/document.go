package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"sort"
	"syscall"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFile is how large a YAML file may be, in bytes.
const maxFile = 10 << 20

// readFile is the content of a regular file of at most limit bytes. The file is
// opened without waiting, so that a named pipe is refused instead of read.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, faultf("put a file there", "not a regular file")
	}
	return readLimited(f, limit)
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, faultf("make it smaller", "larger than %d bytes", limit)
	}
	return data, err
}

// asFault says why a file cannot be had.
func asFault(err error, missing string) *fault {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, fs.ErrNotExist):
		return faultf(missing, "does not exist")
	case errors.Is(err, fs.ErrPermission):
		return faultf("let the user that runs the gateway read it", "may not be read by this user")
	}
	return faultf("see that it can be read", "%v", err)
}

// parse reads a file of one YAML document that is a mapping, and nothing that
// YAML offers beyond mappings, lists, scalars and names for those. It reports what
// is wrong to p; without a mapping, ok is false.
func parse(p place, data []byte) (root value, ok bool) {
	if f, line := badText(data); f != nil {
		p.line = line
		p.fail(f)
		return value{}, false
	}
	node, err := decode(data)
	if err != nil {
		p.line = errorLine(data, err)
		p.fail(syntaxFault(data, p.line, err))
		return value{}, false
	}
	if node == nil {
		p.line = 1
		return value{p, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}}, true
	}
	root = valueAt(p, p.path, node)
	root.expand()
	root.plain()
	if node.Kind != yaml.MappingNode {
		root.wrongKind("a mapping")
		return value{}, false
	}
	return root, true
}

// deceptive matches what makes a text look different from what YAML reads:
// characters that only YAML takes for the end of a line, of a comment for
// example, and those that reverse the order of what is shown.
var deceptive = regexp.MustCompile(`\r[^\n]|\r$|[\x{85}\x{2028}\x{2029}\x{202A}-\x{202E}\x{2066}-\x{2069}]`)

// badText is why data is not a text to be read, and the line.
func badText(data []byte) (*fault, int) {
	lineAt := func(i int) int { return 1 + bytes.Count(data[:i], []byte("\n")) }
	if i := invalidAt(data); i >= 0 {
		return faultf("save the file as UTF-8", "byte %d of the file, %#x, is not UTF-8", i+1, data[i]), lineAt(i)
	}
	if at := deceptive.FindIndex(data); at != nil {
		r, _ := utf8.DecodeRune(data[at[0]:])
		return faultf("remove it", "has the character %U, which makes the text look different from what it is", r), lineAt(at[0])
	}
	return nil, 0
}

// invalidAt is the first byte that is not UTF-8, -1 when there is none.
func invalidAt(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	i := 0
	for {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
}

var errSecondDocument = errors.New("a second document begins")

// decode is the root node of the only document, nil when there is none.
func decode(data []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	switch err := d.Decode(&next); {
	case err == nil:
		return nil, errSecondDocument
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	if root := doc.Content[0]; root.Tag != "!!null" || root.Style != 0 {
		return root, nil
	}
	return nil, nil
}

// maxSearched is how large a file may be for the line of a syntax error to be
// searched for, in bytes: it is then some seconds away. A file of 10,000 hosts
// is smaller.
const maxSearched = 2 << 20

// errorLine is the first line at which data cannot be continued. The library
// names the line where the surrounding construct began, or none; but it reads
// from front to back, so the shortest beginning that gives the same error ends
// where the error is.
func errorLine(data []byte, want error) int {
	if len(data) > maxSearched {
		line := 1
		_, _ = fmt.Sscanf(want.Error(), "yaml: line %d:", &line)
		return line
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	ends := make([]int, len(lines))
	end := 0
	for i, line := range lines {
		end += len(line)
		ends[i] = end
	}
	return 1 + sort.Search(len(lines)-1, func(i int) bool {
		_, err := decode(data[:ends[i]])
		return err != nil && err.Error() == want.Error()
	})
}

// anchorName is where the library quotes from the file, in which an unquoted
// password may begin with an asterisk.
var anchorName = regexp.MustCompile(`unknown anchor '.*'`)

var yamlPrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

func syntaxFault(data []byte, line int, err error) *fault {
	if errors.Is(err, errSecondDocument) {
		return faultf("remove the --- line and what follows it", "%v", err)
	}
	remedy := "look at indentation, quotes and brackets, here and just above"
	if text := bytes.SplitN(data, []byte("\n"), line+1)[line-1]; bytes.HasPrefix(bytes.TrimLeft(text, " "), []byte("\t")) {
		remedy = "indent with blanks, not with a tab"
	}
	why := anchorName.ReplaceAllString(yamlPrefix.ReplaceAllString(err.Error(), ""), "unknown anchor")
	return faultf(remedy, "not YAML: %s", why)
}

// plain reports anchors in vain, tags and duplicate keys. It does not quote them:
// an unquoted password may look like one.
func (v value) plain() {
	switch {
	case v.node.Kind == yaml.AliasNode:
		return // it has been reported
	case v.node.Anchor != "":
		v.fail(faultf("remove it, or put the value in quotes", "what begins with & is an anchor, and nothing refers to it"))
	case v.node.Style&yaml.TaggedStyle != 0:
		v.fail(faultf("remove the tag, or put the value in quotes", "what begins with ! is a tag; tags are not read"))
	}
	if v.node.Kind == yaml.MappingNode {
		v.plainKeys()
	}
	for _, child := range v.node.Content {
		valueAt(v.place, v.path, child).plain()
	}
}

func (v value) plainKeys() {
	first := map[string]int{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := valueAt(v.place, v.path, v.node.Content[i])
		name := key.node.Value
		switch line, twice := first[name]; {
		case key.node.Kind != yaml.ScalarNode:
			key.fail(faultf("use a word", "%s is used as a key", key.kind()))
		case key.node.Tag == "!!merge":
			key.fail(faultf("name one mapping or a list of them once, as in <<: *name", "<< merges mappings, and this is none"))
		case key.node.Tag != "!!str":
			key.fail(faultf("put it in quotes", "key %s is %s, not text", name, key.kind()))
		case twice:
			key.fail(faultf("keep one of the two", "key %q is already on line %d", name, line))
		default:
			first[name] = key.line
		}
	}
}
