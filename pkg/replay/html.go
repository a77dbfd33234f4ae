package replay

import (
	_ "embed"
	"html/template"
	"io"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
)

// page is the report's HTML. It asks for nothing from anywhere and runs no
// script; its content security policy says so.
//
//go:embed report.html
var page string

var report = template.Must(template.New("report").Funcs(template.FuncMap{
	"number": number, "plain": plain, "named": named, "shown": shown, "said": said,
	"words":  func(c policy.Change) string { return words(c) },
	"status": func(s policy.Status) string { return words(s) },
}).Parse(page))

// WriteHTML writes a report as one HTML file. Of each list it shows the first
// top entries.
func (r *Report) WriteHTML(w io.Writer, top int) error {
	v := view{
		Report: r, Headline: r.Headline(), Rest: r.Decisions - r.Judged, Share: shares(r), Time: timeChart(r.Timeline), Kinds: Changes,
		NotJudged: firstOf(top, r.NotJudged), Problems: firstOf(top, r.Problems), Bundles: r.Bundles,
	}
	if r.From != nil {
		v.Span = span(r)
	}
	if r.Unused != nil {
		v.Notes = r.notes()
	}
	if r.otherSite() {
		v.SiteNote = siteNote
	}
	for _, g := range r.grouped() {
		if len(g.Groups) > 0 {
			v.Charts = append(v.Charts, groupChart(g, top))
		}
	}
	return report.Execute(w, v)
}

// view is a report as the page shows it.
type view struct {
	*Report
	Headline, Span, SiteNote string
	Rest                     int // decisions that were not judged
	Share                    []bar
	Time                     chart
	Charts                   []chart
	Kinds                    []policy.Change
	NotJudged                []NotJudged
	Problems                 []Problem
	Bundles                  []Bundle
	Notes                    []string
}

// chart is a drawing made of bars, with words beside or below them.
type chart struct {
	Title         string
	Width, Height float64
	Bars          []bar
	Labels        []label
	Groups        []Group
	More          int
}

type bar struct {
	X, Y, W, H float64
	Class      string // what it counts
	Title      string // what a pointer shows
}

type label struct {
	X, Y   float64
	Text   string
	Anchor string
}

// part is so many decisions of a kind.
type part struct {
	class string
	n     int
}

// parts are the changed decisions of each kind, in the order in which they are
// stacked.
func parts(c Counts) []part {
	var all []part
	for _, kind := range Changes {
		if n := c.Of(kind); n > 0 {
			all = append(all, part{string(kind), n})
		}
	}
	return all
}

const (
	chartWidth = 960.0
	barHeight  = 18.0
	rowHeight  = 26.0
	nameWidth  = 300.0
	timeHeight = 160.0
	leastBar   = 1.5 // what is there is seen, however little it is
)

// shares are all decisions as one bar.
func shares(r *Report) []bar {
	var bars []bar
	x := 0.0
	for _, p := range append(parts(r.Changed), part{"unchanged", r.Unchanged}, part{"not_judged", r.Decisions - r.Judged}) {
		if p.n == 0 {
			continue
		}
		w := max(leastBar, chartWidth*float64(p.n)/float64(r.Decisions))
		bars = append(bars, bar{x, 0, w, barHeight, p.class, counted(p.class, p.n)})
		x += w
	}
	return fit(bars, x)
}

// fit narrows bars that the least width has made too many for the chart.
func fit(bars []bar, width float64) []bar {
	if width > chartWidth {
		for i := range bars {
			bars[i].X *= chartWidth / width
			bars[i].W *= chartWidth / width
		}
	}
	return bars
}

func counted(class string, n int) string { return words(class) + ": " + number(n) }

// timeChart shows when what changed was decided. Its bars stand where their time
// is, so a time in which nothing was decided is a gap.
func timeChart(t Timeline) chart {
	c := chart{Title: "by time", Width: chartWidth, Height: timeHeight + rowHeight}
	most := 0
	for _, s := range t.Steps {
		most = max(most, s.Changed.All)
	}
	if most == 0 {
		return c
	}
	first := t.Steps[0].From.Unix()
	last := t.Steps[len(t.Steps)-1].From.Unix() + t.StepSeconds
	scale := chartWidth / float64(last-first)
	for _, s := range t.Steps {
		y := timeHeight
		for _, p := range parts(s.Changed) {
			h := timeHeight * float64(p.n) / float64(most)
			y -= h
			c.Bars = append(c.Bars, bar{
				float64(s.From.Unix()-first) * scale, y, max(leastBar, 0.9*scale*float64(t.StepSeconds)), h,
				p.class, shown(s.From) + ", " + counted(p.class, p.n) + " of " + number(s.Judged) + " judged",
			})
		}
	}
	c.Labels = []label{
		{0, timeHeight + rowHeight - 8, shown(t.Steps[0].From), "start"},
		{chartWidth, timeHeight + rowHeight - 8, shown(time.Unix(last, 0)), "end"},
		{4, 14, number(most), "start"},
	}
	return c
}

// groupChart is a bar for each group.
func groupChart(g grouping, top int) chart {
	groups := firstOf(top, g.Groups)
	c := chart{
		Title: "by " + g.By, Width: chartWidth, Height: rowHeight * float64(len(groups)), Groups: groups, More: len(g.Groups) - len(groups),
	}
	most := 1
	for _, group := range groups {
		most = max(most, group.Changed.All)
	}
	for i, group := range groups {
		x, y := nameWidth, rowHeight*float64(i)
		for _, p := range parts(group.Changed) {
			w := max(leastBar, (chartWidth-nameWidth-80)*float64(p.n)/float64(most))
			c.Bars = append(c.Bars, bar{x, y + (rowHeight-barHeight)/2, w, barHeight, p.class, counted(p.class, p.n)})
			x += w
		}
		c.Labels = append(c.Labels,
			label{nameWidth - 8, y + rowHeight/2 + 4, clip(plain(named(group.Name)), 40), "end"},
			label{x + 6, y + rowHeight/2 + 4, number(group.Changed.All), "start"})
	}
	return c
}
