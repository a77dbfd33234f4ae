package sallyport.command_test

import data.sallyport.lib.fixture_test as fixture

conn := object.union(uptime, {"ops": [{"action": "conn.open", "effect": "link", "derived": false, "call": 0}]})

test_whoever_uses_a_host_may_connect if permitted(conn)

test_who_uses_none_does_not[name] if {
	some name, class in no_use
	not permitted_at(conn, with_class(class))
}

test_everybody_closes_and_has_an_identity[action] if {
	some action in ["conn.close", "identity.read"]
	permitted(fixture.ask(action, ""))
}
