package sallyport.command_test

import data.sallyport.lib.fixture_test as fixture

conn := object.union(uptime, {"ops": [{"action": "conn.open", "effect": "link", "derived": false, "call": 0}]})

facts(argv) := object.union(uptime, {"ops": [{
	"action": "host.read", "effect": "observe", "derived": false, "call": 0,
	"facet": "os", "argv": argv,
}]})

test_whoever_uses_a_host_may_connect if permitted(conn)

test_whoever_uses_a_host_may_know_what_it_runs[argv] if {
	some argv in [["uname", "-snrm"], ["cat", "/etc/os-release"], ["printenv", "SHELL"]]
	permitted(facts(argv))
}

test_no_other_words[argv] if {
	some argv in [["uname", "-snrm", "x"], ["cat", "/etc/shadow"], ["printenv"], []]
	not permitted(facts(argv))
	codes(facts(argv)) == {"action_not_granted"}
}

test_no_other_facet if {
	call := object.union(uptime, {"ops": [object.union(facts(["uname", "-snrm"]).ops[0], {"facet": "disk"})]})
	not permitted(call)
}

withheld := {
	"nothing granted": {"allow": fixture.granted({}), "deny": fixture.granted({})},
	"denied as well": {
		"allow": fixture.granted({"readonly": fixture.grant}),
		"deny": fixture.granted({"readonly": fixture.grant}),
	},
}

test_who_uses_none_does_not[name] if {
	some name, class in withheld
	some call in [conn, facts(["uname", "-snrm"])]
	not permitted_at(call, with_class(class))
}

test_everybody_closes_and_has_an_identity[action] if {
	some action in ["conn.close", "identity.read"]
	permitted(fixture.ask(action, ""))
}
