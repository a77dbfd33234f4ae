package sallyport.command_test

import data.sallyport.command
import data.sallyport.lib.fixture_test as fixture

opening := fixture.call("readonly", [{"action": "conn.open", "effect": "link", "derived": false, "call": 0}])

test_open if {
	permitted(opening)
	codes(opening) == set()
}

test_open_with_files_only if {
	site := object.union(
		with_class({"allow": fixture.granted({}), "deny": fixture.granted({}), "files": {
			"allow": {"any": {"read": srv}, "groups": {}, "subjects": {}},
			"deny": fixture.granted({}),
		}}),
		{"files": {"0": fixture.file_rule({})}},
	)
	permitted_at(opening, site)
}

test_open_without_grant if {
	site := with_class({"allow": fixture.granted({}), "deny": fixture.granted({}), "files": fixture.no_files})
	not permitted_at(opening, site)
	command.reasons == set() with input as opening with data.site as site
}

test_own_affairs[action] if {
	some action in ["conn.close", "identity.read"]
	permitted(fixture.ask(action, ""))
}
