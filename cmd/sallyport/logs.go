package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/sallyport/sallyport/pkg/audit"
	"github.com/sallyport/sallyport/pkg/config"
	"github.com/sallyport/sallyport/pkg/journal"
	"github.com/sallyport/sallyport/pkg/policy"
	"github.com/sallyport/sallyport/pkg/spool"
)

// openDecisionLog opens the places that the decision log goes to; all of them take
// every line.
func (s *stack) openDecisionLog(set config.Settings, secrets func() config.Secrets, stderr io.Writer) (journal.Appender, error) {
	to, err := s.openLog(set.Logs.Decision, stderr)
	if err != nil || set.Logs.Upload.Service == "" {
		return to, err
	}
	if err := s.openUpload(set, secrets); err != nil {
		return nil, err
	}
	return journal.Tee(to, s.upload), nil
}

// openUpload has decisions wait on disk for a collector.
func (s *stack) openUpload(set config.Settings, secrets func() config.Secrets) error {
	u := set.Logs.Upload
	collector, err := policy.NewCollector(u.Service, bundleService(set.Policy.Services[u.Service], secrets), u.Resource, s.log)
	if err != nil {
		return err
	}
	s.upload, err = spool.Open(spool.Options{
		Dir: u.Buffer, MaxBytes: u.Reporting.BufferSizeLimitBytes, DropOldest: u.OnFull == "drop_oldest",
		BatchBytes: u.Reporting.UploadSizeLimitBytes,
		MinDelay:   seconds(u.Reporting.MinDelaySeconds), MaxDelay: seconds(u.Reporting.MaxDelaySeconds),
		Send:   func(ctx context.Context, batch []byte) error { return send(ctx, collector, batch) },
		Logger: s.log.With("service", u.Service),
	})
	s.closers = append(s.closers, closer(collector.Close))
	return err
}

// send tells the spool which answers will be the same another time.
func send(ctx context.Context, to *policy.Collector, batch []byte) error {
	err := to.Post(ctx, batch)
	var no *policy.NotTaken
	if errors.As(err, &no) && slices.Contains(forGood, no.Status) {
		return fmt.Errorf("%w: %w", spool.ErrRejected, err)
	}
	return err
}

// forGood are answers about what was sent, not about who sent it or when.
var forGood = []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}

type closer func()

func (c closer) Close() error {
	c()
	return nil
}

// openLog opens the places that a log goes to; all of them take every line.
func (s *stack) openLog(sink config.LogSink, stderr io.Writer) (journal.Appender, error) {
	var to []journal.Appender
	if sink.File != "" {
		f, err := journal.OpenWith(sink.File, growthOf(sink))
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, f)
		to = append(to, f)
	}
	if sink.Stderr {
		to = append(to, journal.Writer(stderr))
	}
	return journal.Tee(to...), nil
}

func growthOf(sink config.LogSink) journal.Options {
	return journal.Options{MaxBytes: sink.MaxBytes, Keep: sink.Keep}
}

func (s *stack) openAudit(conf *config.Config, stderr io.Writer) error {
	sink := conf.Settings.Logs.Audit
	o := audit.Options{File: sink.File, Journal: growthOf(sink)}
	if sink.Stderr {
		o.Writer = stderr
	}
	stream, err := audit.Open(o)
	if err != nil {
		return fmt.Errorf("audit stream: %w", err)
	}
	s.audit = tallied{stream, newEvents()}
	s.closers = append(s.closers, stream)
	return nil
}
