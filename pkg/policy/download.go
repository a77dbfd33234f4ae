package policy

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/download"
	"github.com/open-policy-agent/opa/v1/logging"
	"github.com/open-policy-agent/opa/v1/plugins/rest"
)

// downloads are OPA's downloaders, one for each bundle that a server has.
type downloads struct {
	mu    sync.Mutex
	e     *Engine
	all   []*downloader
	ended bool
}

// downloader asks for one bundle, with OPA's own code: when, with which ETag,
// how long the server may hold its answer back.
type downloader struct {
	e      *Engine
	source Source
	loader loader
	heard  chan struct{} // closed at the first answer
	first  sync.Once
}

// loader is what OPA's two downloaders have in common.
type loader interface {
	Start(context.Context)
	Stop(context.Context)
	SetCache(etag string)
}

// patience is how long a start waits for servers. Without them it goes on, and
// whatever is asked is refused.
const patience = 5 * time.Second

// begin asks for all bundles and waits for the first answers.
func (d *downloads) begin(ctx context.Context, e *Engine) error {
	d.e = e
	for _, s := range e.set.remote() {
		d.all = append(d.all, &downloader{e: e, source: s, heard: make(chan struct{})})
	}
	if err := d.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, one := range d.all {
		select {
		case <-one.heard:
		case <-ctx.Done():
		}
	}
	return nil
}

func (d *downloads) start() error {
	for _, one := range d.all {
		l, err := one.newLoader()
		if err != nil {
			return fmt.Errorf("bundle %s: %w", one.source.Name, err)
		}
		one.loader = l
		l.SetCache(d.e.etag(one.source.Name))
		l.Start(context.Background())
	}
	return nil
}

// again has every server asked at once.
func (d *downloads) again() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	d.halt()
	if err := d.start(); err != nil {
		d.e.logger.Error("bundles are not asked for any more", "problem", err)
	}
}

func (d *downloads) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.halt()
	d.ended = true
}

func (d *downloads) halt() {
	for _, one := range d.all {
		if one.loader != nil {
			one.loader.Stop(context.Background())
			one.loader = nil
		}
	}
}

func (d *downloader) newLoader() (loader, error) {
	client, err := d.client()
	if err != nil {
		return nil, err
	}
	config, err := d.source.polling()
	if err != nil {
		return nil, err
	}
	v, err := d.e.seal.verification(d.source)
	if err != nil {
		return nil, err
	}
	if d.source.Service.OCI {
		store, err := d.ociStore()
		if err != nil {
			return nil, err
		}
		return download.NewOCI(config, client, d.source.Resource, store).WithCallback(d.heardOf).
			WithBundleVerificationConfig(v).WithSizeLimitBytes(d.source.limit()).
			WithBundlePersistence(true).WithBundleParserOpts(parserOptions()), nil
	}
	return download.New(config, client, d.source.Resource).WithCallback(d.heardOf).
		WithBundleVerificationConfig(v).WithSizeLimitBytes(d.source.limit()).WithBundleName(d.source.Name).
		WithBundlePersistence(true).WithBundleParserOpts(parserOptions()), nil
}

// ociStore is where OPA puts together what a registry gives; it begins empty, so
// that it does not grow for ever. It is made here, because OPA panics where it
// cannot.
func (d *downloader) ociStore() (string, error) {
	if d.e.set.kept.dir == "" {
		return "", nil // OPA makes one, and removes it
	}
	dir := filepath.Join(d.e.set.kept.dir, "oci", d.source.Name)
	return dir, errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700))
}

// polling is when to ask, in OPA's words.
func (s Source) polling() (download.Config, error) {
	seconds := func(d time.Duration) *int64 {
		if d == 0 {
			return nil
		}
		n := int64(d / time.Second)
		return &n
	}
	c := download.Config{Polling: download.PollingConfig{
		MinDelaySeconds: seconds(s.MinDelay), MaxDelaySeconds: seconds(s.MaxDelay), LongPollingTimeoutSeconds: seconds(s.LongPoll),
	}}
	return c, c.ValidateAndInjectDefaults()
}

// client is OPA's, with this downloader to make its connections.
func (d *downloader) client() (rest.Client, error) {
	return d.source.Service.client(d.source.Name, d, d.e.logger)
}

// discreetLogger has OPA not log requests and answers, which may hold what
// nobody should read.
type discreetLogger struct{ opaLogger }

func (discreetLogger) GetLevel() logging.Level { return logging.Info }

func (l discreetLogger) WithFields(fields map[string]any) logging.Logger {
	return discreetLogger{l.opaLogger.WithFields(fields).(opaLogger)}
}

// heardOf takes what a download came to. After an error OPA asks again, soon and
// then less and less often; what decides is not asked for again.
func (d *downloader) heardOf(ctx context.Context, u download.Update) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	defer d.first.Do(func() { close(d.heard) })
	err := d.took(ctx, u)
	if err != nil {
		d.loader.SetCache(d.e.etag(d.source.Name))
	}
	return err
}

func (d *downloader) took(ctx context.Context, u download.Update) error {
	name := d.source.Name
	switch {
	case u.Error != nil:
		kind, err := d.why(u.Error)
		return d.e.failed(name, kind, err)
	case u.Bundle == nil:
		d.e.unchanged(name)
		return nil
	}
	raw, err := io.ReadAll(u.Raw)
	if err != nil {
		return err
	}
	return d.e.arrived(ctx, name, newFetched(raw, u.ETag))
}

// why is what kept a download from a good end: the way, or what came. It leaves
// out addresses to which the server sent us on, which may hold what only we
// should know.
func (d *downloader) why(err error) (Kind, error) {
	var asked *url.Error
	var status download.HTTPError
	switch {
	case errors.As(err, &status):
		err = fmt.Errorf("it answers %d %s", status.StatusCode, http.StatusText(status.StatusCode))
	case errors.As(err, &asked):
		err = asked.Err
	case !d.source.Service.OCI || strings.HasPrefix(err.Error(), pulled):
		return Refused, d.source.refusal(err)
	}
	return Unreachable, fmt.Errorf("%s: %s", d.source.where(), message(err))
}

// pulled begins OPA's errors about what a registry gave, as against those about
// asking it.
const pulled = "unexpected error"

// refusal is why what a server gave is no bundle to be taken, as OPA says it.
func (s Source) refusal(err error) error {
	faults := s.faults(err)
	for i, f := range faults {
		if strings.Contains(f.Message, "signature") || strings.Contains(f.Message, "verification key") || strings.Contains(f.Message, "digest mismatch") {
			f = signatureFault(err)
			f.Name, f.Bundle = s.Name, s.where()
			faults[i] = f
		}
	}
	return faults
}

// NewClient is OPA's hook for how to connect.
func (d *downloader) NewClient(c rest.Config) (*http.Client, error) {
	client, base, err := d.source.Service.connect(c)
	if err != nil {
		return nil, err
	}
	base.DisableCompression = true // an archive that a server calls compressed would arrive without its own compression
	client.Transport = whole{base, d.source}
	return client, nil
}

// Prepare is OPA's hook for who asks. OPA asks for changes of a bundle, too, where a
// server has them; what is signed and judged here are whole ones.
func (d *downloader) Prepare(req *http.Request) error {
	if wish := req.Header.Get("Prefer"); wish != "" {
		req.Header.Set("Prefer", strings.Replace(wish, "modes=snapshot,delta", "modes=snapshot", 1))
	}
	return d.source.Service.sign(req)
}

// whole gives an answer when it is there to its end, in time and in bounds: what
// is cut off, trickles or unpacks without end comes to nothing.
type whole struct {
	base   http.RoundTripper
	source Source
}

var (
	errCut      = errors.New("the answer ends before its end")
	errSlow     = errors.New("the answer takes too long")
	errInsecure = errors.New("it sends on to an address without TLS")
)

func (w whole) RoundTrip(req *http.Request) (*http.Response, error) {
	service := w.source.Service
	if strings.HasPrefix(service.URL, "https:") && req.URL.Scheme != "https" {
		return nil, errInsecure
	}
	ctx, cancel := context.WithTimeoutCause(req.Context(), service.Timeout+w.source.LongPoll, errSlow)
	defer cancel()
	resp, err := w.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, causeOf(ctx, req.Context(), err)
	}
	defer resp.Body.Close()
	data, err := w.read(resp.Body)
	if err != nil {
		return nil, causeOf(ctx, req.Context(), err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, nil
}

// causeOf is why an answer did not come, where it is we who did not wait.
func causeOf(own, callers context.Context, err error) error {
	if own.Err() != nil && callers.Err() == nil {
		return context.Cause(own)
	}
	return err
}

func (w whole) read(body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, w.source.limit()+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errCut
	case err != nil:
		return nil, err
	case int64(len(data)) > w.source.limit():
		return nil, errTooLarge
	}
	return data, w.unpacks(data)
}

// unpacks looks at an archive to its end, before anybody holds what is in it.
func (w whole) unpacks(data []byte) error {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return nil
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, w.source.limit()+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	case n > w.source.limit():
		return errTooLarge
	}
	return err
}
