package main

import (
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/pkg/tools"
)

// The README has a row for each tool and each resource.
func TestReadmeNamesEveryTool(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for i, name := range strings.Split(cells[1], "`") {
			if i%2 == 1 {
				rows[name] = true
			}
		}
	}
	for _, def := range tools.All() {
		if !rows[def.Name] {
			t.Errorf("no row for %s", def.Name)
		}
	}
	for _, r := range tools.Resources() {
		name, _, _ := strings.Cut(strings.TrimSuffix(r.URI, "/tags"), " ")
		if !rows[name] {
			t.Errorf("no row for %s", name)
		}
	}
}
