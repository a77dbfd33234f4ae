package sallyport.lib.reason_test

import data.sallyport.lib.reason

annotation := {"title": "T", "custom": {"code": "c", "remedy": "r"}}

test_of if {
	reason.of(annotation, "d") == {"code": "c", "title": "T", "remedy": "r", "detail": "d"}
}

test_said[name] if {
	some name, tc in {
		"all": {
			"word": {"code": "x", "title": "X", "remedy": "do", "detail": "d"},
			"want": {"code": "x", "title": "X", "remedy": "do", "detail": "d"},
		},
		"part, and not of text": {
			"word": {"detail": 5, "extra": true},
			"want": {"code": "c", "title": "T", "remedy": "r", "detail": "5"},
		},
		"text": {"word": "no", "want": {"code": "c", "title": "T", "remedy": "r", "detail": "custom.team: no"}},
		"number": {"word": 5, "want": {"code": "c", "title": "T", "remedy": "r", "detail": "custom.team: 5"}},
	}
	reason.said(annotation, "team", tc.word) == tc.want
}

test_quoted if reason.quoted("a\"b") == `"a\"b"`

test_quoted_long if {
	long := concat("", ["x" | some _ in numbers.range(1, 101)])
	reason.quoted(long) == sprintf(`"%s"...`, [substring(long, 0, 100)])
}
