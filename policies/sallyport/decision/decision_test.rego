package sallyport.decision_test

import data.sallyport
import data.sallyport.lib.fixture_test as fixture

uptime := fixture.run("readonly", [["uptime"]])

decide(call, custom) := decision if {
	decision := sallyport.decision with input as call with data.site as fixture.site with data.custom as custom
}

test_allowed if {
	decide(uptime, {}) == {
		"allow": true, "reasons": [],
		"limits": {"seconds": 60, "output_bytes": 1048576, "concurrent": 2},
		"redact": set(), "record": "full", "approval": null,
	}
}

test_refused if {
	decision := decide(fixture.run("readonly", [["id"]]), {})
	object.remove(decision, ["reasons"]) == {
		"allow": false, "limits": {"seconds": 60, "output_bytes": 1048576, "concurrent": 2},
		"redact": [], "record": "full", "approval": null,
	}
	fixture.codes(decision) == {"command_program"}
}

test_refused_without_limits if {
	decide(object.union(uptime, {"host": {"alias": "x"}}), {}).limits == {"seconds": 0, "output_bytes": 0, "concurrent": 0}
}

# Each of the four has a veto.
test_each_is_asked[code] if {
	some code, call in {
		"host_unknown": object.union(uptime, {"host": {"alias": "x"}}),
		"host_kind": object.union(uptime, {"host": {"kind": "network"}}),
		"network_unresolved": object.union(uptime, {"network": {"address": ""}}),
		"limit_concurrent": object.union(uptime, {"usage": {"running": {"host": 2}}}),
		"command_program": fixture.run("readonly", [["id"]]),
	}
	decision := decide(call, {})
	not decision.allow
	code in fixture.codes(decision)
}

test_all_reasons_are_given if {
	call := object.union(fixture.run("readonly", [["id"]]), {"network": {"address": ""}})
	fixture.codes(decide(call, {})) == {"network_unresolved", "command_program"}
}

test_denied_text if {
	site := object.union(fixture.site, {"hosts": {"readonly": {"limits": {"deny_substrings": ["upt"]}}}})
	decision := sallyport.decision with input as uptime with data.site as site
	not decision.allow
	fixture.codes(decision) == {"command_text_denied"}
}

test_custom_denies[name] if {
	some name, word in {
		"words": {"code": "night", "title": "t", "remedy": "r", "detail": "d"},
		"text": "not at night",
		"nothing": {},
		"false": false,
		"null": null,
	}
	decision := decide(uptime, {"team": {"deny": {word}}})
	not decision.allow
	count(decision.reasons) == 1
}

test_custom_denies_in_its_words if {
	word := {"code": "night", "title": "t", "remedy": "r", "detail": "d"}
	decide(uptime, {"team": {"deny": {word}}}).reasons == [word]
}

test_custom_is_silent if decide(uptime, {"team": {"deny": set(), "other": 1}}).allow

test_custom_redacts if {
	decide(uptime, {"a": {"redact": {"x"}}, "b": {"redact": {"y"}}}).redact == {"x", "y"}
}

# Whatever version an input has that is not this one, it is not understood.
test_version if {
	decision := decide(object.union(uptime, {"version": 2}), {})
	not decision.allow
	fixture.codes(decision) == {"not_permitted"}
}

test_empty_input if {
	decision := sallyport.decision with input as {} with data.site as fixture.site
	not decision.allow
}

test_empty_site if {
	decision := sallyport.decision with input as uptime with data.site as {}
	not decision.allow
}
