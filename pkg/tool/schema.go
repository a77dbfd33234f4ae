package tool

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Schema is the JSON Schema of a Go type, every object closed. A struct's
// fields are its exported ones, embedded structs flattened, named by their
// json tag. Three tags say more:
//
//	doc:"…"                  description
//	arg:"required"           must be present
//	arg:"min=1,max=1000"     bounds of a number, or of a string's length in characters
//	arg:"text"               free text, kept as it is; other strings are names
//	arg:"connection"         name of a connection, see [Decode]
//	arg:"path"               a path on a host, kept as it is
//	arg:"required,empty"     must be present, and may be empty
//	enum:"a,b"               the only values
//
// It handles what arguments and results are made of: strings, booleans,
// integers, secrets, pointers, slices, string-keyed maps, structs, any, and raw
// JSON, which is an object that is decoded elsewhere.
func Schema(t reflect.Type) map[string]any {
	switch t {
	case secretType:
		return map[string]any{"type": "string", "format": "password", "writeOnly": true}
	case rawType:
		return map[string]any{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return Schema(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": Schema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": Schema(t.Elem())}
	case reflect.Struct:
		return structSchema(t)
	case reflect.Interface:
		return map[string]any{}
	}
	panic(fmt.Sprintf("tool: no schema for %s", t))
}

var (
	secretType = reflect.TypeFor[Secret]()
	rawType    = reflect.TypeFor[json.RawMessage]()
)

func structSchema(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range fieldsOf(t) {
		properties[f.name] = f.schema()
		if f.required {
			required = append(required, f.name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// field is one property of a struct with what its tags say.
type field struct {
	name     string
	index    []int
	typ      reflect.Type
	doc      string
	required bool
	min, max *int
	enum     []string
	free     bool // any text
	path     bool
	empty    bool // although required
	secret   bool
	// connection: a name that may have an at sign.
	connection bool
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		switch {
		case sf.Anonymous && name == "" && embedded(sf.Type).Kind() == reflect.Struct:
			// Not reflect.VisibleFields: an embedded Status hides its own
			// field Status from that, but not from encoding/json.
			for _, f := range fieldsOf(embedded(sf.Type)) {
				f.index = append([]int{i}, f.index...)
				fields = append(fields, f)
			}
		case sf.IsExported() && name != "" && name != "-":
			fields = append(fields, readTags(sf, name))
		}
	}
	return fields
}

// embedded is what an embedded field is of; a result may have it or not.
func embedded(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func readTags(sf reflect.StructField, name string) field {
	f := field{name: name, index: sf.Index, typ: sf.Type, doc: sf.Tag.Get("doc"), secret: sf.Type == secretType}
	if f.typ.Kind() == reflect.Pointer { // one that can be told from its zero value
		f.typ = f.typ.Elem()
	}
	if enum := sf.Tag.Get("enum"); enum != "" {
		f.enum = strings.Split(enum, ",")
	}
	for _, part := range strings.Split(sf.Tag.Get("arg"), ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "":
		case "required":
			f.required = true
		case "text":
			f.free = true
		case "connection":
			f.connection = true
		case "path":
			f.path = true
		case "empty":
			f.empty = true
		case "min":
			f.min = bound(sf, value)
		case "max":
			f.max = bound(sf, value)
		default:
			panic(fmt.Sprintf("tool: field %s: unknown arg tag %q", sf.Name, part))
		}
	}
	return f
}

func bound(sf reflect.StructField, value string) *int {
	n, err := strconv.Atoi(value)
	if err != nil {
		panic(fmt.Sprintf("tool: field %s: bound %q is not a number", sf.Name, value))
	}
	return &n
}

func (f field) schema() map[string]any {
	s := Schema(f.typ)
	if f.doc != "" {
		s["description"] = f.doc
	}
	if f.enum != nil {
		s["enum"] = f.enum
	}
	lower, upper := "minimum", "maximum"
	if f.typ.Kind() == reflect.String {
		lower, upper = "minLength", "maxLength"
	}
	if f.min != nil {
		s[lower] = *f.min
	}
	if f.max != nil {
		s[upper] = *f.max
	}
	return s
}
