package sallyport.limit_test

import data.sallyport.lib.fixture_test as fixture
import data.sallyport.limit

uptime := fixture.run("readonly", [["uptime"]])

limits(fields) := object.union(fixture.limits, fields)

cases := {
	"quiet": {"usage": {}, "limits": {}, "codes": set()},
	"one more": {"usage": usage(1, 29), "limits": {}, "codes": set()},
	"full": {"usage": usage(2, 0), "limits": {}, "codes": {"limit_concurrent"}},
	"too often": {"usage": usage(0, 30), "limits": {}, "codes": {"limit_rate"}},
	"both": {"usage": usage(5, 99), "limits": {}, "codes": {"limit_concurrent", "limit_rate"}},
	"no limit": {"usage": usage(5, 99), "limits": {"concurrent": 0, "calls_per_minute": 0}, "codes": set()},
}

usage(running, calls) := {"running": {"host": running}, "calls_last_minute": {"subject": calls}}

test_cases[name] if {
	some name, tc in cases
	call := object.union(uptime, {"usage": tc.usage})
	site := object.union(fixture.site, {"hosts": {"readonly": {"limits": limits(tc.limits)}}})
	permitted(call, site) == no(tc.codes)
	reasons := limit.reasons with input as call with data.site as site
	tc.codes == {reason.code | some reason in reasons}
}

test_of_the_host if {
	site := object.union(fixture.site, {"hosts": {"readonly": {"limits": {"seconds": 5}}}})
	got := limit.limits with input as uptime with data.site as site
	got == {"seconds": 5, "output_bytes": 1048576, "concurrent": 2}
}

test_of_the_gateway if {
	site := object.union(fixture.site, {"limits": {"seconds": 7}})
	got := limit.limits with input as fixture.ask("gateway.list", "hosts") with data.site as site
	got.seconds == 7
}

test_of_a_host_outside if {
	site := object.union(fixture.site, {"limits": {"seconds": 7}})
	call := object.union(uptime, {"host": {"source": "adhoc"}})
	got := limit.limits with input as call with data.site as site
	got.seconds == 7
}

test_undefined if {
	call := fixture.run("web9", [["uptime"]])
	not limit.permit with input as call with data.site as fixture.site
	reasons := limit.reasons with input as call with data.site as fixture.site
	{reason.code | some reason in reasons} == {"limit_undefined"}
}

# What the site does not limit, nobody else makes unlimited.
test_undefined_with_custom if {
	call := fixture.run("web9", [["uptime"]])
	custom := {"a": {"limits": {"seconds": 5}}}
	not limit.limits with input as call with data.site as fixture.site with data.custom as custom
}

# A custom package can only narrow.
test_custom[name] if {
	some name, tc in {
		"narrower": {"custom": {"a": {"limits": {"seconds": 5}}}, "want": [5, 1048576, 2]},
		"wider": {"custom": {"a": {"limits": {"seconds": 500, "concurrent": 9}}}, "want": [60, 1048576, 2]},
		"no limit": {"custom": {"a": {"limits": {"seconds": 0}}}, "want": [60, 1048576, 2]},
		"the smallest": {
			"custom": {"a": {"limits": {"seconds": 9}}, "b": {"limits": {"seconds": 8, "output_bytes": 1}}},
			"want": [8, 1, 2],
		},
	}
	got := limit.limits with input as uptime with data.site as fixture.site with data.custom as tc.custom
	got == {"seconds": tc.want[0], "output_bytes": tc.want[1], "concurrent": tc.want[2]}
}

# Limits that nobody can read refuse, rather than leave the wider ones in force.
test_custom_malformed[name] if {
	some name, said in {
		"negative": {"seconds": -5},
		"misspelt": {"secs": 5},
		"a string": {"seconds": "5"},
		"a fraction": {"seconds": 5.5},
		"a list": [1],
		"a number": 5,
	}
	custom := {"team": {"limits": said}}
	not permitted_with(custom)
	reasons := limit.reasons with input as uptime with data.site as fixture.site with data.custom as custom
	{reason.code | some reason in reasons} == {"limit_malformed"}
}

test_custom_well_formed if permitted_with({"team": {"limits": {"seconds": 5, "calls_per_minute": 100}}})

permitted_with(custom) if {
	limit.permit with input as uptime with data.site as fixture.site with data.custom as custom
} else := false

test_custom_rate if {
	call := object.union(uptime, {"usage": usage(0, 5)})
	custom := {"a": {"limits": {"calls_per_minute": 5}}}
	not limit.permit with input as call with data.site as fixture.site with data.custom as custom
}

test_no_limit_anywhere if {
	site := object.union(fixture.site, {"hosts": {"readonly": {"limits": limits({"seconds": 0})}}})
	custom := {"a": {"limits": {"concurrent": 1}}}
	got := limit.limits with input as uptime with data.site as site with data.custom as custom
	got == {"seconds": 0, "output_bytes": 1048576, "concurrent": 1}
}

permitted(call, site) if {
	limit.permit with input as call with data.site as site
} else := false

no(codes) := count(codes) == 0

# Without a limit of its own a package changes none.
test_custom_without_a_limit if {
	limit.permit with input as uptime with data.site as fixture.site with data.custom as {"a": {"limits": {"seconds": 0}}}
}
