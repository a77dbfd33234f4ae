package sallyport.explain_test

import data.sallyport.explain
import data.sallyport.lib.fixture_test as fixture

titles(call, site) := {found.title | some found in entries} if {
	entries := explain.entries with input as call with data.site as site
}

grant(line) := {"rule": sprintf("rules[%d]", [line]), "line": line}

granting := object.union(fixture.site, {"classes": {"readonly": {
	"allow": {
		"any": {"readonly": grant(1)}, "groups": {"sre": {"ops": grant(2)}, "dba": {"x": grant(3)}},
		"subjects": {"agent-7": {"diagnose": grant(4)}, "agent-8": {"x": grant(5)}},
	},
	"deny": fixture.granted({"ops": grant(6)}),
}}})

test_grants if titles(fixture.run("readonly", [["uptime"]]), granting) == {
	"grants readonly to everybody", "grants ops to group sre", "grants diagnose to agent-7", "denies ops to everybody",
}

test_places if {
	call := fixture.run("readonly", [["uptime"]])
	entries := explain.entries with input as call with data.site as granting
	{"rule": "rules[6]", "line": 6, "title": "denies ops to everybody"} in entries
}

ruled := fixture.ruled(
	[{"programs": ["id"], "says": "id"}, {"says": "anything"}, {"programs": ["sudo"], "says": "sudo id"}],
	[{"programs": ["who"], "says": "who"}],
)

test_rules[name] if {
	some name, tc in {
		"program": {"call": fixture.run("web", [["id"]]), "want": {"id", "anything"}},
		"denied": {"call": fixture.run("web", [["who"]]), "want": {"who", "anything"}},
		"pipe": {"call": fixture.run("web", [["id"], ["who"]]), "want": {"id", "who", "anything"}},
		"wrapper": {"call": sudo_id, "want": {"id", "sudo id", "anything"}},
	}
	titles(tc.call, ruled) == {sprintf("%s %s to everybody", [verb(says), says]) | some says in tc.want}
}

sudo_id := object.union(fixture.call("web", []), {"ops": [{
	"action": "shell.run",
	"command": fixture.wrapped([["sudo", "-n"]], ["id"]),
}]})

verb("who") := "denies"

verb(says) := "allows" if says != "who"

srv := fixture.index({"rules": ["0"], "under": {"/srv": ["0"]}})

keys := fixture.index({"rules": ["1"], "under": {"/srv/keys": ["1"]}})

files := fixture.with_files(
	"readonly",
	{
		"0": fixture.file_rule({"read": ["/srv/**", "/opt/x"], "line": 3}),
		"1": fixture.file_rule({"rule": "keys", "line": 4, "read": ["/srv/keys/**"]}),
	},
	{"allow": {"any": {"read": srv}}, "deny": {"any": {"read": keys}}},
)

test_files[path] if {
	some path, want in {
		"/srv/a": {"allows to read /srv/** /opt/x"},
		"/srv/keys/a": {"allows to read /srv/** /opt/x", "denies to read /srv/keys/**"},
		"/etc/passwd": set(),
	}
	titles(fixture.call("readonly", [fixture.op("file.read", path)]), files) == want | {"grants readonly to everybody"}
}

adhoc(rule, class) := {
	"rule": rule, "line": 7, "says": rule, "hosts": [], "anywhere": true, "networks": {}, "ports": {"22": true},
	"users": {}, "keys": {}, "any_way": true, "via": {}, "class": class,
}

connecting(deny) := object.union(fixture.site, {
	"adhoc": [adhoc("lab", "readonly"), adhoc("never", "")],
	"connect": {"allow": object.union(fixture.nobody, {"any": [0]}), "deny": object.union(fixture.nobody, {"any": deny})},
})

outside := object.union(
	fixture.call("box", [{"action": "conn.open", "effect": "link", "derived": false, "call": 0}]),
	{"host": {"alias": "box", "source": "adhoc"}},
)

through := object.union(fixture.run("readonly", [["uptime"]]), {"host": {"via": [{
	"alias": "box", "hostname": "box.example", "port": 22, "user": "x", "source": "adhoc", "addresses": [],
}]}})

test_connections[name] if {
	some name, tc in {
		"let": {"call": outside, "deny": [], "want": {"lets the caller connect to lab", "grants readonly to everybody"}},
		"forbidden": {"call": outside, "deny": [1], "want": {"forbids to connect to never"}},
		"on the way": {
			"call": through, "deny": [],
			"want": {"lets the caller connect to lab", "grants readonly to everybody"},
		},
	}
	titles(tc.call, connecting(tc.deny)) == tc.want
}

allowances(call, site) := found if found := explain.allowances with input as call with data.site as site

test_allowances if {
	said := allowances(fixture.run("web", [["id"]]), ruled)
	[rule.says | some rule in said.rules] == ["id", "anything"]
	said.places == []
	read := allowances(fixture.call("readonly", [fixture.op("file.read", "/x")]), files)
	read.files == {"read": ["/opt/x", "/srv/**"], "write": []}
	[place.rule | some place in allowances(outside, connecting([])).places] == ["lab"]
}
