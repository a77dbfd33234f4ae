package replay

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport/sallyport/pkg/policy"
)

// WriteText writes a report for people. Of each list it shows the first top
// entries.
func (r *Report) WriteText(w io.Writer, top int) error {
	t := &text{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0), top: top}
	t.head(r)
	t.bundles(r)
	t.counts(r)
	for _, g := range r.grouped() {
		t.groups(g)
	}
	t.examples(r.Examples)
	t.problems(r)
	t.unused(r)
	return cmp.Or(t.err, t.w.Flush())
}

type text struct {
	w   *tabwriter.Writer
	top int
	err error
}

// line writes cells without those at the end that are empty.
func (t *text) line(cells ...any) {
	for len(cells) > 0 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1]
	}
	for i, c := range cells {
		if i > 0 {
			t.print("\t")
		}
		t.print(plain(fmt.Sprint(c)))
	}
	t.print("\n")
}

// section begins another list with columns of its own.
func (t *text) section(title string) {
	t.err = cmp.Or(t.err, t.w.Flush())
	t.print("\n" + title + "\n")
}

func (t *text) print(s string) {
	if _, err := io.WriteString(t.w, s); err != nil {
		t.err = cmp.Or(t.err, err)
	}
}

func (t *text) head(r *Report) {
	t.line(r.Headline())
	if r.From != nil {
		t.line("  " + span(r))
	}
	for _, l := range r.Logs {
		t.line("  " + l.Name + ": " + plural(l.Lines, "line"))
	}
}

// Headline is the report in one sentence.
func (r *Report) Headline() string {
	switch {
	case r.Decisions == 0:
		return "no decisions"
	case r.Judged == 0:
		return "none of " + plural(r.Decisions, "decision") + " could be judged again"
	case r.Changed.All == 0:
		return "nothing would change: " + plural(r.Judged, "decision") + " judged again"
	}
	return number(r.Changed.All) + " of " + plural(r.Judged, "decision") + " would change"
}

func span(r *Report) string { return shown(*r.From) + " to " + shown(*r.To) }

func shown(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") }

func (t *text) bundles(r *Report) {
	t.section("judged by")
	for _, b := range r.Bundles {
		t.line("  "+b.Name, b.now(), b.then())
	}
	if r.otherSite() {
		t.line("  " + siteNote)
	}
}

// siteNote says what a log cannot give back.
const siteNote = "a log has no servers.yml and policy.yml: all was judged by those of now"

func (r *Report) otherSite() bool {
	return slices.ContainsFunc(r.Bundles, func(b Bundle) bool { return b.Name == "site" && !b.same() })
}

// same says that all decisions were made by what is there now.
func (b Bundle) same() bool { return len(b.Then) == 1 && b.Then[0].Revision == b.Now }

func (b Bundle) now() string { return cmp.Or(b.Now, "(not there)") }

func (b Bundle) then() string {
	switch {
	case b.same():
		return "as then"
	case len(b.Then) == 0:
		return "not there then"
	}
	var all []string
	for _, r := range b.Then {
		all = append(all, fmt.Sprintf("%s (%s)", r.Revision, number(r.Decisions)))
	}
	return "then " + strings.Join(all, ", ")
}

func (t *text) counts(r *Report) {
	t.section("decisions")
	rows := [][2]any{{"judged", r.Judged}}
	if r.JudgedInPart > 0 {
		rows = append(rows, [2]any{"  of which something is masked that no rule looks at", r.JudgedInPart})
	}
	rows = append(rows, [2]any{"unchanged", r.Unchanged})
	for _, c := range Changes {
		if n := r.Changed.Of(c); n > 0 {
			rows = append(rows, [2]any{words(c), n})
		}
	}
	for _, row := range rows {
		t.line("  "+row[0].(string), number(row[1].(int)))
	}
	for _, n := range firstOf(t.top, r.NotJudged) {
		t.line("  not judged: "+words(n.Status), number(n.Decisions), n.Cause)
	}
	t.more(len(r.NotJudged))
}

// words is a name as people write it.
func words[S ~string](name S) string {
	return cmp.Or(inWords[policy.Change(name)], strings.ReplaceAll(string(name), "_", " "))
}

// inWords are the changes whose name says too little where it stands alone.
var inWords = map[policy.Change]string{
	policy.LimitsChange: "other limits", policy.ReasonChange: "other reasons", policy.OtherChange: "other changes",
}

// grouping is one of the ways to group decisions.
type grouping struct {
	By     string
	Groups []Group
}

func (r *Report) grouped() []grouping {
	return []grouping{{"rule", r.Rules}, {"host", r.Hosts}, {"subject", r.Subjects}, {"tool", r.Tools}}
}

func (t *text) groups(g grouping) {
	if len(g.Groups) == 0 {
		return
	}
	t.section("by " + g.By)
	kinds := presentIn(g.Groups)
	header := []any{"  "}
	for _, c := range kinds {
		header = append(header, words(c))
	}
	t.line(append(header, "decisions", "such as")...)
	for _, group := range firstOf(t.top, g.Groups) {
		row := []any{"  " + named(group.Name)}
		for _, c := range kinds {
			row = append(row, number(group.Changed.Of(c)))
		}
		t.line(append(row, number(group.Judged), strings.Join(ids(group.Examples), " "))...)
	}
	t.more(len(g.Groups))
}

func ids(examples []Example) []string {
	var all []string
	for _, e := range examples {
		all = append(all, e.DecisionID)
	}
	return all
}

// presentIn are the kinds of changes that there are.
func presentIn(groups []Group) []policy.Change {
	var sum Counts
	for _, g := range groups {
		sum.merge(g.Changed)
	}
	return slices.DeleteFunc(slices.Clone(Changes), func(c policy.Change) bool { return sum.Of(c) == 0 })
}

// named is the name of a group: calls that no host has a part in have none.
func named(name string) string { return cmp.Or(name, "(none)") }

func (t *text) examples(all []Example) {
	if len(all) == 0 {
		return
	}
	t.section("examples")
	for _, e := range all {
		t.print(fmt.Sprintf("  %s  %s  %s:%d\n", words(e.Change), plain(e.DecisionID), plain(e.Log), e.Line))
		t.print(fmt.Sprintf("    %s  %s on %s: %s\n", shown(e.Time), plain(named(e.Subject)), plain(named(e.Host)), plain(named(e.Tool))))
		t.print("    $ " + plain(e.Does) + "\n")
		for _, line := range e.verdicts() {
			t.print("    " + plain(line) + "\n")
		}
	}
}

// verdicts are the lines that tell then from now.
func (e Example) verdicts() []string {
	var all []string
	for _, v := range []struct {
		when string
		policy.Verdict
	}{{"then", e.Then}, {"now ", e.Now}} {
		all = append(all, v.when+" "+said(v.Verdict))
		for _, r := range v.Reasons {
			all = append(all, "       "+because(r.Code, r.Title, r.Detail))
		}
	}
	return all
}

func said(v policy.Verdict) string {
	if !v.Allow {
		return "denied"
	}
	return fmt.Sprintf("allowed, %s s, %s bytes, %s at once",
		limit(v.Limits.Seconds), limit(int(v.Limits.OutputBytes)), limit(v.Limits.Concurrent))
}

func limit(n int) string {
	if n == 0 {
		return "any"
	}
	return number(n)
}

func because(code, title, detail string) string {
	if detail != "" {
		title += ": " + detail
	}
	return clip(code+"  "+title, 240)
}

func clip(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return strings.TrimSpace(string(r[:most-1])) + "…"
}

func (t *text) problems(r *Report) {
	if len(r.Problems) == 0 {
		return
	}
	t.section("lines that could not be read")
	for _, p := range firstOf(t.top, r.Problems) {
		t.line(fmt.Sprintf("  %s:%d", p.Log, p.Line), p.Problem)
	}
	t.more(len(r.Problems))
}

func (t *text) unused(r *Report) {
	if r.Unused == nil {
		return
	}
	t.section(fmt.Sprintf("of no use in the last %s: %s of %s", plural(r.Unused.Days, "day"), number(len(r.Unused.Rules)), plural(r.Unused.Of, "rule")))
	for _, note := range r.notes() {
		t.line("  " + note)
	}
	for _, rule := range r.Unused.Rules {
		t.line("  "+string(rule.Kind), rule.Name, rule.Where, rule.last(), rule.Title)
	}
}

// last says when a rule was last of use.
func (r UnusedRule) last() string {
	if r.Last == nil {
		return "never"
	}
	return "last " + shown(*r.Last)
}

// more says how many entries of a list are not shown.
func (t *text) more(all int) {
	if n := all - t.top; n > 0 {
		t.line("  and " + plural(n, "more"))
	}
}

func firstOf[T any](n int, all []T) []T { return all[:min(max(n, 0), len(all))] }

// plain makes text that came from a log safe to show on a terminal: what is not
// to be seen as itself is written in escapes.
func plain(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && strings.HasPrefix(s[i:], "\ufffd"), unicode.IsPrint(r):
			b.WriteRune(r)
		case r == utf8.RuneError:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

func isPlain(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// number groups the digits of a number.
func number(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func plural(n int, noun string) string {
	if n == 1 || noun == "more" {
		return number(n) + " " + noun
	}
	return number(n) + " " + noun + "s"
}
