package main

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A pipe is read through a file of our own, and the one given stays as it was
// for whoever else has it.
func TestPollablePipe(t *testing.T) {
	var ends [2]int
	if err := syscall.Pipe(ends[:]); err != nil {
		t.Fatal(err)
	}
	given, client := os.NewFile(uintptr(ends[0]), "given"), os.NewFile(uintptr(ends[1]), "client")
	defer given.Close()
	if _, err := client.WriteString("before"); err != nil {
		t.Fatal(err)
	}
	own, ok := pollable(given).(*os.File)
	if !ok || own == given || own.SetReadDeadline(time.Now().Add(time.Minute)) != nil {
		t.Fatalf("%v is not a file that can be polled", own)
	}
	defer own.Close()
	if flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, given.Fd(), syscall.F_GETFL, 0); flags&syscall.O_NONBLOCK != 0 {
		t.Error("the given pipe is non-blocking now")
	}
	if _, err := client.WriteString(" and after"); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if text, err := io.ReadAll(own); err != nil || string(text) != "before and after" {
		t.Errorf("read %q, %v", text, err)
	}
}

func TestPollableLeavesTheRest(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(ends[0]), "socket")
	defer socket.Close()
	defer syscall.Close(ends[1])
	for name, in := range map[string]io.Reader{"a file": file, "a socket": socket, "no file": io.MultiReader()} {
		if pollable(in) != in {
			t.Errorf("%s was opened again", name)
		}
	}
}
