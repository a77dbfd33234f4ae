package audit

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// Kind is what is wrong with a line.
type Kind string

const (
	Changed   Kind = "changed"   // its content is not what it was written with
	Missing   Kind = "missing"   // lines before it are not there
	Reordered Kind = "reordered" // it stands in another's place
	Repeated  Kind = "repeated"  // it has been there before
	Restarted Kind = "restarted" // a new chain begins in the middle of a file
	Torn      Kind = "torn"      // it ends without a newline
	Foreign   Kind = "foreign"   // it is no audit record
)

// Fault is the first line that does not fit.
type Fault struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // counted from 1 in its file
	Kind   Kind   `json:"kind"`
	Detail string `json:"detail"`
}

func (f *Fault) Error() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Kind, f.Detail)
}

// Report is what a chain holds, up to its end or its first fault.
type Report struct {
	Lines int          `json:"lines"`
	Types map[Type]int `json:"types"`
	First uint64       `json:"first"` // number of the first line
	Last  uint64       `json:"last"`  // number of the last line
	Chain string       `json:"chain"` // chain hash of the last line: keep it elsewhere
	// Unfinished are the starts of runs that have no end: they run still, or
	// the gateway died.
	Unfinished []Place `json:"unfinished"`
	// Notes are what a reader should know and what breaks nothing.
	Notes []string `json:"notes"`
}

// Place is where a record stands.
type Place struct {
	File       string `json:"file"`
	Line       int    `json:"line"`
	CallID     string `json:"call_id"`
	DecisionID string `json:"decision_id"`
}

// Source is a file of the stream to verify.
type Source struct {
	Name string
	io.Reader
}

// VerifyFiles follows the chain through files, oldest first. Its error is a
// [*Fault], or that of a file that cannot be read; the report tells how far it
// came.
func VerifyFiles(paths ...string) (Report, error) {
	var sources []Source
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return Report{}, err
		}
		defer f.Close()
		sources = append(sources, Source{path, f})
	}
	return Verify(sources...)
}

// Verify is VerifyFiles on what is open already.
func Verify(sources ...Source) (Report, error) {
	v := verifier{report: Report{Types: map[Type]int{}, Unfinished: []Place{}, Notes: []string{}}, running: map[run]start{}}
	r := newLineReader(sources)
	for {
		err := r.next()
		if err == io.EOF {
			return v.finish(), nil
		}
		if err == nil {
			err = v.check(r)
		}
		if err != nil {
			return v.finish(), err
		}
	}
}

// verifier goes along a chain.
type verifier struct {
	report  Report
	before  link
	ts      string // of the line before
	at      Place  // of the line before
	running map[run]start
}

// run names a run on one host: a call may have several.
type run struct{ call, decision string }

// start is the record with which a run began, the nth of all.
type start struct {
	Place
	nth int
}

// check takes the line that r stands on into the chain.
func (v *verifier) check(r *lineReader) error {
	fault := func(kind Kind, format string, args ...any) *Fault {
		return &Fault{File: r.file, Line: r.line, Kind: kind, Detail: fmt.Sprintf(format, args...)}
	}
	if r.torn {
		return fault(Torn, "it ends without a newline after %d bytes: a crash, a write in progress, or a cut", len(r.text))
	}
	s, intact, err := unseal(r.text)
	switch {
	case err != nil:
		return fault(Foreign, "%v", err)
	case !intact:
		return fault(Changed, "its content does not match its chain hash")
	case v.report.Lines == 0:
		v.begin(s, r)
	case s.Seq == 1 && s.Prev == "" && r.line == 1 && s.TS < v.ts:
		return fault(Reordered, "a chain begins here that is older than the one before; give the oldest file first")
	case s.Seq == 1 && s.Prev == "" && r.line == 1:
		v.note("%s:1: a new chain begins after line %d of the old one", r.file, v.before.seq)
	case s.Seq == v.before.seq && s.chain == v.before.chain:
		return fault(Repeated, "record %d stands here twice", s.Seq)
	case s.Seq == 1 && s.Prev == "":
		return fault(Restarted, "a new chain begins here; record %d should follow", v.before.seq+1)
	case s.Seq <= v.before.seq:
		return fault(Reordered, "record %d stands after record %d", s.Seq, v.before.seq)
	case s.Seq > v.before.seq+1:
		return v.gap(r, s)
	case s.Prev != v.before.chain:
		return &Fault{
			File: v.at.File, Line: v.at.Line, Kind: Changed,
			Detail: "its chain hash was made anew: the next line follows another",
		}
	}
	v.take(s, r)
	return nil
}

func (v *verifier) begin(s sealed, r *lineReader) {
	v.report.First = s.Seq
	if s.Seq > 1 {
		v.note("%s:%d: the chain begins with record %d; older files were not given", r.file, r.line, s.Seq)
	}
}

// gap tells lines that were moved from lines that are gone: it looks whether
// the one that should stand here comes later.
func (v *verifier) gap(r *lineReader, found sealed) error {
	fault := &Fault{File: r.file, Line: r.line, Kind: Missing}
	want := v.before.seq + 1
	if found.Seq == want+1 {
		fault.Detail = fmt.Sprintf("record %d is missing before it", want)
	} else {
		fault.Detail = fmt.Sprintf("records %d to %d are missing before it", want, found.Seq-1)
	}
	for r.next() == nil {
		if s, intact, err := unseal(r.text); err == nil && intact && s.Seq == want {
			fault.Kind = Reordered
			fault.Detail = fmt.Sprintf("record %d stands where record %d should, which is at %s:%d", found.Seq, want, r.file, r.line)
			break
		}
	}
	return fault
}

func (v *verifier) take(s sealed, r *lineReader) {
	v.before, v.ts = link{s.Seq, s.chain}, s.TS
	v.at = Place{File: r.file, Line: r.line, CallID: s.CallID, DecisionID: s.DecisionID}
	v.report.Lines++
	v.report.Types[s.Type]++
	if s.Cut > 0 {
		v.note("%s:%d: a crash had left an unfinished line of %d bytes before it, which was removed", r.file, r.line, s.Cut)
	}
	switch id := (run{s.CallID, s.DecisionID}); s.Type {
	case Started:
		v.running[id] = start{v.at, v.report.Lines}
	case Finished:
		delete(v.running, id)
	}
}

func (v *verifier) note(format string, args ...any) {
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

func (v *verifier) finish() Report {
	v.report.Last, v.report.Chain = v.before.seq, v.before.chain
	open := slices.SortedFunc(maps.Values(v.running), func(a, b start) int { return cmp.Compare(a.nth, b.nth) })
	for _, p := range open {
		v.report.Unfinished = append(v.report.Unfinished, p.Place)
		v.note("%s:%d: call %s started and has no end: it runs still, or the gateway died", p.File, p.Line, p.CallID)
	}
	return v.report
}

// maxLine is the longest line that is read, in bytes.
const maxLine = 16 << 20

var errTooLong = errors.New("line is too long for an audit record")

// lineReader reads the lines of several files one after the other.
type lineReader struct {
	sources []Source
	in      *bufio.Reader // nil before a file
	file    string
	line    int // from 1 in file
	text    []byte
	torn    bool // the newline is missing
}

func newLineReader(sources []Source) *lineReader { return &lineReader{sources: sources} }

// next goes to the next line; io.EOF after the last one.
func (r *lineReader) next() error {
	for len(r.sources) > 0 {
		if r.in == nil {
			r.in, r.file, r.line = bufio.NewReaderSize(r.sources[0], 64<<10), r.sources[0].Name, 0
		}
		err := r.read()
		switch {
		case err == nil, err == io.EOF && len(r.text) > 0:
			r.line++
			r.torn = err == io.EOF
			return nil
		case err != io.EOF:
			return fmt.Errorf("%s:%d: %w", r.file, r.line+1, err)
		}
		r.sources, r.in = r.sources[1:], nil
	}
	return io.EOF
}

// read fills text with a line without its newline.
func (r *lineReader) read() error {
	r.text = r.text[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		r.text = append(r.text, part...)
		switch {
		case len(r.text) > maxLine:
			return errTooLong
		case err == nil:
			r.text = r.text[:len(r.text)-1]
			return nil
		case err != bufio.ErrBufferFull:
			return err
		}
	}
}
