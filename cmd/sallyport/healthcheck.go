package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/pkg/config"
)

func healthcheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a serving gateway whether it is ready; for containers",
		Long: `Over HTTP, ask /readyz of the address that the configuration listens on. Over
stdio there is nobody to ask, so the configuration is read instead. It exits
with 0 when the gateway is ready.`,
		Example:     "  sallyport healthcheck --config /app/config\n  sallyport healthcheck --config /app/config --transport http --listen 127.0.0.1:8022",
		Args:        cobra.NoArgs,
		Annotations: marked(readsConfig),
		RunE:        func(c *cobra.Command, _ []string) error { return healthcheck(c) },
	}
	addTransportFlags(c)
	return c
}

func healthcheck(c *cobra.Command) error {
	conf, err := loadOnly(c, config.Options{WithoutSecrets: true})
	if err != nil {
		return err
	}
	state := "configuration is valid"
	if err := checkTransport(c, conf.Settings); err != nil {
		return err
	}
	if conf.Settings.Transport == "http" {
		if state, err = askReady(conf.Settings.HTTP.Listen); err != nil {
			return err
		}
	}
	return print(c, map[string]string{"state": state}, func(w io.Writer) { fmt.Fprintln(w, state) })
}

// cause is the error at the bottom of one of the network.
func cause(err error) error {
	for {
		under := errors.Unwrap(err)
		if under == nil {
			return err
		}
		err = under
	}
}

func askReady(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	client := http.Client{Timeout: 5 * time.Second}
	at := net.JoinHostPort(host, port)
	resp, err := client.Get("http://" + at + "/readyz")
	if err != nil {
		return "", fmt.Errorf("no gateway answers at %s: %w (is it serving, and at http.listen?)", at, cause(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("not ready: %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return "ready", nil
}
