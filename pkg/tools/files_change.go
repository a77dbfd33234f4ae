package tools

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// change is an edit of a text. It is made here, on the content, not on the host.
type change struct {
	operation string
	old, new  string // of replace
	pattern   string // of regex, and of those that pick lines
	content   string // of those that bring lines
	line      int    // from 1; 0 for none
	from, to  int    // lines, both included; 0 for none
	all       bool   // every match; otherwise there has to be exactly one
}

// editError is why a change cannot be made to a text.
type editError struct{ code, message, remedy string }

func (e *editError) Error() string { return e.message + "; " + e.remedy }

// operations make a change to a text: what it becomes, and how many places of
// it changed.
var operations = map[string]func(change, string) (string, int, error){
	"replace":      change.replace,
	"regex":        change.regex,
	"insert":       change.insert,
	"append":       change.append,
	"prepend":      change.prepend,
	"delete":       change.delete,
	"replace_line": change.replaceLine,
}

func (c change) replace(text string) (string, int, error) {
	step := 1 // places that overlap are several to choose from
	if c.all {
		step = len(c.old)
	}
	var at []int
	for from := 0; from < len(text); {
		i := strings.Index(text[from:], c.old)
		if i < 0 {
			break
		}
		at = append(at, from+i)
		from += i + step
	}
	if err := c.counted(text, "old_text", len(at), linesAt(text, at)); err != nil {
		return "", 0, err
	}
	return strings.ReplaceAll(text, c.old, c.new), len(at), nil
}

// linesAt are the lines in which offsets are that grow, each line once.
func linesAt(text string, offsets []int) []int {
	var lines []int
	line, counted := 1, 0
	for _, at := range offsets {
		line += strings.Count(text[counted:at], "\n")
		counted = at
		if n := len(lines); n == 0 || lines[n-1] != line {
			lines = append(lines, line)
		}
	}
	return lines
}

func (c change) regex(text string) (string, int, error) {
	re, err := c.compile()
	if err != nil {
		return "", 0, err
	}
	if err := c.groups(re); err != nil {
		return "", 0, err
	}
	found := inLines(re.FindAllStringSubmatchIndex(text, -1), text)
	var at []int
	for _, m := range found {
		at = append(at, m[0])
	}
	if err := c.counted(text, "pattern", len(at), linesAt(text, at)); err != nil {
		return "", 0, err
	}
	with, _ := expansion(c.new)
	var b strings.Builder
	end := 0
	for _, m := range found {
		b.WriteString(text[end:m[0]])
		b.Write(re.ExpandString(nil, with, text, m))
		end = m[1]
	}
	return b.String() + text[end:], len(found), nil
}

// inLines leaves out the empty match of ^ and $ behind the last line break, where
// no line is. A pattern that is about that place alone keeps it.
func inLines(found [][]int, text string) [][]int {
	last := len(found) - 1
	if last > 0 && found[last][0] == len(text) && strings.HasSuffix(text, "\n") {
		return found[:last]
	}
	return found
}

// groups refuses a replacement with groups that the pattern has not: nothing would
// stand in their place.
func (c change) groups(re *regexp.Regexp) error {
	if _, most := expansion(c.new); most > re.NumSubexp() {
		return &editError{
			"edit_pattern", fmt.Sprintf("replacement has \\%d, and pattern no such group", most),
			"put ( and ) around what is to be kept, or write \\\\ for a backslash",
		}
	}
	return nil
}

// expansion turns \1 to \9 and \0 into what regexp expands, leaves all else as it
// is, and tells the highest of them.
func expansion(replacement string) (template string, most int) {
	var b strings.Builder
	for i := 0; i < len(replacement); i++ {
		switch r := replacement[i]; {
		case r == '$':
			b.WriteString("$$")
		case r == '\\' && i+1 < len(replacement) && replacement[i+1] >= '0' && replacement[i+1] <= '9':
			i++
			fmt.Fprintf(&b, "${%c}", replacement[i])
			most = max(most, int(replacement[i]-'0'))
		case r == '\\' && i+1 < len(replacement) && strings.IndexByte(`\nt`, replacement[i+1]) >= 0:
			i++
			b.WriteByte(map[byte]byte{'\\': '\\', 'n': '\n', 't': '\t'}[replacement[i]])
		default:
			b.WriteByte(r)
		}
	}
	return b.String(), most
}

// compile takes the pattern as it stands before it is put into anything, so that
// it cannot close what it is put into, and errors show what was sent.
func (c change) compile() (*regexp.Regexp, error) {
	if _, err := regexp.Compile(c.pattern); err != nil {
		return nil, &editError{
			"edit_pattern", "pattern is no regular expression: " + strings.TrimPrefix(err.Error(), "error parsing regexp: "),
			"write it in the syntax of RE2, which has no look-around and no back-references",
		}
	}
	return regexp.Compile("(?m)" + c.pattern)
}

// counted refuses a change to a place that is not there, or to one of several.
func (c change) counted(text, what string, n int, lines []int) error {
	switch {
	case n == 0 && strings.Contains(text, "\r\n"):
		return &editError{
			"edit_no_match", what + " is not in the file, whose lines end in \\r\\n",
			"read the file, and give what is there; a line break in old_text is \\r\\n there, and the end of a line in a pattern \\r?$",
		}
	case n == 0:
		return &editError{"edit_no_match", what + " is not in the file", "read the file, and give what is there, blanks and line ends included"}
	case n > 1 && !c.all:
		return &editError{
			"edit_ambiguous", fmt.Sprintf("%s is in the file %d times, in %s", what, n, listLines(lines)),
			"make it longer so that it is there once, or set global",
		}
	}
	return nil
}

func listLines(at []int) string {
	var words []string
	for _, n := range at[:min(len(at), 10)] {
		words = append(words, fmt.Sprint(n))
	}
	if len(at) > len(words) {
		words = append(words, "...")
	}
	if len(words) == 1 {
		return "line " + words[0]
	}
	return "lines " + strings.Join(words, ", ")
}

// split is a text as lines, each with its end; the last one may have none.
func split(text string) []string { return slices.Collect(strings.Lines(text)) }

// ending is how the lines of a text end.
func ending(text string) string {
	first, _, ended := strings.Cut(text, "\n")
	if ended && strings.HasSuffix(first, "\r") {
		return "\r\n"
	}
	return "\n"
}

// block is the content as lines that end like those of a text.
func (c change) block(text string) []string {
	end := ending(text)
	content := strings.ReplaceAll(strings.TrimSuffix(c.content, "\n"), "\r\n", "\n")
	var lines []string
	for _, line := range strings.Split(strings.TrimSuffix(content, "\r"), "\n") {
		lines = append(lines, line+end)
	}
	return lines
}

// closed is a text as lines all of which have an end, and the end that the last
// one was given for that.
func closed(text string) (lines []string, added string) {
	lines = split(text)
	if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
		added = ending(text)
		lines[n-1] += added
	}
	return lines, added
}

// join is the opposite of closed.
func join(lines []string, added string) string {
	return strings.TrimSuffix(strings.Join(lines, ""), added)
}

func (c change) insert(text string) (string, int, error) {
	lines, added := closed(text)
	if c.line > len(lines)+1 {
		return "", 0, noLine(c.line, len(lines))
	}
	if c.line == len(lines)+1 {
		added = ""
	}
	return join(slices.Insert(lines, c.line-1, c.block(text)...), added), 1, nil
}

func noLine(n, most int) error {
	return &editError{"edit_no_line", fmt.Sprintf("the file has no line %d, it has %d", n, most), "read the file and give a line that is there"}
}

func (c change) append(text string) (string, int, error)  { return c.beside(text, 1) }
func (c change) prepend(text string) (string, int, error) { return c.beside(text, 0) }

// beside puts the content before (0) or behind (1) the lines that match, or
// the whole text.
func (c change) beside(text string, behind int) (string, int, error) {
	lines, added := closed(text)
	block := c.block(text)
	if c.pattern == "" {
		if behind == 1 {
			return join(append(lines, block...), ""), 1, nil
		}
		return join(append(block, lines...), added), 1, nil
	}
	at, err := c.picked(lines)
	if err != nil {
		return "", 0, err
	}
	for _, i := range slices.Backward(at) {
		if i+behind == len(lines) {
			added = ""
		}
		lines = slices.Insert(lines, i+behind, block...)
	}
	return join(lines, added), len(at), nil
}

func (c change) delete(text string) (string, int, error) {
	return c.instead(text, nil)
}

func (c change) replaceLine(text string) (string, int, error) {
	return c.instead(text, c.block(text))
}

// instead puts a block in the place of lines. A range is one place. Where the last
// line goes, the one before keeps its end.
func (c change) instead(text string, block []string) (string, int, error) {
	lines, added := closed(text)
	at, err := c.picked(lines)
	if err != nil {
		return "", 0, err
	}
	n, length := len(at), 1
	if c.from > 0 {
		at, length = at[:1], n
	}
	if len(block) == 0 && at[len(at)-1]+length == len(lines) {
		added = ""
	}
	for _, i := range slices.Backward(at) {
		lines = slices.Replace(lines, i, i+length, block...)
	}
	return join(lines, added), n, nil
}

// picked are the indices of the lines that a change is about.
func (c change) picked(lines []string) ([]int, error) {
	switch {
	case c.line > 0:
		if c.line > len(lines) {
			return nil, noLine(c.line, len(lines))
		}
		return []int{c.line - 1}, nil
	case c.from > 0:
		if c.to > len(lines) {
			return nil, noLine(c.to, len(lines))
		}
		var at []int
		for i := c.from; i <= c.to; i++ {
			at = append(at, i-1)
		}
		return at, nil
	}
	re, err := c.compile()
	if err != nil {
		return nil, err
	}
	var at, numbers []int
	for i, line := range lines {
		if re.MatchString(strings.TrimRight(line, "\r\n")) {
			at, numbers = append(at, i), append(numbers, i+1)
		}
	}
	return at, c.counted(strings.Join(lines, ""), "pattern", len(at), numbers)
}
