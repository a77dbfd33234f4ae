package sallyport.host_test

import data.sallyport.host
import data.sallyport.lib.fixture_test as fixture

uptime := fixture.run("readonly", [["uptime"]])

grant := {"readonly": fixture.grant}

granting := {
	"any": {"any": grant, "groups": {}, "subjects": {}},
	"subject": {"any": {}, "groups": {}, "subjects": {"agent-7": grant}},
	"group": {"any": {}, "groups": {"sre": grant}, "subjects": {}},
}

withholding := {
	"nobody": {"any": {}, "groups": {}, "subjects": {}},
	"another subject": {"any": {}, "groups": {}, "subjects": {"agent-8": grant}},
	"another group": {"any": {}, "groups": {"dba": grant}, "subjects": {}},
}

none := {"any": {}, "groups": {}, "subjects": {}}

test_granted[name] if {
	some name, grants in granting
	site := replaced({"allow": grants, "deny": none})
	host.permit with input as uptime with data.site as site
	host.granted == {"readonly"} with input as uptime with data.site as site
	host.denied == set() with input as uptime with data.site as site
}

test_not_granted[name] if {
	some name, grants in withholding
	site := replaced({"allow": grants, "deny": none})
	not host.permit with input as uptime with data.site as site
	reasons := host.reasons with input as uptime with data.site as site
	{reason.code | some reason in reasons} == {"host_not_granted"}
	{reason.detail | some reason in reasons} == {"agent-7 on readonly"}
}

by_rules := {
	"any": commands({"any": {"uptime": ["0.0"]}}),
	"subject": commands({"subjects": {"agent-7": {"uptime": ["0.0"]}}}),
	"group": commands({"groups": {"sre": {"uptime": ["0.0"]}}}),
}

commands(held) := object.union(none, {"commands": object.union(none, held)})

# Who is allowed commands may use the host, and ask about it; what is denied is
# for the commands.
test_granted_by_rules[name] if {
	some name, grants in by_rules
	site := replaced({"allow": grants, "deny": by_rules.any})
	every call in [uptime, about({})] {
		host.permit with input as call with data.site as site
		host.reasons == set() with input as call with data.site as site
	}
	call := uptime
	host.allowing == [{"uptime": ["0.0"]}] with input as call with data.site as site
	host.denying == [{"uptime": ["0.0"]}] with input as call with data.site as site
}

test_not_granted_by_rules[name] if {
	some name, grants in {
		"nobody": commands({}),
		"another subject": commands({"subjects": {"agent-8": {"uptime": ["0.0"]}}}),
		"another group": commands({"groups": {"dba": {"uptime": ["0.0"]}}}),
	}
	site := replaced({"allow": grants, "deny": none})
	not permitted(uptime, site)
	reasons := host.reasons with input as uptime with data.site as site
	{reason.code | some reason in reasons} == {"host_not_granted"}
}

test_denied[name] if {
	some name, grants in granting
	site := replaced({"allow": none, "deny": grants})
	host.denied == {"readonly"} with input as uptime with data.site as site
}

# replaced is site data in which the host's class is another one.
replaced(class) := object.union(
	object.remove(fixture.site, ["classes"]),
	{"classes": object.union(object.remove(fixture.site.classes, ["readonly"]), {"readonly": class})},
)

test_unknown_host if {
	call := fixture.run("web9", [["uptime"]])
	not host.permit with input as call with data.site as fixture.site
	codes(call) == {"host_unknown"}
}

test_source if {
	call := changed({"source": "elsewhere"})
	not host.permit with input as call with data.site as fixture.site
	codes(call) == {"host_source"}
}

test_kind[kind] if {
	some kind in ["", "network", "windows", "restricted"]
	call := changed({"kind": kind})
	not host.permit with input as call with data.site as fixture.site
	codes(call) == {"host_kind"}
}

test_hop[name] if {
	some name, tc in {
		"granted to all": {"alias": "ops", "class": {"allow": granting.any, "deny": none}, "codes": set()},
		"granted to subject": {"alias": "ops", "class": {"allow": granting.subject, "deny": none}, "codes": set()},
		"granted by rules": {"alias": "ops", "class": {"allow": by_rules.group, "deny": none}, "codes": set()},
		"granted to group": {"alias": "ops", "class": {"allow": granting.group, "deny": none}, "codes": set()},
		"not granted": {"alias": "ops", "class": {"allow": none, "deny": none}, "codes": {"host_hop_not_granted"}},
		"not in the inventory": {"alias": "x", "class": {}, "codes": {"host_hop_not_granted"}},
	}
	call := changed(hop({"alias": tc.alias}))
	site := object.union(
		object.remove(fixture.site, ["classes"]),
		{"classes": object.union(
			object.remove(fixture.site.classes, ["ops"]),
			{"ops": object.union({"files": fixture.no_files}, tc.class)},
		)},
	)
	permitted(call, site) == no(tc.codes)
	reasons := host.reasons with input as call with data.site as site
	tc.codes == {reason.code | some reason in reasons}
}

test_task if host.permit with input as fixture.ask("task.read", "status") with data.site as fixture.site

test_own[action] if {
	some action in ["conn.close", "identity.read"]
	host.permit with input as fixture.ask(action, "") with data.site as fixture.site
}

test_gateway if {
	call := fixture.ask("gateway.list", "hosts")
	host.permit with input as call with data.site as fixture.site
	codes(call) == set()
}

about(fields) := object.union(uptime, {
	"host": fields,
	"ops": fixture.ask("gateway.read", "host").ops,
})

asking := {
	"granted": {"class": {"allow": granting.any, "deny": none}, "codes": set()},
	"granted to a group": {"class": {"allow": granting.group, "deny": none}, "codes": set()},
	"nothing granted": {"class": {"allow": none, "deny": none}, "codes": {"host_not_granted"}},
	"granted to another": {
		"class": {"allow": withholding["another subject"], "deny": none},
		"codes": {"host_not_granted"},
	},
	"denied as well": {"class": {"allow": granting.any, "deny": granting.subject}, "codes": {"host_denied"}},
	"another profile is denied": {
		"class": {"allow": granting.any, "deny": {"any": {"ops": fixture.grant}, "groups": {}, "subjects": {}}},
		"codes": set(),
	},
}

# ruled has rules on commands, which are found by the program.
ruled(allow, deny, rules) := object.union(
	replaced({"allow": commands_of(allow), "deny": commands_of(deny)}),
	{"rules": rules},
)

commands_of(by_program) := object.union(none, {"commands": {"any": by_program, "groups": {}, "subjects": {}}})

asking_by_rule := {
	"a program": {"deny": {}, "codes": set()},
	"a program that is denied": {"deny": {"uptime": ["simple"]}, "codes": {"host_denied"}},
	"all programs are denied": {"deny": {"": ["all"]}, "codes": {"host_denied"}},
	"some words of it are denied": {"deny": {"uptime": ["words"]}, "codes": set()},
	"another program is denied": {"deny": {"df": ["simple"]}, "codes": set()},
}

test_asking_by_rule[name] if {
	some name, tc in asking_by_rule
	site := ruled({"uptime": ["allowed"]}, tc.deny, {
		"allowed": {"kind": "simple", "all": false},
		"simple": {"kind": "simple", "all": false},
		"words": {"kind": "structured", "all": false},
		"all": {"kind": "glob", "all": true},
	})
	call := about({})
	permitted(call, site) == no(tc.codes)
	reasons := host.reasons with input as call with data.site as site
	tc.codes == {reason.code | some reason in reasons}
}

test_asking_about_a_host[name] if {
	some name, tc in asking
	call := about({})
	permitted(call, replaced(tc.class)) == no(tc.codes)
	reasons := host.reasons with input as call with data.site as replaced(tc.class)
	tc.codes == {reason.code | some reason in reasons}
}

test_asking_about_a_host_that_is_not_there if {
	call := about({"alias": "web9"})
	not host.permit with input as call with data.site as fixture.site
	codes(call) == {"host_unknown"}
}

test_asking_about_a_host_out_of_reach[code] if {
	some code, fields in {
		"host_kind": {"kind": "network"},
		"host_hop_not_granted": hop({"alias": "x"}),
	}
	call := about(fields)
	not host.permit with input as call with data.site as fixture.site
	codes(call) == {code}
}

test_mixed[name] if {
	some name, call in {
		"command in the gateway": object.union(uptime, {"host": {"source": "gateway"}}),
		"gateway on a host": object.union(uptime, {"ops": fixture.ask("gateway.list", "hosts").ops}),
		"question and command": object.union(uptime, {"ops": array.concat(
			uptime.ops,
			fixture.ask("gateway.read", "host").ops,
		)}),
	}
	not host.permit with input as call with data.site as fixture.site
	codes(call) == {"host_mixed"}
}

changed(fields) := object.union(uptime, {"host": fields})

permitted(call, site) if {
	host.permit with input as call with data.site as site
} else := false

codes(call) := {reason.code | some reason in reasons} if {
	reasons := host.reasons with input as call with data.site as fixture.site
}

no(codes) := count(codes) == 0

# What asks for nothing is permitted nothing.
test_nothing[name] if {
	some name, call in {
		"in the gateway": fixture.ask("gateway.list", "hosts"),
		"on a host where nothing is granted": uptime,
	}
	site := replaced({"allow": none, "deny": none, "files": fixture.no_files})
	not permitted(object.union(call, {"ops": []}), site)
}
