package main

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// nameServer is a name server on loopback that the resolver of this process
// asks until the test ends.
type nameServer struct {
	mu    sync.Mutex
	names map[string][]string
	asked map[string]int // questions for IPv4 addresses, by name
}

func startNameServer(t *testing.T, names map[string][]string) *nameServer {
	t.Helper()
	s := &nameServer{names: names, asked: map[string]int{}}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	system := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve(conn)
	}()
	t.Cleanup(func() {
		net.DefaultResolver = system
		conn.Close()
		<-done
	})
	return s
}

// point changes where a name leads.
func (s *nameServer) point(name string, to ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = to
}

// questions is how often a name was asked for.
func (s *nameServer) questions(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}

func (s *nameServer) serve(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(s.answer(buf[:n]), from)
	}
}

const (
	headerSize = 12
	typeA      = 1
	typeAAAA   = 28
)

// answer repeats the question of a query and adds the addresses of its type.
func (s *nameServer) answer(query []byte) []byte {
	end, name := headerSize, []string{}
	for query[end] != 0 {
		size := int(query[end])
		name = append(name, string(query[end+1:end+1+size]))
		end += 1 + size
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	addresses, known := s.addresses(strings.ToLower(strings.Join(name, ".")), kind)
	answer := append([]byte{}, query[:2]...)
	flags := uint16(0x8180) // a response, with recursion
	if !known {
		flags |= 3 // no such name
	}
	for _, word := range []uint16{flags, 1, uint16(len(addresses)), 0, 0} {
		answer = binary.BigEndian.AppendUint16(answer, word)
	}
	answer = append(answer, query[headerSize:end+5]...)
	for _, a := range addresses {
		answer = append(answer, 0xc0, headerSize)
		for _, word := range []uint16{kind, 1, 0, 0, uint16(a.BitLen() / 8)} {
			answer = binary.BigEndian.AppendUint16(answer, word)
		}
		answer = append(answer, a.AsSlice()...)
	}
	return answer
}

func (s *nameServer) addresses(name string, kind uint16) (of []netip.Addr, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == typeA {
		s.asked[name]++
	}
	for _, text := range s.names[name] {
		a := netip.MustParseAddr(text)
		if a.Is4() && kind == typeA || a.Is6() && kind == typeAAAA {
			of = append(of, a)
		}
	}
	return of, s.names[name] != nil
}
