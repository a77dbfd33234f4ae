package sallyport.command_test

import data.sallyport.lib.fixture_test as fixture

facts(argv) := object.union(uptime, {"ops": [{
	"action": "host.read", "effect": "observe", "derived": false, "call": 0,
	"facet": "os", "argv": argv,
}]})

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

test_words_of_another_action if {
	call := object.union(uptime, {"ops": [object.union(facts(["uname", "-snrm"]).ops[0], {"action": "container.run"})]})
	not permitted(call)
}

no_use := {
	"nothing granted": {"allow": fixture.granted({}), "deny": fixture.granted({})},
	"denied as well": {
		"allow": fixture.granted({"readonly": fixture.grant}),
		"deny": fixture.granted({"readonly": fixture.grant}),
	},
}

test_who_uses_none_knows_nothing[name] if {
	some name, class in no_use
	not permitted_at(facts(["uname", "-snrm"]), with_class(class))
}
