package policy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/open-policy-agent/opa/v1/plugins/rest"
)

// Collector is a service that takes decision logs in OPA's form.
type Collector struct {
	service  *Service
	resource string
	client   rest.Client

	connecting sync.Mutex
	connected  *http.Client // nil until it is needed
}

// NewCollector is the collector at a path of a service, which has a name for
// messages. Nothing is asked of it yet.
func NewCollector(name string, s *Service, resource string, logger *slog.Logger) (*Collector, error) {
	c := &Collector{service: s, resource: resource}
	var err error
	c.client, err = s.client(name, c, logger)
	return c, err
}

// NotTaken is the answer of a collector that did not take what it was sent.
type NotTaken struct{ Status int } // of HTTP

func (n *NotTaken) Error() string {
	return fmt.Sprintf("it answers %d %s", n.Status, http.StatusText(n.Status))
}

// Post hands over a batch, a gzip'ed JSON array of events. It returns nil once the
// collector has taken it, and a [NotTaken] where it said that it does not.
func (c *Collector) Post(ctx context.Context, batch []byte) error {
	limited, cancel := context.WithTimeoutCause(ctx, c.service.Timeout, errSlow)
	defer cancel()
	resp, err := c.client.WithHeader("Content-Type", "application/json").WithHeader("Content-Encoding", "gzip").
		WithBytes(batch).Do(limited, http.MethodPost, c.resource)
	if err != nil {
		return causeOf(limited, ctx, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return &NotTaken{resp.StatusCode}
	}
	return nil
}

// NewClient is OPA's hook for how to connect, once for all batches. A collector
// that sends on to elsewhere has not taken anything.
func (c *Collector) NewClient(config rest.Config) (*http.Client, error) {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	if c.connected != nil {
		return c.connected, nil
	}
	client, _, err := c.service.connect(config)
	if err != nil {
		return nil, err
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.connected = client
	return client, nil
}

// Prepare is OPA's hook for who asks.
func (c *Collector) Prepare(req *http.Request) error { return c.service.sign(req) }

// Close lets go of connections that are kept for the next batch.
func (c *Collector) Close() {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	if c.connected != nil {
		c.connected.CloseIdleConnections()
	}
}
