package mcpserver

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/sallyport/sallyport/pkg/tool"
)

func BenchmarkReadMessage(b *testing.B) {
	raw := modern.rawCall(1, "ssh_run", run("uptime"))
	b.ReportAllocs()
	for b.Loop() {
		if _, refused := readMessage(raw); refused != nil {
			b.Fatal(refused.message)
		}
	}
}

// BenchmarkCall is what a call costs beside the gateway, one at a time.
func BenchmarkCall(b *testing.B) {
	s := New(Options{Name: "sallyport", Gateway: quick{}, Logger: slog.New(slog.DiscardHandler)})
	raw := append(modern.rawCall(1, "ssh_run", run("uptime")), '\n')
	b.Run("stdio", func(b *testing.B) {
		in, toServer := io.Pipe()
		fromServer, out := io.Pipe()
		served := make(chan error)
		go func() { served <- s.ServeStdio(b.Context(), tool.Caller{Subject: "me"}, in, out) }()
		answers := bufio.NewReader(fromServer)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := toServer.Write(raw); err != nil {
				b.Fatal(err)
			}
			if _, err := answers.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
		}
		toServer.Close()
		<-served
	})
	b.Run("http", func(b *testing.B) {
		h, err := s.Handler(HTTPOptions{Listen: "127.0.0.1:0"})
		if err != nil {
			b.Fatal(err)
		}
		server := httptest.NewServer(h)
		defer server.Close()
		b.ReportAllocs()
		for b.Loop() {
			r, _ := http.NewRequest(http.MethodPost, server.URL+"/mcp", bytes.NewReader(raw))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(mcp.HeaderProtocolVersion, string(modern))
			r.Header.Set(mcp.HeaderMethod, "tools/call")
			r.Header.Set(mcp.HeaderName, "ssh_run")
			response, err := server.Client().Do(r)
			if err != nil || response.StatusCode != http.StatusOK {
				b.Fatal(response, err)
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	})
}
