package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/gateway"
)

// metrics is what /metrics tells, in the format of Prometheus: numbers of what the
// parts count anyway, and no word of any call.
func (s *stack) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), s.events)
	for _, m := range s.gauges() {
		opts := prometheus.Opts{Namespace: "sallyport", Name: m.name, Help: m.help}
		if m.total {
			r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts(opts), m.value))
		} else {
			r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts), m.value))
		}
	}
	r.MustRegister(revisions{s})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

type gauge struct {
	name, help string
	total      bool // it only grows
	value      func() float64
}

func (s *stack) gauges() []gauge {
	all := []gauge{
		{"decisions_total", "Decisions that policy made.", true, func() float64 { return float64(s.engine.Stats().Decisions) }},
		{"decisions_unrecorded_total", "Decisions that were refusals because they could not be put on the decision log.", true, func() float64 { return float64(s.engine.Stats().Lost) }},
		{"decisions_dropped_total", "Decisions that a drop rule of system.log left out of the decision log.", true, func() float64 { return float64(s.engine.Stats().Dropped) }},
		{"connections", "Live SSH connections.", false, func() float64 { return float64(s.runner.Stats().Connections) }},
		{"connections_dialing", "SSH connections that are being made.", false, func() float64 { return float64(s.runner.Stats().Dialing) }},
		{"ssh_sessions", "Sessions in use on all SSH connections.", false, func() float64 { return float64(s.runner.Stats().Sessions) }},
		{"jobs_running", "Commands and file operations under way.", false, func() float64 { return float64(s.runner.Stats().Running) }},
		{"jobs_waiting", "Those that wait for a connection or a session.", false, func() float64 { return float64(s.runner.Stats().Waiting) }},
		{"breakers_open", "Addresses and logins that are not tried for a while.", false, func() float64 { return float64(len(s.runner.Stats().Breakers)) }},
	}
	if s.shadow != nil {
		all = append(all,
			gauge{"shadow_judged_total", "Decisions that the policy on trial judged once more.", true, func() float64 { return float64(s.shadow.Stats().Judged) }},
			gauge{"shadow_differ_total", "Those of them that it would decide otherwise.", true, func() float64 { return float64(s.shadow.Stats().Differ) }},
			gauge{"shadow_unanswered_total", "Those to which it had no usable answer.", true, func() float64 { return float64(s.shadow.Stats().Unanswered) }},
			gauge{"shadow_unseen_total", "Decisions that it was not shown because too many waited.", true, func() float64 { return float64(s.shadow.Stats().Unseen) }},
		)
	}
	if s.upload != nil {
		all = append(all,
			gauge{"upload_sent_total", "Decisions that the collector has taken.", true, func() float64 { return float64(s.upload.State().Sent) }},
			gauge{"upload_lost_total", "Decisions that made room for others in a full buffer, or that the collector rejected.", true, func() float64 { return float64(s.upload.State().Lost) }},
			gauge{"upload_waiting_bytes", "Decisions on disk that the collector does not have yet.", false, func() float64 { return float64(s.upload.State().Waiting) }},
			gauge{"upload_failing_seconds", "For how long nothing could be handed over; 0 when the last try succeeded.", false, s.uploadFails},
		)
	}
	return all
}

func (s *stack) uploadFails() float64 {
	since := s.upload.State().Failing
	if since.IsZero() {
		return 0
	}
	return time.Since(since).Seconds()
}

// tallied is the audit stream, with its events counted by their type.
type tallied struct {
	gateway.Recorder
	events *prometheus.CounterVec
}

func newEvents() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "sallyport", Name: "events_total", Help: "Events on the audit stream: calls that were started, finished, refused, invalid, and so on.",
	}, []string{"type"})
}

func (t tallied) Write(ctx context.Context, e audit.Event) error {
	err := t.Recorder.Write(ctx, e)
	if err == nil {
		t.events.WithLabelValues(string(e.Type)).Inc()
	}
	return err
}

// revisions tells which revision of each bundle decides.
type revisions struct{ *stack }

var revisionDesc = prometheus.NewDesc("sallyport_bundle_info", "The revision of each active bundle.", []string{"name", "revision", "mode"}, nil)

var behindDesc = prometheus.NewDesc("sallyport_bundle_behind", "Bundles of which the last good revision decides because the newest is refused, or the server unreachable.", []string{"name", "state"}, nil)

func (r revisions) Describe(to chan<- *prometheus.Desc) { to <- revisionDesc; to <- behindDesc }

func (r revisions) Collect(to chan<- prometheus.Metric) {
	tell := func(mode string, active map[string]string) {
		for name, revision := range active {
			to <- prometheus.MustNewConstMetric(revisionDesc, prometheus.GaugeValue, 1, name, revision, mode)
		}
	}
	tell("live", r.engine.Revisions())
	for name, state := range r.engine.Behind() {
		to <- prometheus.MustNewConstMetric(behindDesc, prometheus.GaugeValue, 1, name, state)
	}
	if r.shadow != nil {
		tell("shadow", r.shadow.Revisions())
	}
}
