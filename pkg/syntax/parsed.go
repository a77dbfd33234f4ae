package syntax

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"
)

// one is the problem that a parser ended with.
func one(line int, message string) []Problem { return []Problem{{line, message}} }

func lineAt(text string, offset int64) int {
	return 1 + strings.Count(text[:min(max(offset, 0), int64(len(text)))], "\n")
}

func checkJSON(text string) []Problem {
	d := json.NewDecoder(strings.NewReader(text))
	var v any
	err := d.Decode(&v)
	if err == nil {
		if rest := text[d.InputOffset():]; strings.TrimSpace(rest) != "" {
			blank := len(rest) - len(strings.TrimLeft(rest, " \t\r\n"))
			return one(lineAt(text, d.InputOffset()+int64(blank)), "something follows the value")
		}
		return nil
	}
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return one(lineAt(text, syntax.Offset), syntax.Error())
	case errors.Is(err, io.EOF):
		return one(0, "there is no value")
	}
	return one(lineAt(text, int64(len(text))), "the text ends in the middle of a value")
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line ([0-9]+): `)

// checkYAML reads all documents of a text.
func checkYAML(text string) []Problem {
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var n yaml.Node
		switch err := d.Decode(&n); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return yamlProblem(err)
		}
		// Duplicate keys are found only when a value is made of the nodes.
		var v any
		if err := n.Decode(&v); err != nil {
			return yamlProblem(err)
		}
	}
}

func yamlProblem(err error) []Problem {
	var several *yaml.TypeError
	if !errors.As(err, &several) {
		return []Problem{yamlSentence(err.Error())}
	}
	var problems []Problem
	for _, e := range several.Errors {
		problems = append(problems, yamlSentence(e))
	}
	return problems
}

func yamlSentence(s string) Problem {
	m := yamlLine.FindStringSubmatch(s)
	if m == nil {
		return Problem{0, strings.TrimPrefix(s, "yaml: ")}
	}
	line, _ := strconv.Atoi(m[1])
	return Problem{line, s[len(m[0]):]}
}

func checkTOML(text string) []Problem {
	var v map[string]any
	err := toml.Unmarshal([]byte(text), &v)
	var at *toml.DecodeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &at):
		line, _ := at.Position()
		return one(line, strings.TrimPrefix(at.Error(), "toml: "))
	}
	return one(0, strings.TrimPrefix(err.Error(), "toml: "))
}

func checkXML(text string) []Problem {
	d := xml.NewDecoder(bytes.NewReader([]byte(text)))
	// What encoding a file is in does not matter to its form.
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	elements := 0
	for {
		t, err := d.Token()
		var syntax *xml.SyntaxError
		switch {
		case errors.Is(err, io.EOF) && elements == 0:
			return one(0, "there is no element")
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &syntax):
			return one(syntax.Line, syntax.Msg)
		case err != nil:
			return one(lineAt(text, d.InputOffset()), err.Error())
		}
		if _, ok := t.(xml.StartElement); ok {
			elements++
		}
	}
}
