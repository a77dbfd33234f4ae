package kit

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/sallyport/sallyport/pkg/policy"
)

// Measured is what a decision costs.
type Measured struct {
	Name   string  `json:"name"`
	Rounds int     `json:"rounds"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
	Allocs uint64  `json:"allocs"`
	Bytes  uint64  `json:"bytes"`
	// Alone is the median of the same without the team's packages.
	Alone float64 `json:"p50_us_alone"`
}

// NamedDocument is a document and what to call it.
type NamedDocument struct {
	Name     string
	Document policy.Document
}

var errNothing = errors.New("there is nothing to measure: give at least one input")

// Bench measures how long decisions on documents take under a policy, and how
// much of that is due to the team's packages, by asking in turn an engine with
// them and one without.
func Bench(ctx context.Context, with policy.Options, documents []NamedDocument, rounds int) ([]Measured, error) {
	if len(documents) == 0 {
		return nil, errNothing
	}
	without := with
	without.Custom = nil
	var engines [2]*policy.Engine
	for i, o := range []policy.Options{with, without} {
		e, err := policy.New(ctx, o)
		if err != nil {
			return nil, err
		}
		defer e.Close(ctx)
		engines[i] = e
	}
	var all []Measured
	for _, d := range documents {
		m, err := measure(ctx, engines, d, rounds)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// warmUp is how many rounds are not counted.
const warmUp = 20

func measure(ctx context.Context, engines [2]*policy.Engine, d NamedDocument, rounds int) (Measured, error) {
	m := Measured{Name: d.Name, Rounds: rounds}
	var took [2][]time.Duration
	for round := range warmUp + rounds {
		for i, e := range engines {
			begun := time.Now()
			if _, err := e.Ask(ctx, d.Document); err != nil {
				return m, err
			}
			if round >= warmUp {
				took[i] = append(took[i], time.Since(begun))
			}
		}
	}
	m.P50, m.P99 = percentile(took[0], 50), percentile(took[0], 99)
	m.Alone = percentile(took[1], 50)
	m.Allocs, m.Bytes = allocations(func() { _, _ = engines[0].Ask(ctx, d.Document) })
	return m, ctx.Err()
}

// allocations are those of one call, on average.
func allocations(call func()) (count, bytes uint64) {
	const calls = 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		call()
	}
	runtime.ReadMemStats(&after)
	return (after.Mallocs - before.Mallocs) / calls, (after.TotalAlloc - before.TotalAlloc) / calls
}

// percentile is in microseconds.
func percentile(took []time.Duration, p int) float64 {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return float64(took[min(len(took)-1, len(took)*p/100)].Nanoseconds()) / 1000
}
