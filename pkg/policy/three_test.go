package policy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
)

// bundleServer gives a small bundle of the team that is asked for.
func bundleServer(tb testing.TB) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		team := strings.TrimSuffix(path.Base(r.URL.Path), ".tar.gz")
		var out bytes.Buffer
		zip := gzip.NewWriter(&out)
		tw := tar.NewWriter(zip)
		for name, text := range map[string]string{
			"/.manifest": fmt.Sprintf(`{"revision": "%s-1", "roots": ["custom/%[1]s"]}`, team),
			"/custom/" + team + "/a.rego": "package custom." + team + "\n\n" +
				"deny contains \"not for robots\" if input.subject.id == \"robot\"\n\ndeny contains \"frozen\" if data.custom." + team + ".frozen[input.host.alias]\n",
			"/custom/" + team + "/data.json": `{"frozen": {"db1": true, "db2": true}}`,
		} {
			if err := errors.Join(tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})); err != nil {
				tb.Error(err)
			}
			_, _ = tw.Write([]byte(text))
		}
		if err := errors.Join(tw.Close(), zip.Close()); err != nil {
			tb.Error(err)
		}
		_, _ = w.Write(out.Bytes())
	}))
	tb.Cleanup(s.Close)
	return s
}

func threeBundles(tb testing.TB) []policy.Source {
	service := &policy.Service{URL: bundleServer(tb).URL, Headers: 10 * time.Second, Timeout: time.Minute}
	var all []policy.Source
	for _, team := range []string{"hours", "freeze", "robots"} {
		all = append(all, policy.Source{Name: team, Service: service, Resource: team + ".tar.gz", MinDelay: time.Hour, MaxDelay: time.Hour})
	}
	return all
}

// Three bundles of a server beside the shipped one cost little, in memory and in
// what a decision's time goes by.
func TestThreeBundles(t *testing.T) {
	site := sizedSite(10_000, 1000)
	heap := func(o policy.Options) (*policy.Engine, float64) {
		var before, after runtime.MemStats
		for range 3 { // what earlier tests left is gone only after what cleans up after them
			runtime.GC()
		}
		runtime.ReadMemStats(&before)
		o.Site = site
		e := newEngine(t, o)
		for _, line := range measured {
			decide(t, e, line)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		return e, float64(after.HeapAlloc) - float64(before.HeapAlloc)
	}
	alone, least := heap(policy.Options{})
	beside, most := heap(policy.Options{Bundles: threeBundles(t)})
	if len(beside.Revisions()) != 5 {
		t.Fatal(beside.Revisions())
	}
	t.Logf("heap %.1f MiB without, %.1f MiB with three bundles", least/(1<<20), most/(1<<20))
	if most > 1.2*least {
		t.Errorf("with three bundles it holds %.2f times the memory", most/least)
	}
	for name, line := range measured {
		without := testing.AllocsPerRun(100, func() { decide(t, alone, line) })
		with := testing.AllocsPerRun(100, func() { decide(t, beside, line) })
		t.Logf("%s: %.0f allocations without, %.0f with three bundles", name, without, with)
		if with > 1.2*without && !raceDetector {
			t.Errorf("%s: %.0f allocations with three bundles are more than 1.2 times %.0f", name, with, without)
		}
	}
}

func BenchmarkThreeBundles(b *testing.B) {
	site := sizedSite(10_000, 1000)
	for name, bundles := range map[string][]policy.Source{"without": nil, "with": threeBundles(b)} {
		e := newEngine(b, policy.Options{Site: site, Bundles: bundles})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decide(b, e, measured["pipeline"])
			}
		})
	}
}
