package audit

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// history is a stream of eight records: start, three runs, stop.
func history(t testing.TB) []string {
	t.Helper()
	var out bytes.Buffer
	now := time.Unix(1790000000, 0)
	s := mustOpen(t, Options{Writer: &out, Now: func() time.Time { now = now.Add(time.Second); return now }})
	for n := range 3 {
		mustWrite(t, s, aRun(fmt.Sprintf("c%d", n))...)
	}
	mustClose(t, s)
	return linesOf(out.String())
}

func linesOf(text string) []string { return slices.Collect(strings.Lines(text)) }

// rechain replaces text in a line and makes its chain hash anew.
func rechain(t testing.TB, line, old, new string) string {
	t.Helper()
	body, _, ok := strings.Cut(strings.Replace(line, old, new, 1), chainMember)
	if !ok || !strings.Contains(line, old) {
		t.Fatalf("%q is not in %s", old, line)
	}
	return body + chainMember + chainOf([]byte(body+"}")) + "\"}\n"
}

func verifyTexts(texts ...string) (Report, error) {
	var sources []Source
	for n, text := range texts {
		sources = append(sources, Source{fmt.Sprintf("f%d", n), strings.NewReader(text)})
	}
	return Verify(sources...)
}

func wantFault(t *testing.T, err error, file string, line int, kind Kind) {
	t.Helper()
	var fault *Fault
	if !errors.As(err, &fault) {
		t.Fatalf("verify says %v, want %s at %s:%d", err, kind, file, line)
	}
	if fault.File != file || fault.Line != line || fault.Kind != kind {
		t.Errorf("verify says %v, want %s at %s:%d", fault, kind, file, line)
	}
}

func TestVerifyIntact(t *testing.T) {
	lines := history(t)
	all := strings.Join(lines, "")
	for name, tc := range map[string]struct {
		texts []string
		want  Report
	}{
		"one file": {[]string{all}, Report{
			Lines: 8, First: 1, Last: 8, Types: map[Type]int{Start: 1, Started: 3, Finished: 3, Stop: 1},
		}},
		"three files, one empty": {[]string{strings.Join(lines[:3], ""), "", strings.Join(lines[3:], "")}, Report{
			Lines: 8, First: 1, Last: 8, Types: map[Type]int{Start: 1, Started: 3, Finished: 3, Stop: 1},
		}},
		"oldest file gone": {[]string{strings.Join(lines[4:], "")}, Report{
			Lines: 4, First: 5, Last: 8, Types: map[Type]int{Started: 1, Finished: 2, Stop: 1},
			Notes: []string{"f0:1: the chain begins with record 5; older files were not given"},
		}},
		"killed": {[]string{strings.Join(lines[:4], "")}, Report{
			Lines: 4, First: 1, Last: 4, Types: map[Type]int{Start: 1, Started: 2, Finished: 1},
			Unfinished: []Place{{File: "f0", Line: 4, CallID: "c1", DecisionID: "d-c1"}},
			Notes:      []string{"f0:4: call c1 started and has no end: it runs still, or the gateway died"},
		}},
		"nothing": {nil, Report{Types: map[Type]int{}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verifyTexts(tc.texts...)
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Unfinished = append([]Place{}, tc.want.Unfinished...)
			tc.want.Notes = append([]string{}, tc.want.Notes...)
			if tc.want.Lines > 0 {
				tc.want.Chain = chainIn(lines[tc.want.Last-1])
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

func chainIn(line string) string {
	_, chain, _ := strings.Cut(strings.TrimSuffix(line, "\"}\n"), chainMember)
	return chain
}

func TestVerifyNamesTheFault(t *testing.T) {
	for name, tc := range map[string]struct {
		tamper func(l []string) []string
		line   int
		kind   Kind
	}{
		"deleted first of many":   {func(l []string) []string { return slices.Delete(l, 1, 2) }, 2, Missing},
		"deleted in the middle":   {func(l []string) []string { return slices.Delete(l, 3, 6) }, 4, Missing},
		"swapped":                 {func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }, 4, Reordered},
		"moved back":              {func(l []string) []string { return slices.Insert(slices.Delete(slices.Clone(l), 1, 2), 5, l[1]) }, 2, Reordered},
		"moved to the front":      {func(l []string) []string { return slices.Insert(slices.Delete(slices.Clone(l), 5, 6), 0, l[5]) }, 2, Restarted},
		"repeated at once":        {func(l []string) []string { return slices.Insert(l, 3, l[2]) }, 4, Repeated},
		"repeated later":          {func(l []string) []string { return slices.Insert(l, 5, l[2]) }, 6, Reordered},
		"copied onto another":     {func(l []string) []string { l[4] = l[2]; return l }, 5, Reordered},
		"two streams in one file": {func(l []string) []string { return append(l, history(t)...) }, 9, Restarted},
		"cut in the last line":    {func(l []string) []string { l[7] = l[7][:len(l[7])-10]; return l }, 8, Torn},
		"last newline gone":       {func(l []string) []string { l[7] = strings.TrimSuffix(l[7], "\n"); return l }, 8, Torn},
		"cut in the middle":       {func(l []string) []string { l[3] = l[3][:40] + "\n"; return l }, 4, Foreign},
		"two lines run together":  {func(l []string) []string { l[3] = strings.TrimSuffix(l[3], "\n"); return l }, 4, Foreign},
		"a remark":                {func(l []string) []string { return slices.Insert(l, 2, "see ticket 12\n") }, 3, Foreign},
		"an empty line":           {func(l []string) []string { return slices.Insert(l, 2, "\n") }, 3, Foreign},
		"foreign JSON":            {func(l []string) []string { return slices.Insert(l, 2, `{"decision_id":"1","result":true}`+"\n") }, 3, Foreign},
		"foreign JSON with chain": {func(l []string) []string {
			return slices.Insert(l, 2, rechain(t, l[2], `"type":"finished"`, `"type":""`))
		}, 3, Foreign},
		"space added":     {func(l []string) []string { l[2] = strings.Replace(l[2], ",", ", ", 1); return l }, 3, Changed},
		"hash of another": {func(l []string) []string { l[2] = strings.Replace(l[2], chainIn(l[2]), chainIn(l[3]), 1); return l }, 3, Changed},
		"prev of another": {func(l []string) []string { l[2] = strings.Replace(l[2], chainIn(l[1]), chainIn(l[3]), 1); return l }, 3, Changed},
		"hash in upper case": {func(l []string) []string {
			l[2] = strings.Replace(l[2], chainIn(l[2]), strings.ToUpper(chainIn(l[2])), 1)
			return l
		}, 3, Changed},
		"rewritten with its hash": {func(l []string) []string { l[2] = rechain(t, l[2], `"exit_code":0`, `"exit_code":1`); return l }, 3, Changed},
		"renumbered":              {func(l []string) []string { l[2] = rechain(t, l[2], `"seq":3`, `"seq":4`); return l }, 3, Missing},
		"NUL bytes":               {func(l []string) []string { return append(l, "\x00\x00\x00") }, 9, Torn},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifyTexts(strings.Join(tc.tamper(history(t)), ""))
			wantFault(t, err, "f0", tc.line, tc.kind)
		})
	}
}

func TestVerifyAcrossFiles(t *testing.T) {
	l := history(t)
	one, two, three := strings.Join(l[:3], ""), strings.Join(l[3:5], ""), strings.Join(l[5:], "")
	for name, tc := range map[string]struct {
		texts []string
		file  string
		line  int
		kind  Kind
	}{
		"file missing":          {[]string{one, three}, "f1", 1, Missing},
		"files swapped":         {[]string{one, three, two}, "f1", 1, Reordered},
		"newest first":          {[]string{three, two, one}, "f1", 1, Reordered},
		"oldest last":           {[]string{two, three, one}, "f2", 1, Reordered},
		"file given twice":      {[]string{one, two, two}, "f2", 1, Reordered},
		"end of a file cut off": {[]string{strings.Join(l[:2], ""), two, three}, "f1", 1, Missing},
		"torn before rotation":  {[]string{one + l[3][:9], two, three}, "f0", 4, Torn},
		"rewritten last line":   {[]string{l[0] + l[1] + rechain(t, l[2], `"web1"`, `"web2"`), two}, "f0", 3, Changed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verifyTexts(tc.texts...)
			wantFault(t, err, tc.file, tc.line, tc.kind)
		})
	}
}

// Whichever byte of whichever line is changed, it is noticed, and on that line
// or, where its place in the chain was forged, on the one that it broke from.
func TestEveryByteIsCovered(t *testing.T) {
	lines := history(t)
	for n := range lines {
		for at := range lines[n] {
			changed := slices.Clone(lines)
			b := []byte(changed[n])
			b[at] ^= 1
			changed[n] = string(b)
			_, err := verifyTexts(strings.Join(changed, ""))
			var fault *Fault
			if !errors.As(err, &fault) {
				t.Fatalf("byte %d of line %d changed and verify says %v", at, n+1, err)
			}
			if fault.Line != n+1 {
				t.Fatalf("byte %d of line %d changed and verify says %v", at, n+1, fault)
			}
		}
	}
}

func TestVerifyUnreadable(t *testing.T) {
	if _, err := VerifyFiles(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there verifies")
	}
	if _, err := VerifyFiles(t.TempDir()); err == nil {
		t.Error("a directory verifies")
	}
	_, err := verifyTexts(strings.Join(history(t), "") + strings.Repeat("x", maxLine+1))
	if !errors.Is(err, errTooLong) {
		t.Errorf("endless line: %v", err)
	}
}

// Whatever the bytes, Verify answers; and what it accepts is a chain: put
// together again from its records it is the same text.
func FuzzVerify(f *testing.F) {
	lines := history(f)
	f.Add(strings.Join(lines, ""), 0)
	f.Add(strings.Join(lines, ""), len(lines[0]))
	f.Add(strings.Join(lines[2:], ""), 3)
	f.Add("{}\n", 1)
	f.Add(`{"seq":1,"type":"x"`+chainMember+strings.Repeat("0", 64)+"\"}\n", 0)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		cut = max(0, min(cut, len(text)))
		report, err := verifyTexts(text[:cut], text[cut:])
		if err != nil {
			return
		}
		if got := strings.Count(text, "\n"); got != report.Lines {
			t.Errorf("accepted %d lines of %d", report.Lines, got)
		}
		for line := range strings.Lines(text) {
			s, intact, err := unseal([]byte(strings.TrimSuffix(line, "\n")))
			if err != nil || !intact {
				t.Errorf("accepted %q, which holds record %d (%v)", line, s.Seq, err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	text := strings.Join(history(b), "")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := verifyTexts(text); err != nil {
			b.Fatal(err)
		}
	}
}
