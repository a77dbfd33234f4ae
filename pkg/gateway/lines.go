package gateway

import (
	"bytes"
	"cmp"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
)

// lines is the output of a task while it runs: the last complete lines of both
// streams in the order in which they came, as many as fit. A line has a number
// for ever, so a reader who asks again behind the last one that it has seen
// misses none, unless it comes so late that they are gone; then it is told how
// many. It is safe for concurrent use.
type lines struct {
	mu     sync.Mutex
	most   int64 // bytes that the result may have of each stream
	redact []*regexp.Regexp
	// withheld: what must be redacted may span lines, so nothing is shown
	// before the whole is there.
	withheld bool
	part     [2]bytes.Buffer // an unfinished line of each stream
	overlong [2]bool         // it was too long to keep; the rest of it is left out
	kept     keptLines
	first    int64 // number of the first line kept
	ended    bool
	changed  chan struct{} // closed, and replaced, when there is more to read
}

// defaultKept is what is kept where there is no limit.
const defaultKept = 1 << 20

const overlongLine = "[a line too long to keep]"

func newLines() *lines { return &lines{most: defaultKept, changed: make(chan struct{})} }

// permit says, before the first piece, how many bytes a decision lets be kept,
// 0 for no limit, and what must never be shown.
func (l *lines) permit(most int64, redact []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most, l.redact, l.withheld = cmp.Or(most, defaultKept), nil, false
	for _, p := range redact {
		re := redaction(p)
		l.redact = append(l.redact, re)
		l.withheld = l.withheld || spansLines(re)
	}
}

// write takes a piece of one stream. A process that was left behind may go on
// writing after the end, when nobody asks any more; the result does not have it
// either.
func (l *lines) write(piece []byte, stderr bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.withheld || l.ended {
		return
	}
	stream := 0
	if stderr {
		stream = 1
	}
	before := l.total()
	for len(piece) > 0 {
		line, rest, whole := bytes.Cut(piece, []byte("\n"))
		l.extend(stream, line)
		if whole {
			l.finish(stream)
		}
		piece = rest
	}
	if l.total() > before {
		l.wake()
	}
}

// extend adds to an unfinished line. One that is too long is not shown in parts:
// what must be redacted could lie across them.
func (l *lines) extend(stream int, text []byte) {
	part := &l.part[stream]
	if int64(part.Len()+len(text)) > l.most {
		l.overlong[stream] = true
		part.Reset()
	}
	if !l.overlong[stream] {
		part.Write(text)
	}
}

func (l *lines) finish(stream int) {
	text := l.part[stream].String()
	if l.overlong[stream] {
		text = overlongLine
	}
	for _, re := range l.redact {
		text = re.ReplaceAllString(text, redacted)
	}
	l.add(strings.ToValidUTF8(text, "\uFFFD"))
	l.part[stream].Reset()
	l.overlong[stream] = false
}

// add keeps a line. What the result has of both streams is here, too, however
// late a reader comes.
func (l *lines) add(line string) {
	l.kept.add(line)
	for l.kept.size > 2*l.most && l.kept.count > 1 {
		l.kept.dropFirst()
		l.first++
	}
}

// end finishes what is unfinished. What was withheld is now read from the
// report, where it is redacted.
func (l *lines) end(report string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for stream := range l.part {
		if l.part[stream].Len() > 0 || l.overlong[stream] {
			l.finish(stream)
		}
	}
	if l.withheld && report != "" {
		for line := range strings.SplitSeq(strings.TrimSuffix(report, "\n"), "\n") {
			l.add(line)
		}
	}
	l.part = [2]bytes.Buffer{}
	l.ended = true
	l.wake()
}

func (l *lines) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// total is the number of lines so far. Its caller holds mu.
func (l *lines) total() int64 { return l.first + l.kept.count }

// excerpt is some of the lines, and where they stand.
type excerpt struct {
	lines             []string
	total, next, lost int64
	withheld          bool
}

// read gives up to most lines from a cursor on, or without one the last ones.
func (l *lines) read(cursor *int64, most int) excerpt {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := l.total()
	from := max(l.first, total-int64(most))
	var lost int64
	if cursor != nil {
		from = min(max(*cursor, l.first), total)
		lost = max(0, l.first-max(*cursor, 0))
	}
	to := min(from+int64(most), total)
	return excerpt{l.kept.slice(from-l.first, to-l.first), total, to, lost, l.withheld && !l.ended}
}

// more is closed when there is something behind a cursor, or nothing will come
// any more.
func (l *lines) more(cursor *int64) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || cursor == nil || *cursor < l.total() {
		now := make(chan struct{})
		close(now)
		return now
	}
	return l.changed
}

func (l *lines) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total()
}

// held is how many bytes are kept.
func (l *lines) held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.kept.size)
}

const redacted = "[redacted]"

// redaction is a decision's pattern. One that does not compile matches
// everything: the bundle's gate should have refused it.
func redaction(pattern string) *regexp.Regexp {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return regexp.MustCompile(`(?s).+`)
	}
	return re
}

// spansLines reports whether a pattern could match more than one line.
func spansLines(re *regexp.Regexp) bool {
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	return err != nil || seesNewline(tree)
}

func seesNewline(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpAnyChar:
		return true
	case syntax.OpLiteral:
		return slices.Contains(re.Rune, '\n')
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i] <= '\n' && '\n' <= re.Rune[i+1] {
				return true
			}
		}
	}
	return slices.ContainsFunc(re.Sub, seesNewline)
}
