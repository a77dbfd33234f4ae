package custom.database_read_only_test

import data.custom.database_read_only

count_orders := ["psql", "-XAt", "-d", "shop", "-c", "SELECT count(*) FROM orders"]

test_report if {
	permitted(call(count_orders, {}))
	codes(call(count_orders, {})) == set()
}

test_refused[name] if {
	some name, tried in {
		"another query": call(["psql", "-XAt", "-d", "shop", "-c", "DROP TABLE orders"], {}),
		"as another user": call(count_orders, {"wrappers": [{"program": "sudo", "dir": "", "args": []}]}),
		"with a variable": call(count_orders, {"assigns": [{"name": "PGHOST", "value": "x", "static": true}]}),
		"in a substitution": call(count_orders, {"scope": ["substitution"]}),
	}
	not permitted(tried)
	codes(tried) == {"database_read_only"}
}

test_another_host if not permitted(object.union(call(count_orders, {}), {"host": {"tags": ["web"]}}))

call(argv, more) := {
	"host": {"tags": ["database"]},
	"ops": [
		{"action": "shell.run", "command": {"commands": [object.union(plain(argv), more)]}},
		{"action": "db.run", "engine": "postgres", "derived": true, "call": 0},
	],
}

plain(argv) := {"id": 0, "argv": argv, "wrappers": [], "assigns": [], "scope": []}

permitted(call) if count(database_read_only.permit) == 1 with input as call

codes(call) := found if {
	found := {said.code | some said in database_read_only.deny} with input as call
}
