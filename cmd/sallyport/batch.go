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
	err error
}

// maxBatchLine is room for a command of 16 KiB with every byte escaped.
const maxBatchLine = 1 << 20

// runBatch plans every line of a file, side by side, and prints one result a
// line in the same order. It exits with 2 when anything was denied.
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
	denied, err := printInOrder(c.OutOrStdout(), order)
	if err := firstError(<-read, err); err != nil {
		return err
	}
	if denied > 0 {
		return &exitError{code: exitDenied}
	}
	return nil
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
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxBatchLine)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		line := &batchLine{number: n, text: bytes.Clone(lines.Bytes()), done: make(chan batchAnswer, 1)}
		order <- line
		work <- line
	}
	return lines.Err()
}

// printInOrder drains the lines even after something went wrong, so that the
// workers come to their end.
func printInOrder(w io.Writer, order <-chan *batchLine) (denied int, err error) {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for line := range order {
		a := <-line.done
		if !a.Allow {
			denied++
		}
		if err = firstError(err, a.err); err == nil {
			err = enc.Encode(a.planAnswer)
		}
	}
	return denied, firstError(err, out.Flush())
}

// answer plans one line. A line that is no call is not allowed, and says why;
// with several hosts it is allowed when it is on every one.
func (p *planners) answer(line *batchLine) batchAnswer {
	var call planCall
	if err := json.Unmarshal(line.text, &call); err != nil {
		return refusedLine(call.ID, "bad_line", fmt.Sprintf("line %d is not a JSON object: %v", line.number, err))
	}
	g, name, args, err := p.of(call)
	switch {
	case errors.Is(err, errNoCall):
		return refusedLine(call.ID, "bad_line", fmt.Sprintf("line %d: %v", line.number, err))
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
