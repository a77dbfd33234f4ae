package custom.team_paths_test

import data.custom.team_paths

test_denied[name] if {
	some name, tried in {
		"another team's": call(["web"], "/srv/data/x", ["/", "/srv", "/srv/data", "/srv/data/x"]),
		"alike by its text": call(["web"], "/srv/website/x", ["/", "/srv", "/srv/website", "/srv/website/x"]),
		"not known": call(["web"], "", []),
		"no team": call([], "/srv/web/x", ["/", "/srv", "/srv/web", "/srv/web/x"]),
	}
	codes(tried) == {"team_paths"}
}

test_own if codes(call(["data", "web"], "/srv/web/x", ["/", "/srv", "/srv/web", "/srv/web/x"])) == set()

call(groups, path, under) := {
	"subject": {"groups": groups},
	"ops": [{"action": "file.write", "path": path, "under": under}],
}

codes(call) := found if {
	found := {said.code | some said in team_paths.deny} with input as call
}
