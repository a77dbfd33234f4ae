package custom.business_hours_test

import data.custom.business_hours

friday_noon := "2026-11-20T12:00:00Z"

friday_night := "2026-11-20T22:00:00Z"

saturday_noon := "2026-11-21T12:00:00Z"

test_denied[name] if {
	some name, now in {"night": friday_night, "weekend": saturday_noon}
	codes(call("inventory", now, "change")) == {"business_hours"}
}

test_not_denied[name] if {
	some name, tried in {
		"at noon": call("inventory", friday_noon, "change"),
		"a look at night": call("inventory", friday_night, "observe"),
		"the gateway itself": call("gateway", friday_night, "change"),
	}
	codes(tried) == set()
}

call(source, now, effect) := {
	"now": now,
	"host": {"source": source},
	"ops": [{"action": "service.control", "effect": effect}],
}

codes(call) := found if {
	found := {said.code | some said in business_hours.deny} with input as call
}
