package config

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/policies"
)

// What is warned of is what the parser and the policy do.

func TestRunners(t *testing.T) {
	for _, program := range runners {
		line := program + map[string]string{"timeout": " 5"}[program] + " uptime"
		doc := shell.Parse(line)
		if doc.Canonical == "" || len(doc.Commands[0].Wrappers) != 1 || doc.Commands[0].Program != "uptime" {
			t.Errorf("%s is not looked through: %+v", line, doc.Error)
		}
	}
}

func TestOpaque(t *testing.T) {
	for _, program := range opaque {
		if doc := shell.Parse(program + " x"); doc.Canonical != "" {
			t.Errorf("%s x can be permitted", program)
		}
	}
}

func TestLooking(t *testing.T) {
	text, err := policies.Files.ReadFile("sallyport/beyond/data.yaml")
	must(t, err)
	var table map[string]any
	must(t, yaml.Unmarshal(text, &table))
	if diff := cmp.Diff(slices.Sorted(maps.Keys(table)), looking); diff != "" {
		t.Errorf("policies/sallyport/beyond and looking (-table +list):\n%s", diff)
	}
}
