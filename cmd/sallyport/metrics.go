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
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/spool"
	"github.com/sallyport/sallyport/pkg/sshexec"
)

// metrics is what /metrics tells, in the format of Prometheus: numbers of what the
// parts count anyway, and no word of any call.
func (s *stack) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		s.audit.events, revisions{s},
		counts[policy.Stats]{s.engine.Stats, engineFigures}, counts[sshexec.Stats]{s.runner.Stats, runnerFigures},
	)
	if s.shadow != nil {
		r.MustRegister(counts[policy.ShadowStats]{s.shadow.Stats, shadowFigures})
	}
	if s.upload != nil {
		r.MustRegister(counts[spool.State]{s.upload.State, uploadFigures})
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// figure is one number of what a part counts.
type figure[S any] struct {
	kind       prometheus.ValueType
	name, help string
	of         func(S) float64
}

const (
	total = prometheus.CounterValue // it only grows
	now   = prometheus.GaugeValue
)

var engineFigures = []figure[policy.Stats]{
	{total, "decisions_total", "Decisions that policy made.", func(s policy.Stats) float64 { return float64(s.Decisions) }},
	{total, "decisions_unrecorded_total", "Decisions that were refusals because they could not be put on the decision log.", func(s policy.Stats) float64 { return float64(s.Lost) }},
	{total, "decisions_dropped_total", "Decisions that a drop rule of system.log left out of the decision log.", func(s policy.Stats) float64 { return float64(s.Dropped) }},
}

var runnerFigures = []figure[sshexec.Stats]{
	{now, "connections", "Live SSH connections.", func(s sshexec.Stats) float64 { return float64(s.Connections) }},
	{now, "connections_dialing", "SSH connections that are being made.", func(s sshexec.Stats) float64 { return float64(s.Dialing) }},
	{now, "ssh_sessions", "Sessions in use on all SSH connections.", func(s sshexec.Stats) float64 { return float64(s.Sessions) }},
	{now, "jobs_running", "Commands and file operations under way.", func(s sshexec.Stats) float64 { return float64(s.Running) }},
	{now, "jobs_waiting", "Those that wait for a connection or a session.", func(s sshexec.Stats) float64 { return float64(s.Waiting) }},
	{now, "breakers_open", "Addresses and logins that are not tried for a while.", func(s sshexec.Stats) float64 { return float64(len(s.Breakers)) }},
}

var shadowFigures = []figure[policy.ShadowStats]{
	{total, "shadow_judged_total", "Decisions that the policy on trial judged once more.", func(s policy.ShadowStats) float64 { return float64(s.Judged) }},
	{total, "shadow_differ_total", "Those of them that it would decide otherwise.", func(s policy.ShadowStats) float64 { return float64(s.Differ) }},
	{total, "shadow_unanswered_total", "Those to which it had no usable answer.", func(s policy.ShadowStats) float64 { return float64(s.Unanswered) }},
	{total, "shadow_unseen_total", "Decisions that it was not shown because too many waited.", func(s policy.ShadowStats) float64 { return float64(s.Unseen) }},
}

var uploadFigures = []figure[spool.State]{
	{total, "upload_sent_total", "Decisions that the collector has taken.", func(s spool.State) float64 { return float64(s.Sent) }},
	{total, "upload_lost_total", "Decisions that made room for others in a full buffer, or that the collector rejected.", func(s spool.State) float64 { return float64(s.Lost) }},
	{now, "upload_waiting_bytes", "Decisions on disk that the collector does not have yet.", func(s spool.State) float64 { return float64(s.Waiting) }},
	{now, "upload_failing_seconds", "For how long nothing could be handed over; 0 when the last try succeeded.", uploadFails},
}

func uploadFails(s spool.State) float64 {
	if s.Failing.IsZero() {
		return 0
	}
	return time.Since(s.Failing).Seconds()
}

// counts shows the figures of one part, all as they were at one moment.
type counts[S any] struct {
	take  func() S
	shown []figure[S]
}

func (c counts[S]) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

func (c counts[S]) Collect(to chan<- prometheus.Metric) {
	all := c.take()
	for _, f := range c.shown {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc("sallyport_"+f.name, f.help, nil, nil), f.kind, f.of(all))
	}
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

var behindDesc = prometheus.NewDesc("sallyport_bundle_behind", "Bundles of which the last good revision decides because the newest is refused, or the server unreachable.", []string{"name", "state", "mode"}, nil)

func (r revisions) Describe(to chan<- *prometheus.Desc) { to <- revisionDesc; to <- behindDesc }

func (r revisions) Collect(to chan<- prometheus.Metric) {
	tell := func(mode string, active, behind map[string]string) {
		for name, revision := range active {
			to <- prometheus.MustNewConstMetric(revisionDesc, prometheus.GaugeValue, 1, name, revision, mode)
		}
		for name, state := range behind {
			to <- prometheus.MustNewConstMetric(behindDesc, prometheus.GaugeValue, 1, name, state, mode)
		}
	}
	tell("live", r.engine.Revisions(), r.engine.Behind())
	if r.shadow != nil {
		tell("shadow", r.shadow.Revisions(), r.shadow.Behind())
	}
}
