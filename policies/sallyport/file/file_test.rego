package sallyport.file_test

import data.sallyport.file
import data.sallyport.lib.fixture_test as fixture

srv := fixture.index({"rules": ["0"], "under": {"/srv": ["0"]}})

rules := {"0": fixture.file_rule({})}

# holding is a site where something about files is said to somebody.
holding(kind, holders) := fixture.with_files("readonly", rules, {kind: holders})

reading := fixture.op("file.read", "/srv/a")

call := fixture.call("readonly", [reading])

said_to := {
	"any": {"holders": {"any": {"read": srv}}, "want": true},
	"subject": {"holders": {"subjects": {"agent-7": {"read": srv}}}, "want": true},
	"group": {"holders": {"groups": {"sre": {"read": srv}}}, "want": true},
	"other subject": {"holders": {"subjects": {"agent-8": {"read": srv}}}, "want": false},
	"other group": {"holders": {"groups": {"dba": {"read": srv}}}, "want": false},
	"nobody": {"holders": {}, "want": false},
}

test_allowed_to[name] if {
	some name, tc in said_to
	site := holding("allow", tc.holders)
	governed(site) == tc.want
	granted(reading, site) == tc.want
}

test_denied_to[name] if {
	some name, tc in said_to
	denials := file.denials(reading) with input as call with data.site as holding("deny", tc.holders)
	denials == {true: {["/srv/a", "0"]}, false: set()}[tc.want]
}

test_no_rules if not governed(fixture.site)

test_another_host if {
	other := fixture.call("ops", [reading])
	not file.governs with input as other with data.site as holding("allow", {"any": {"read": srv}})
}

governed(site) if {
	file.governs with input as call with data.site as site
} else := false

granted(op, site) if {
	file.granted(op) with input as call with data.site as site
} else := false

test_verbs[action] if {
	some action, want in {"file.read": true, "file.list": true, "file.write": false}
	granted(fixture.op(action, "/srv/a"), holding("allow", {"any": {"read": srv}})) == want
}

test_verb_of_writing[action] if {
	some action, want in {"file.read": false, "file.list": false, "file.write": true}
	granted(fixture.op(action, "/srv/a"), holding("allow", {"any": {"write": srv}})) == want
}

globbed := fixture.index({
	"rules": ["0"], "exact": {"/etc/hosts": ["0"]},
	"globs": {"/srv": [{
		"rule": "0", "text": "/srv/*.log", "expression": "^(?s:/srv/[^/]*\\.log)$",
		"reach": "^(?s:/srv(/[^/]*\\.log)?)$", "below": false,
	}]},
})

# A tree has to be granted as one, and so has what a pattern stands for.
wide := {
	"tree": {"op": object.union(reading, {"recursive": true}), "index": srv, "want": true},
	"pattern": {"op": object.union(reading, {"pattern": true}), "index": srv, "want": true},
	"tree at a file": {
		"op": object.union(fixture.op("file.read", "/etc/hosts"), {"recursive": true}),
		"index": globbed, "want": false,
	},
	"pattern that is granted": {"op": pattern("/srv/*.log", {}), "index": globbed, "want": true},
	"pattern that is another": {"op": pattern("/srv/a*.log", {}), "index": globbed, "want": false},
	"trees of a pattern": {"op": pattern("/srv/*.log", {"recursive": true}), "index": globbed, "want": false},
	"file": {"op": fixture.op("file.read", "/srv/a.log"), "index": globbed, "want": true},
}

pattern(path, fields) := object.union(
	object.union(fixture.op("file.read", path), {"pattern": true, "under": ["/", "/srv"]}),
	fields,
)

test_wide[name] if {
	some name, tc in wide
	granted(tc.op, holding("allow", {"any": {"read": tc.index}})) == tc.want
}

# What denies something below, denies the whole.
above := fixture.index({
	"rules": ["0"], "under": {"/srv/a/b": ["0"]},
	"above": {"/": ["0"], "/srv": ["0"], "/srv/a": ["0"]},
})

test_wide_denials[name] if {
	some name, tc in {
		"file": {"op": reading, "want": set()},
		"tree": {"op": object.union(reading, {"recursive": true}), "want": {["/srv/a", "0"]}},
		"pattern": {"op": pattern("/srv/a*", {}), "want": {["/srv/a*", "0"]}},
		"at it": {"op": fixture.op("file.read", "/srv/a/b"), "want": {["/srv/a/b", "0"]}},
		"tree below it": {
			"op": object.union(fixture.op("file.read", "/srv/a/b/c"), {"recursive": true}),
			"want": {["/srv/a/b/c", "0"]},
		},
		"tree beside it": {"op": object.union(fixture.op("file.read", "/srv/b"), {"recursive": true}), "want": set()},
	}
	denials := file.denials(tc.op) with input as call with data.site as holding("deny", {"any": {"read": above}})
	denials == tc.want
}

# Both ends of a link count.
links := {
	"inside": {"op": fixture.leading(reading, "/srv/b"), "granted": true, "denials": {["/srv/a", "0"], ["/srv/b", "0"]}},
	"outside": {"op": fixture.leading(reading, "/etc/shadow"), "granted": false, "denials": {["/srv/a", "0"]}},
	"into": {
		"op": fixture.leading(fixture.op("file.read", "/tmp/a"), "/srv/a"), "granted": false,
		"denials": {["/srv/a", "0"]},
	},
}

test_links[name] if {
	some name, tc in links
	granted(tc.op, holding("allow", {"any": {"read": srv}})) == tc.granted
	denials := file.denials(tc.op) with input as call with data.site as holding("deny", {"any": {"read": srv}})
	denials == tc.denials
}

release := fixture.index({"rules": ["0"], "exact": {"/etc/os-release": ["0"]}})

test_customary_link[path] if {
	some path, want in {"/usr/lib/os-release": true, "/usr/lib/shadow": false}
	op := fixture.leading(fixture.op("file.read", "/etc/os-release"), path)
	granted(op, holding("allow", {"any": {"read": release}})) == want
}

bounded := {
	"small": {"op": fixture.at(reading, {"bytes": 10}), "rule": {"max_bytes": 10}, "want": true},
	"large": {"op": fixture.at(reading, {"bytes": 11}), "rule": {"max_bytes": 10}, "want": false},
	"of a size that nobody knows": {"op": reading, "rule": {"max_bytes": 10}, "want": true},
	"large list": {"op": fixture.at(listing, {"bytes": 11}), "rule": {"max_bytes": 10}, "want": true},
	"pipe": {"op": fixture.at(reading, {"type": "fifo"}), "rule": {}, "want": false},
	"pipe that is permitted": {"op": fixture.at(reading, {"type": "fifo"}), "rule": {"special": true}, "want": true},
	"pipe in a list": {"op": fixture.at(listing, {"type": "fifo"}), "rule": {}, "want": true},
	"what is not there": {"op": fixture.at(reading, {"type": "", "exists": false}), "rule": {}, "want": true},
	"two names": {"op": fixture.at(reading, {"links": 2}), "rule": {}, "want": false},
	"nobody knows how many names": {"op": fixture.at(reading, {"links": 0}), "rule": {}, "want": false},
	"two names that are permitted": {"op": fixture.at(reading, {"links": 2}), "rule": {"hard_links": true}, "want": true},
	"two names of a directory": {"op": fixture.at(reading, {"links": 2, "type": "directory"}), "rule": {}, "want": true},
	"two names in a list": {"op": fixture.at(listing, {"links": 2}), "rule": {}, "want": true},
}

listing := fixture.op("file.list", "/srv/a")

test_bounds[name] if {
	some name, tc in bounded
	site := fixture.with_files(
		"readonly",
		{"0": fixture.file_rule(tc.rule)},
		{"allow": {"any": {"read": srv}}},
	)
	granted(tc.op, site) == tc.want
}

test_bounded_write[bytes] if {
	some bytes, want in {"10": true, "11": false}
	writing := object.union(fixture.op("file.write", "/srv/a"), {"content": {"bytes": to_number(bytes), "digest": ""}})
	site := fixture.with_files(
		"readonly",
		{"0": fixture.file_rule({"max_bytes": 10})},
		{"allow": {"any": {"write": srv}}},
	)
	granted(fixture.at(writing, {"bytes": 99}), site) == want
}

# Another rule may allow what one does not.
test_two_rules if {
	two := fixture.index({"rules": ["0", "1"], "under": {"/srv": ["0", "1"]}})
	site := fixture.with_files(
		"readonly",
		{"0": fixture.file_rule({"max_bytes": 1}), "1": fixture.file_rule({})},
		{"allow": {"any": {"read": two}}},
	)
	granted(fixture.at(reading, {"bytes": 10}), site)
}

test_unknown[name] if {
	relative := fixture.op("file.read", "a")
	some name, tc in {
		"where something is allowed": {"kind": "allow", "verb": "write", "want": true},
		"where such is denied": {"kind": "deny", "verb": "read", "want": true},
		"where other is denied": {"kind": "deny", "verb": "write", "want": false},
	}
	unknown(relative, holding(tc.kind, {"any": {tc.verb: srv}})) == tc.want
}

test_known if not unknown(reading, holding("allow", {"any": {"read": srv}}))

test_nothing_unknown_without_rules if not unknown(fixture.op("file.read", "a"), fixture.site)

unknown(op, site) if {
	file.unknown(op) with input as call with data.site as site
} else := false

test_shown if {
	shown("read", holding("allow", {"any": {"read": srv}})) == "/srv/**"
	shown("write", holding("allow", {"any": {"read": srv}})) == "nothing"
}

test_shown_in_part if {
	many := {"0": fixture.file_rule({"read": [sprintf("/srv/%02d", [i]) | some i in numbers.range(1, 14)]})}
	said := shown("read", fixture.with_files("readonly", many, {"allow": {"any": {"read": srv}}}))
	startswith(said, "/srv/01 /srv/02")
	endswith(said, "/srv/12 and 2 more")
}

shown(verb, site) := text if {
	text := file.shown(verb) with input as call with data.site as site
}

test_concerns[name] if {
	some name, tc in {
		"file": {"op": reading, "want": true},
		"in a container": {"op": object.union(reading, {"place": "container"}), "want": false},
		"no file": {"op": {"action": "shell.run"}, "want": false},
	}
	concerns(tc.op) == tc.want
}

concerns(op) if {
	file.concerns(op)
} else := false

# A path of which it is not known where it leads is granted nowhere.
test_unknown_is_not_granted if {
	not granted(fixture.op("file.read", "a"), holding("allow", {"any": {"read": srv}}))
}

test_of_the_host_only if {
	inside := object.union(reading, {"place": "container"})
	file.ops == [reading] with input as fixture.call("readonly", [inside, reading])
}
