package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/policy/kit"
)

func policyBenchCommand() *cobra.Command {
	var f policyEvalFlags
	rounds := 500
	c := &cobra.Command{
		Use:   "bench [BUNDLE...] --input FILE",
		Short: "Measure what decisions cost, and how much of it is yours",
		Long: `Judge each input many times, with your packages and without, and say what a
decision costs in microseconds and allocations. What a gateway does besides,
reading the call and writing the log, is not in it.

A decision of the shipped policies takes some hundred microseconds. A rule that
loops over data costs as much as there is to loop over; one that looks things up
by a key of the input costs the same however much there is.`,
		Example: "  sallyport policy bench ./night --input ./night/fixtures/restart.json",
		RunE: func(c *cobra.Command, bundles []string) error {
			if rounds < 1 {
				return usageError(fmt.Errorf("--rounds %d is not positive", rounds))
			}
			documents, err := f.documents(c)
			if err != nil {
				return err
			}
			o, err := optionsOf(c, bundles, f.site)
			if err != nil {
				return err
			}
			all, err := kit.Bench(c.Context(), o, documents, rounds)
			if err != nil {
				return err
			}
			return print(c, all, func(w io.Writer) { writeMeasured(w, all) })
		},
	}
	f.addTo(c)
	c.Flags().IntVar(&rounds, "rounds", rounds, "how often each input is judged")
	return c
}

func writeMeasured(w io.Writer, all []kit.Measured) {
	for _, m := range all {
		own := "too little to measure"
		if µs := m.P50 - m.Alone; µs >= 1 {
			own = fmt.Sprintf("%.0f µs", µs)
		}
		fmt.Fprintf(w, "%s: half take %.0f µs (%s by your packages), 99 of 100 at most %.0f µs, %d allocations, %d bytes\n",
			m.Name, m.P50, own, m.P99, m.Allocs, m.Bytes)
	}
}
