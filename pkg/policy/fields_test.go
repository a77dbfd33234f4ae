package policy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The README says of every field of an input what it is, in the words of the
// field's own comment.
func TestSchemaInReadme(t *testing.T) {
	const begin, end = "<!-- fields -->\n", "<!-- end of fields -->\n"
	name := "README.md"
	text, err := os.ReadFile(filepath.Join(shippedDir, name))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(text, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		t.Fatalf("%s has no place for the fields", name)
	}
	f := fields{t: t, comments: map[string]map[string]string{}, seen: map[reflect.Type]string{}}
	f.table.WriteString("| field | type | what it is |\n| --- | --- | --- |\n")
	f.of("", reflect.TypeFor[Input]())
	generated(t, name, bytes.Join([][]byte{before, []byte(begin), f.table.Bytes(), []byte(end), after}, nil))
}

// fields writes a table of the fields of a type.
type fields struct {
	t        *testing.T
	table    bytes.Buffer
	comments map[string]map[string]string // by package, and by type and field
	seen     map[reflect.Type]string      // where it is described
}

func (f *fields) of(prefix string, in reflect.Type) {
	for field := range in.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		at, kind := prefix+name, kindOf(field.Type)
		inner, list := element(field.Type)
		if list && inner.Kind() == reflect.Struct {
			at += "[_]"
		}
		if options == "omitempty" {
			kind += ", or absent"
		}
		words := f.comment(in, field.Name)
		if words == "" {
			f.t.Errorf("%s.%s has no comment that says what it is", in, field.Name)
		}
		first, again := f.seen[inner]
		if again && inner.Kind() == reflect.Struct {
			words += fmt.Sprintf("; has the fields of `%s`", first)
		}
		fmt.Fprintf(&f.table, "| `%s` | %s | %s |\n", at, kind, words)
		if inner.Kind() == reflect.Struct && !again {
			f.seen[inner] = at
			f.of(at+".", inner)
		}
	}
}

// element is the type itself, or that of the elements of a list.
func element(t reflect.Type) (inner reflect.Type, list bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		list = list || t.Kind() == reflect.Slice
		t = t.Elem()
	}
	return t, list
}

func kindOf(t reflect.Type) string {
	inner, list := element(t)
	name := map[reflect.Kind]string{
		reflect.String: "text", reflect.Bool: "boolean", reflect.Int: "number", reflect.Int64: "number", reflect.Struct: "object",
	}[inner.Kind()]
	if list {
		return "list of " + name + "s"
	}
	return name
}

// comment is the comment of a field, above it or behind it.
func (f *fields) comment(of reflect.Type, field string) string {
	if f.comments[of.PkgPath()] == nil {
		f.comments[of.PkgPath()] = f.read(path.Base(of.PkgPath()))
	}
	words := f.comments[of.PkgPath()][of.Name()+"."+field]
	for _, verb := range []string{" is ", " are "} { // the name stands beside it already
		words = strings.TrimPrefix(words, field+verb)
	}
	if strings.HasSuffix(words, "..") {
		return words
	}
	return strings.TrimSuffix(words, ".")
}

// read is all comments of fields in a package beside this one.
func (f *fields) read(name string) map[string]string {
	found := map[string]string{}
	files, err := filepath.Glob(filepath.Join("..", name, "*.go"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			f.t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, isType := n.(*ast.TypeSpec)
			if !isType {
				return true
			}
			if s, isStruct := spec.Type.(*ast.StructType); isStruct {
				for _, field := range s.Fields.List {
					for _, name := range field.Names {
						found[spec.Name.Name+"."+name.Name] = inOneLine(field.Doc.Text() + " " + field.Comment.Text())
					}
				}
			}
			return false
		})
	}
	return found
}

var link = regexp.MustCompile(`\[([A-Za-z.]+)\]`)

func inOneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.ReplaceAll(link.ReplaceAllString(text, "$1"), "|", "\\|")
}
