package policy

import (
	"bytes"
	"encoding/json"
	"iter"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Records are read back by a scanner of our own, several times faster than by
// reflection: most of a record need not be decoded, only found. All functions
// here take text that json.Valid has found valid.

// member is one field of an object.
type member struct {
	name   []byte // without quotes and escapes
	quoted []byte // the name as it is written
	value  []byte
}

// members gives the fields of the object that text is, in the order in which
// they are written.
func members(text []byte) iter.Seq[member] {
	return func(yield func(member) bool) {
		i := space(text, 1)
		for text[i] != '}' {
			m := member{quoted: text[i : i+stringEnd(text[i:])]}
			m.name = unquote(m.quoted)
			i = space(text, i+len(m.quoted))
			i = space(text, i+len(":"))
			m.value = text[i : i+valueEnd(text[i:])]
			if !yield(m) {
				return
			}
			i = next(text, i+len(m.value))
		}
	}
}

// elements gives the values of the list that text is.
func elements(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := space(text, 1)
		for text[i] != ']' {
			value := text[i : i+valueEnd(text[i:])]
			if !yield(value) {
				return
			}
			i = next(text, i+len(value))
		}
	}
}

// next goes past a comma, if there is one, to what follows.
func next(text []byte, i int) int {
	i = space(text, i)
	if text[i] == ',' {
		i = space(text, i+1)
	}
	return i
}

func space(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r' {
		i++
	}
	return i
}

// valueEnd is where the value ends that text begins with.
func valueEnd(text []byte) int {
	switch text[0] {
	case '"':
		return stringEnd(text)
	case '{', '[':
		return nestedEnd(text)
	}
	end := bytes.IndexAny(text, ",]} \n\t\r")
	if end < 0 {
		return len(text)
	}
	return end
}

func stringEnd(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

func nestedEnd(text []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch text[i] {
		case '"':
			i += stringEnd(text[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}

// unquote is the text of a JSON string. Bytes that are no UTF-8 become what
// encoding/json makes of them.
func unquote(quoted []byte) []byte {
	plain := quoted[1 : len(quoted)-1]
	for _, c := range plain {
		if c == '\\' || c >= 0x80 {
			var s string
			if json.Unmarshal(quoted, &s) == nil {
				return []byte(s)
			}
		}
	}
	return plain
}

// valueOf is JSON as OPA's own value, which is what parsing it by way of OPA
// gives.
func valueOf(text []byte) *ast.Term {
	switch text[0] {
	case '{':
		return objectOf(text)
	case '[':
		var terms []*ast.Term
		for element := range elements(text) {
			terms = append(terms, valueOf(element))
		}
		return array(terms, func(t *ast.Term) *ast.Term { return t })
	case '"':
		return str(string(unquote(text)))
	case 't', 'f':
		return boolean(text[0] == 't')
	case 'n':
		return ast.InternedNullTerm
	}
	return ast.NumberTerm(json.Number(text))
}

// objectOf lets the last one count of fields with the same name.
func objectOf(text []byte) *ast.Term {
	o := ast.NewObject()
	for m := range members(text) {
		name, ok := keys[string(m.name)]
		if !ok {
			name = ast.StringTerm(string(m.name))
		}
		o.Insert(name, valueOf(m.value))
	}
	return ast.NewTerm(o)
}
