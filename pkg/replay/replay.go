// Package replay judges the decisions of a log again and tells what would
// change.
//
// [Run] reads decision logs, has each recorded decision judged by what an engine
// has active ([policy.Replay]), side by side on all cores, and gathers a
// [Report]: how many decisions would be others, by rule, host, subject and tool,
// with examples. The report is written as text, as JSON, and as one HTML file
// that needs nothing else.
//
// What it promises: the same logs and the same bundles give the same report,
// byte for byte, however many work on it. Memory is bounded, whatever the size of
// the logs: they are read once, and of what differs from line to line only so
// many names and examples are kept; what goes beyond is counted as others. A line
// that cannot be read, and a decision that cannot be judged again, is counted
// apart and never guessed at.
//
// Logs hold what agents sent: every text of a report is shown so that it cannot
// be anything but text.
package replay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/sallyport/sallyport/pkg/policy"
)

// Options say what to replay.
type Options struct {
	Logs     []string  // files, compressed with gzip or not; - is Stdin
	Stdin    io.Reader // read for -
	Examples int       // kept of each kind of change, rule, host, subject and tool
	Workers  int       // zero: one for each core
	// UnusedDays has the report tell what was of no use in so many days before
	// the last decision. The replay has to be one that watches rules.
	UnusedDays int
}

// chunk is some lines of a log on their way through: judged by any worker,
// counted in the order in which they were read.
type chunk struct {
	log   string
	first int // number of its first line
	lines *lines
	done  chan judged
}

type judged struct {
	decisions []decision
	err       error
}

// decision is a line's, and where it stands.
type decision struct {
	policy.Replayed
	line int
}

// Run replays logs, one after the other. Its error is one of reading or of the
// context; what is wrong with a line is in the report.
func Run(ctx context.Context, r *policy.Replay, o Options) (*Report, error) {
	sources, err := open(o)
	if err != nil {
		return nil, err
	}
	defer closeAll(sources)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	work, order := make(chan *chunk, o.Workers), make(chan *chunk, 2*o.Workers)
	read := make(chan readings, 1)
	var working sync.WaitGroup
	working.Go(func() { read <- readAll(ctx, sources, work, order) })
	for range o.Workers {
		working.Go(func() {
			for c := range work {
				c.done <- judge(ctx, r, c)
			}
		})
	}
	t := newTally(o.Examples)
	err = t.gather(order, cancel)
	working.Wait()
	found := <-read
	if err == nil {
		err = found.err
	}
	if err != nil {
		return nil, err
	}
	report := t.finish(found, r.Revisions())
	if o.UnusedDays > 0 {
		report.Unused = t.uses.unused(r.Rules(), o.UnusedDays, report.To)
	}
	return report, nil
}

// judge judges the lines of a chunk.
func judge(ctx context.Context, r *policy.Replay, c *chunk) judged {
	var all judged
	n := c.first - 1
	for line := range c.lines.each() {
		n++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		d, err := judgeLine(ctx, r, line)
		if err != nil {
			return judged{err: err}
		}
		all.decisions = append(all.decisions, decision{d, n})
	}
	return all
}

func judgeLine(ctx context.Context, r *policy.Replay, line []byte) (policy.Replayed, error) {
	if len(line) == maxLine {
		return policy.Replayed{Status: policy.Unreadable, Cause: fmt.Sprintf("is longer than %d MiB", maxLine>>20)}, nil
	}
	return r.Judge(ctx, line)
}

// gather counts what comes of the chunks, in order. After an error it goes on
// until nothing comes any more, so that nobody is left waiting.
func (t *tally) gather(order <-chan *chunk, cancel func()) (err error) {
	for c := range order {
		j := <-c.done
		if j.err != nil && err == nil {
			err = fmt.Errorf("%s: %w", c.log, j.err)
			cancel()
		}
		for _, d := range j.decisions {
			t.add(c.log, d)
		}
		buffers.Put(c.lines)
	}
	return err
}
