package sallyport.lib.paths_test

import data.sallyport.lib.fixture_test as fixture
import data.sallyport.lib.paths

glob(text, expression, reach, below) := {
	"rule": "2", "text": text,
	"expression": expression, "reach": reach, "below": below,
}

index := fixture.index({
	"exact": {"/etc/hosts": ["0"]},
	"under": {"/srv": ["1"], "/srv/app": ["1", "3"]},
	"globs": {"/var": [
		glob("/var/*/x", "^(?s:/var/[^/]+/x)$", "^(?s:/var(/[^/]+(/x)?)?)$", false),
		glob("/var/*/y/**", "^(?s:/var/[^/]+/y(/.*)?)$", "^(?s:/var(/[^/]+(/y(/.*)?)?)?)$", true),
	]},
	"above": {"/": ["0", "1", "2"], "/etc": ["0"]},
})

face(path) := {"path": path, "under": fixture.upwards(path)}

hits := {
	"/etc/hosts": {"0"}, "/etc": set(), "/etc/hosts/x": set(),
	"/srv": {"1"}, "/srv/app": {"1", "3"}, "/srv/app/x": {"1", "3"}, "/srvx": set(), "/": set(),
	"/var/a/x": {"2"}, "/var/a/b/x": set(), "/var/a/y": {"2"}, "/var/a/y/z/z": {"2"}, "/var/a": set(),
}

test_hits[path] if {
	some path, ids in hits
	paths.hits(index, face(path)) == ids
}

covers := {
	"/etc/hosts": set(), "/srv": {"1"}, "/srv/app/x": {"1", "3"},
	"/var/a/x": set(), "/var/a/y": {"2"}, "/var/a/y/z": {"2"}, "/": set(),
}

test_covers[path] if {
	some path, ids in covers
	paths.covers(index, face(path)) == ids
}

reaches := {
	"/": {"0", "1", "2"}, "/etc": {"0"}, "/etc/hosts": set(), "/opt": set(),
	"/var": {"2"}, "/var/a": {"2"}, "/var/a/x": {"2"}, "/var/a/z": set(), "/var/a/y/z": {"2"},
}

test_reaches[path] if {
	some path, ids in reaches
	paths.reaches(index, face(path)) == ids
}

test_same if {
	paths.same(index, {"path": "/var/*/x", "under": ["/", "/var"]}) == {"2"}
	paths.same(index, {"path": "/var/?/x", "under": ["/", "/var"]}) == set()
}
