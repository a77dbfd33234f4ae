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

// batchAnswer is a line's answer, or why no line can be answered.
type batchAnswer struct {
	planAnswer
	bad bool // the line was none
	err error
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
			return err
		}
		defer f.Close()
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
		return fmt.Errorf("%s of %d cannot be planned, the first of them is line %d; see the reasons", plural(t.bad, "line"), t.lines, t.firstBad)
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
		if err = firstError(err, a.err); err == nil {
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
	var bad *badCall
	switch {
	case errors.As(err, &bad):
		return line.refused(call.ID, err)
	case err != nil:
		return batchAnswer{err: err}
	}
	judged, problem := g.Plan(p.cmd.Context(), p.caller, name, args)
	if problem != nil {
		return batchAnswer{planAnswer: planAnswer{ID: call.ID, Reasons: []tool.Reason{
			{Code: problem.Code, Title: problem.Message, Remedy: problem.Remedy},
		}}}
	}
	return allOf(call.ID, judged)
}

// decode reads a line. It may say more of itself than a call needs; what a call
// needs is missed when its name is misspelt.
func (l *batchLine) decode() (call planCall, err error) {
	if len(l.text) > maxBatchLine {
		return call, fmt.Errorf("has more than %d bytes", maxBatchLine)
	}
	if err := json.Unmarshal(l.text, &call); err != nil {
		return call, fmt.Errorf("is no call: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if call.Tool != "" && call.Command != nil {
		return call, errors.New(`has both "tool" and "command"`)
	}
	return call, nil
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
