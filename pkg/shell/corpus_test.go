package shell

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// corpusCase is one line of testdata/corpus/commands-dev.jsonl.
type corpusCase struct {
	ID, Class, Command, Expect string
}

func corpus(t testing.TB) []corpusCase {
	t.Helper()
	f, err := os.Open("../../testdata/corpus/commands-dev.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []corpusCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c corpusCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("the corpus is empty")
	}
	return cases
}

func TestCorpus(t *testing.T) {
	for _, c := range corpus(t) {
		t.Run(c.ID, func(t *testing.T) {
			doc := Parse(c.Command)
			if c.Expect == "allow" && doc.Canonical == "" {
				t.Errorf("%q has no canonical form: %+v", c.Command, doc.Error)
			}
			if (doc.Canonical == "") != (doc.Error != nil && doc.Error.Code != "" && doc.Error.Message != "") {
				t.Errorf("%q: canonical %q and error %+v, want exactly one", c.Command, doc.Canonical, doc.Error)
			}
		})
	}
}
