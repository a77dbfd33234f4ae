package policy

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// knowledge is what a revision knows from the decisions that it has made: what
// the rules of an area evaluated to, by all that they look at. Most calls are
// alike to one before them in most of that, the same subject on the same host, or
// the same command again, so most of a decision has been made already. A rule
// looks at its input and at data and at nothing else, so what it would say is what
// it said; of the time of a decision, see [reads]. With the revision it is
// forgotten.
type knowledge struct {
	survey *survey
	rules  *ruleMemo
}

// What is known of rules, and of each small document, is bounded, in bytes.
const (
	knownRules = 8 << 20
	knownSmall = 2 << 20
)

func newKnowledge(ctx context.Context, c *ast.Compiler, store storage.Store, txn storage.Transaction) (*knowledge, error) {
	k := &knowledge{survey: newSurvey(ctx, c, store, txn, knownSmall)}
	var err error
	k.rules, err = newRuleMemo(k.survey, knownRules)
	return k, err
}

// of is what is known that bears on the input of a record. Where the input's text
// says less than what is judged, two that differ could be taken for one; of those
// nothing is known.
func (k *knowledge) of(ctx context.Context, v evaluation, rec *record) *recall {
	if rec.asWritten {
		return nil
	}
	text, err := json.Marshal(rec.input)
	if err != nil || bytes.Contains(text, notUTF8) {
		return nil
	}
	return k.rules.recall(k.survey.newMoment(ctx, v, text))
}

// notUTF8 is what encoding/json writes for bytes that are no text. The character
// of that number itself it writes as it is.
var notUTF8 = []byte(`\ufffd`)
