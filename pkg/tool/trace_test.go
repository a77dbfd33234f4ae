package tool

import "testing"

func TestParseTrace(t *testing.T) {
	const id, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for header, want := range map[string]Trace{
		"00-" + id + "-" + span + "-01":                                    {id, span},
		"cc-" + id + "-" + span + "-01-what-the-future-will-be-like":       {id, span},
		"cc-" + id + "-" + span + "-01":                                    {id, span},
		"":                                                                 {},
		"00-" + id + "-" + span:                                            {},
		"00-" + id + "-" + span + "-01-more":                               {},
		"cc-" + id + "-" + span + "-01.more":                               {},
		"ff-" + id + "-" + span + "-01":                                    {},
		"00-0AF7651916CD43DD8448EB211C80319C-" + span + "-01":              {},
		"00-00000000000000000000000000000000-" + span + "-01":              {},
		"00-" + id + "-0000000000000000-01":                                {},
		"00-" + id + "-" + span + "-01\n{\"decision_id\":\"another one\"}": {},
	} {
		if got := ParseTrace(header); got != want {
			t.Errorf("%q is %+v, want %+v", header, got, want)
		}
	}
}
