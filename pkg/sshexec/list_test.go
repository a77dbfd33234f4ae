package sshexec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/pkg/sshexec/sshtest"
	"github.com/sallyport/sallyport/pkg/tool"
)

func TestList(t *testing.T) {
	t.Parallel()
	onFileServers(t, func(t *testing.T, l *lab, host tool.Target) {
		dir := openDir(t)
		then := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
		for _, name := range []string{"b", "A", ".hidden", "new\nline", "not \xff UTF-8", "a"} {
			file := put(t, dir, name, name)
			give(t, host, file)
			if err := os.Chtimes(file, then.Add(time.Hour), then); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/etc/hostname", dir+"/link"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir+"/directory", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(dir+"/fifo", 0o666); err != nil {
			t.Fatal(err)
		}
		all := answerOf[tool.Listing](t, l, host, tool.List{Path: dir, Most: 100})
		var got []string
		for _, e := range all.Entries {
			got = append(got, fmt.Sprintf("%s %s %q", e.Name, e.Type, e.Link))
		}
		want := []string{
			`.hidden regular ""`, `A regular ""`, `a regular ""`, `b regular ""`, `directory directory ""`, `fifo fifo ""`,
			`link link "/etc/hostname"`, "new\nline regular \"\"", "not \xff UTF-8 regular \"\"",
		}
		if diff := cmp.Diff(want, got); diff != "" || all.Total != len(want) {
			t.Errorf("%d in all: (-want +got)\n%s", all.Total, diff)
		}
		_, uid, gid := modeAndOwner(t, dir+"/b")
		b := tool.FileEntry{
			Name: "b", Type: tool.RegularFile, Bytes: 1, Mode: "0666", UID: uid, GID: gid,
			Modified: "2020-02-03T04:05:06Z", Accessed: "2020-02-03T05:05:06Z",
		}
		page := answerOf[tool.Listing](t, l, host, tool.List{Path: dir, Offset: 3, Most: 1})
		if host.User == "tester" {
			b.Accessed = b.Modified // it tells no more
		}
		if diff := cmp.Diff(tool.Listing{Entries: []tool.FileEntry{b}, Total: len(want)}, page); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if page := answerOf[tool.Listing](t, l, host, tool.List{Path: dir, Offset: 99, Most: 1}); len(page.Entries) != 0 || page.Total != len(want) {
			t.Errorf("%+v", page)
		}
		for path, code := range map[string]tool.FailureCode{
			dir + "/none": tool.FailNotFound, dir + "/b": tool.FailNotDirectory, dir + "/link": tool.FailChanged, dir + "/fifo": tool.FailSpecialFile,
		} {
			r := l.Run(t.Context(), fileJob(host, tool.List{Path: path, Most: 1}))
			if host.User == "tester" && code == tool.FailSpecialFile {
				code = tool.FailNotDirectory
			}
			failed(t, r, tool.NotStarted, code)
		}
	})
}

func TestListIsBounded(t *testing.T) {
	t.Parallel()
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir := openDir(t)
	for i := range 300 {
		put(t, dir, fmt.Sprintf("%s%03d", strings.Repeat("n", 200), i), "")
	}
	j := fileJob(host, tool.List{Path: dir, Most: 1000})
	j.Limits.OutputBytes = 10_000
	r := l.Run(t.Context(), j)
	page, ok := r.Outputs[0].Answer.(tool.Listing)
	if !ok || len(page.Entries) != 10_000/(203+entryBytes) || page.Total != 300 {
		t.Errorf("%d entries of %d", len(page.Entries), page.Total)
	}
}

// A directory with more names than are taken is an error that says so, and what
// is done beside it goes on.
func TestListTooMany(t *testing.T) {
	l, _, host := sshd(t, sshtest.OpenSSHOptions{})
	dir, err := os.MkdirTemp("/dev/shm", "files") // in memory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for i := range mostEntries {
		if err := os.Symlink("x", filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	file := put(t, dir, "file", "hello")
	reports := make(chan tool.Report, 1)
	go func() { reports <- l.Run(t.Context(), fileJob(host, tool.List{Path: dir, Most: 1})) }()
	for range 50 {
		answerOf[tool.FileContent](t, l, host, tool.Read{Path: file})
	}
	failed(t, <-reports, tool.NotStarted, tool.FailTooLarge)
}
