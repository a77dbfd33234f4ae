package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ArgumentError is what is wrong with a call's arguments: one sentence that
// names the argument, and what to send instead.
type ArgumentError struct {
	Argument string // empty when the arguments as a whole are wrong
	Message  string
	Remedy   string
}

func (e *ArgumentError) Error() string { return e.Message + "; " + e.Remedy }

func badArgument(name, message, remedy string) *ArgumentError {
	return &ArgumentError{Argument: name, Message: message, Remedy: remedy}
}

// Decode reads a JSON object into the struct that dst points to, and takes
// nothing for granted: an unknown, missing, duplicate, mistyped, out-of-range
// or differently-cased key is an error. encoding/json alone would fold cases,
// let the last duplicate win and replace invalid UTF-8, so that the text
// somebody looked at need not be the text that runs.
//
// Names, which is every string that is not tagged as something else, are trimmed
// of blanks at both ends and may hold only letters, digits, dot, underscore,
// colon and dash; that of a connection, which may be user@host, an at sign, too.
func Decode(raw json.RawMessage, dst any) error {
	return decode(raw, dst, fieldsOf(reflect.TypeOf(dst).Elem()))
}

// decode is Decode into a struct whose fields are known.
func decode(raw json.RawMessage, dst any, fields []field) error {
	members, err := readObject(raw)
	if err != nil {
		return err
	}
	v := reflect.ValueOf(dst).Elem()
	if err := noStrangers(members, fields); err != nil {
		return err
	}
	for _, f := range fields {
		value, ok := members[f.name]
		if !ok || bytes.Equal(value, []byte("null")) {
			if f.required {
				return badArgument(f.name, fmt.Sprintf("argument %q is required", f.name), "send it: "+f.describe())
			}
			continue
		}
		if err := f.decode(value, v.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	return nil
}

// readObject splits a JSON object into its members and refuses what a decoder
// would mend in silence.
func readObject(raw json.RawMessage) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(raw)) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return members, nil
	}
	if !utf8.Valid(raw) {
		return nil, badArgument("", "the arguments are not valid UTF-8", "send UTF-8 text")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, badArgument("", "the arguments are not a JSON object", "send an object with named arguments")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, badArgument("", "the arguments are not valid JSON", "send one well-formed object")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, badArgument("", "the arguments are not valid JSON", "send one well-formed object")
		}
		name := key.(string)
		if _, twice := members[name]; twice {
			return nil, badArgument(name, fmt.Sprintf("argument %q is given twice", name), "send it once")
		}
		members[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, badArgument("", "the arguments are not valid JSON", "send one well-formed object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badArgument("", "something follows the arguments", "send one object and nothing else")
	}
	return members, nil
}

func noStrangers(members map[string]json.RawMessage, fields []field) error {
	known := make([]string, 0, len(fields))
	for _, f := range fields {
		known = append(known, f.name)
	}
	for _, name := range sortedKeys(members) {
		if slices.Contains(known, name) {
			continue
		}
		remedy := "this tool takes " + list(known)
		for _, k := range known {
			if strings.EqualFold(k, name) {
				remedy = fmt.Sprintf("write it %q: names are case-sensitive", k)
			}
		}
		return badArgument(name, fmt.Sprintf("unknown argument %q", name), remedy)
	}
	return nil
}

func sortedKeys(m map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func list(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	return strings.Join(names, ", ")
}

func (f field) decode(value json.RawMessage, dst reflect.Value) error {
	if f.secret {
		return f.decodeSecret(value, dst)
	}
	if err := json.Unmarshal(value, dst.Addr().Interface()); err != nil {
		return badArgument(f.name, fmt.Sprintf("argument %q is %s", f.name, kindOf(value)), "send "+f.describe())
	}
	switch dst = reflect.Indirect(dst); dst.Kind() {
	case reflect.String:
		return f.checkString(value, dst)
	case reflect.Int, reflect.Int64:
		return f.checkNumber(dst.Int())
	}
	return nil
}

// maxSecret is more than any host takes for a password.
const maxSecret = 1024

// decodeSecret reads a secret. Nothing that it says shows what was sent.
func (f field) decodeSecret(value json.RawMessage, dst reflect.Value) error {
	secret := dst.Addr().Interface().(*Secret)
	switch err := json.Unmarshal(value, secret); {
	case err != nil || mendedSecret(value, *secret):
		return badArgument(f.name, fmt.Sprintf("argument %q is not a string", f.name), "send a string of whole characters")
	case len(secret.Reveal()) > maxSecret:
		return badArgument(f.name, fmt.Sprintf("argument %q is too long", f.name), fmt.Sprintf("send at most %d bytes", maxSecret))
	}
	return nil
}

func mendedSecret(raw json.RawMessage, s Secret) bool {
	return strings.ContainsRune(s.Reveal(), utf8.RuneError) && mendedByDecoder(raw)
}

func (f field) checkString(raw json.RawMessage, dst reflect.Value) error {
	s := dst.String()
	if strings.ContainsRune(s, utf8.RuneError) && mendedByDecoder(raw) {
		return badArgument(f.name, fmt.Sprintf("argument %q holds half of a surrogate pair", f.name), "send whole characters")
	}
	switch {
	case f.path:
		if err := f.checkPath(s); err != nil {
			return err
		}
	case !f.free:
		s = strings.TrimSpace(s)
		dst.SetString(s)
		if err := f.checkName(s); err != nil {
			return err
		}
	}
	n := utf8.RuneCountInString(s)
	switch {
	case f.required && !f.empty && strings.TrimSpace(s) == "":
		return badArgument(f.name, fmt.Sprintf("argument %q is empty", f.name), "send "+f.describe())
	case f.min != nil && n < *f.min, f.max != nil && n > *f.max:
		return badArgument(f.name, fmt.Sprintf("argument %q has %d characters", f.name, n), "send "+f.describe())
	case s != "" && f.enum != nil && !slices.Contains(f.enum, s):
		return badArgument(f.name, fmt.Sprintf("argument %q is %q", f.name, s), "send one of "+strings.Join(f.enum, ", "))
	}
	return nil
}

func (f field) checkName(s string) error {
	if strings.HasPrefix(s, "-") {
		return badArgument(f.name, fmt.Sprintf("argument %q begins with a dash", f.name), "names begin with a letter or digit")
	}
	signs, may := "._:-", "dot, underscore, colon and dash"
	if f.connection {
		signs, may = "._:-@", "dot, underscore, colon, at sign and dash"
	}
	r := strings.IndexFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(signs, r))
	})
	if r >= 0 {
		c, _ := utf8.DecodeRuneInString(s[r:])
		return badArgument(f.name, fmt.Sprintf("argument %q holds %s", f.name, describeRune(c)), "use letters, digits, "+may+" only")
	}
	return nil
}

// maxPath is PATH_MAX of Linux, the null at its end aside.
const maxPath = 4095

func (f field) checkPath(s string) error {
	switch {
	case strings.ContainsRune(s, 0):
		return badArgument(f.name, fmt.Sprintf("argument %q holds a null character", f.name), "no path can have one; leave it out")
	case len(s) > maxPath:
		return badArgument(f.name, fmt.Sprintf("argument %q has %d bytes", f.name, len(s)), fmt.Sprintf("no path is longer than %d", maxPath))
	case strings.HasPrefix(s, "~"):
		return badArgument(f.name, fmt.Sprintf("argument %q begins with ~, which only a shell knows", f.name), "write the directory out, or ./~ for a file of that name")
	}
	return nil
}

// mendedByDecoder says that a replacement character in a decoded string was
// not in its source.
func mendedByDecoder(raw json.RawMessage) bool {
	return !bytes.ContainsRune(raw, utf8.RuneError) && !bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`))
}

func (f field) checkNumber(n int64) error {
	if f.min != nil && n < int64(*f.min) || f.max != nil && n > int64(*f.max) {
		return badArgument(f.name, fmt.Sprintf("argument %q is %d", f.name, n), "send "+f.describe())
	}
	return nil
}

func describeRune(r rune) string {
	if unicode.IsPrint(r) {
		return fmt.Sprintf("the character %q", r)
	}
	return fmt.Sprintf("the invisible character U+%04X", r)
}

// describe says what a field wants: "an integer from 1 to 1000".
func (f field) describe() string {
	what := map[reflect.Kind]string{
		reflect.String: "a string", reflect.Bool: "true or false",
		reflect.Int: "an integer", reflect.Int64: "an integer", reflect.Slice: "a list",
	}[f.typ.Kind()]
	unit := ""
	if f.typ.Kind() == reflect.String {
		unit = " characters"
	}
	switch {
	case f.enum != nil:
		return what + " out of " + strings.Join(f.enum, ", ")
	case f.min != nil && f.max != nil:
		return fmt.Sprintf("%s from %d to %d%s", what, *f.min, *f.max, unit)
	case f.max != nil:
		return fmt.Sprintf("%s of at most %d%s", what, *f.max, unit)
	case f.min != nil:
		return fmt.Sprintf("%s of at least %d%s", what, *f.min, unit)
	}
	return what
}

// kindOf names the JSON type of a value.
func kindOf(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "a boolean"
	}
	return "the number " + string(raw)
}
