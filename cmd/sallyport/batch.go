package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/gateway"
	"github.com/sallyport/sallyport/pkg/tool"
)

// batchLine is a line on its way through: judged by any worker, printed in the
// order in which it was read.
type batchLine struct {
	number int
	text   []byte
	done   chan batchAnswer
}

// batchAnswer is a line's answer, and whether it is only why there is none.
type batchAnswer struct {
	planAnswer
	bad bool
}

// maxBatchLine is room for a command of 16 KiB with every byte escaped.
const maxBatchLine = 1 << 20

// runBatch plans every line of a file, side by side, and prints one result a
// line in the same order. It exits with 2 when anything was denied, and with 1
// when a line was none: that one is not allowed, and the others are planned.
func runBatch(c *cobra.Command, p *planners, file string) error {
	in := c.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return ofFile(err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return fmt.Errorf("%s is a directory; --batch takes a file of JSON lines", file)
		}
		in = f
	}
	work, order := make(chan *batchLine, 64), make(chan *batchLine, 256)
	read := make(chan error, 1)
	go func() { read <- readLines(in, work, order) }()
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for line := range work {
				line.done <- p.answer(line)
			}
		}()
	}
	t, err := printInOrder(c.OutOrStdout(), order)
	switch err := firstError(<-read, err); {
	case err != nil:
		return err
	case t.bad > 0:
		return fmt.Errorf("%s of %d cannot be planned, the first of them is line %d; see the reasons", tool.Count(t.bad, "line"), t.lines, t.firstBad)
	case t.denied > 0:
		return &exitError{code: exitDenied}
	}
	return nil
}

// tally counts the lines of a batch.
type tally struct{ lines, denied, bad, firstBad int }

func (t *tally) count(number int, a batchAnswer) {
	t.lines++
	switch {
	case a.bad:
		t.bad++
		if t.firstBad == 0 {
			t.firstBad = number
		}
	case !a.Allow:
		t.denied++
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readLines hands every line to the workers and to the printer, in order.
func readLines(in io.Reader, work, order chan<- *batchLine) error {
	defer close(order)
	defer close(work)
	lines := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		text, err := readLine(lines)
		if len(bytes.TrimSpace(text)) > 0 {
			line := &batchLine{number: n, text: text, done: make(chan batchAnswer, 1)}
			order <- line
			work <- line
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// readLine is the next line, or of one that is too long only so much that this
// can be seen.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line) <= maxBatchLine {
			line = append(line, part...)
		}
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// printInOrder drains the lines even after something went wrong, so that the
// workers come to their end.
func printInOrder(w io.Writer, order <-chan *batchLine) (t tally, err error) {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for line := range order {
		a := <-line.done
		t.count(line.number, a)
		if err == nil {
			err = enc.Encode(a.planAnswer)
		}
	}
	return t, firstError(err, out.Flush())
}

// answer plans one line. A line that is no call is not allowed, and says why;
// with several hosts it is allowed when it is on every one.
func (p *planners) answer(line *batchLine) batchAnswer {
	call, err := line.decode()
	if err != nil {
		return line.refused(call.ID, err)
	}
	g, name, args, err := p.of(call)
	if err != nil {
		return line.refused(call.ID, err)
	}
	judged, problem := g.Plan(p.cmd.Context(), p.caller, name, args)
	if problem != nil {
		return batchAnswer{planAnswer: planAnswer{ID: call.ID, Reasons: []tool.Reason{
			{Code: problem.Code, Title: problem.Message, Remedy: problem.Remedy},
		}}}
	}
	return allOf(call.ID, judged)
}

// decode reads a line. It may say more of itself than a call needs, but a key that
// looks like one of a call, or is there twice, is a slip. The first thing that is
// wrong is told; what can be read, the id above all, is read.
func (l *batchLine) decode() (call planCall, err error) {
	if len(l.text) > maxBatchLine {
		return call, fmt.Errorf("has more than %d bytes", maxBatchLine)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(l.text, &object); err != nil || object == nil {
		return call, errors.New("is no JSON object; write a call as one on a line")
	}
	keys := map[string]any{
		"id": &call.ID, "command": &call.Command, "policy_context": &call.Profile,
		"tool": &call.Tool, "arguments": &call.Arguments,
	}
	seen := map[string]bool{}
	each(l.text, func(key string, value json.RawMessage) {
		into, known := keys[key]
		switch near := slip(key, keys); {
		case !known && near != "":
			err = firstError(err, fmt.Errorf("has the key %q; write it %q", key, near))
		case !known:
		case seen[key]:
			err = firstError(err, fmt.Errorf("has the key %q twice; keep one of the two", key))
		case json.Unmarshal(value, into) != nil:
			err = firstError(err, fmt.Errorf("has %s as %q; write text in double quotes", clip(string(value), 40), key))
		}
		seen[key] = true
	})
	if (seen["tool"] || seen["arguments"]) && (seen["command"] || seen["policy_context"]) {
		err = firstError(err, errNoCall)
	}
	return call, err
}

// each goes through the keys of a JSON object in their order, duplicates too.
func each(object []byte, do func(key string, value json.RawMessage)) {
	d := json.NewDecoder(bytes.NewReader(object))
	_, _ = d.Token() // the brace: it is known to be an object, and whole
	for d.More() {
		key, _ := d.Token()
		var value json.RawMessage
		_ = d.Decode(&value)
		do(key.(string), value)
	}
}

// slip is the key of a call that another one looks like by mistake: other case,
// or one letter more, less or other.
func slip(key string, known map[string]any) string {
	for name := range known {
		if name != "id" && levenshtein.ComputeDistance(strings.ToLower(key), name) <= 1 {
			return name
		}
	}
	return ""
}

func (l *batchLine) refused(id any, err error) batchAnswer {
	a := refusedLine(id, "bad_line", fmt.Sprintf("line %d: %v", l.number, err))
	a.bad = true
	return a
}

func allOf(id any, judged []gateway.Judged) batchAnswer {
	if len(judged) == 0 {
		return refusedLine(id, "no_hosts", "no host matches")
	}
	for _, j := range judged {
		if !j.Run.Decision.Allow {
			return batchAnswer{planAnswer: answerOf(id, j)}
		}
	}
	return batchAnswer{planAnswer: answerOf(id, judged[0])}
}

func refusedLine(id any, code, message string) batchAnswer {
	return batchAnswer{planAnswer: planAnswer{ID: id, Reasons: []tool.Reason{{Code: code, Title: message}}}}
}
