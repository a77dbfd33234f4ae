package sallyport.command_test

import data.sallyport.command
import data.sallyport.lib.fixture_test as fixture

asking := fixture.ask("gateway.explain", "rules")

test_rules_are_shown[name] if {
	some name, tc in {
		"those who may reload": {"reload": {"subjects": {"agent-7": true}}, "want": true},
		"others": {"reload": {"local": true}, "want": false},
	}
	site := object.union(fixture.site, {"gateway": {"reload": tc.reload}})
	permitted_at(asking, site) == tc.want
	reasons := command.reasons with input as asking with data.site as site
	{reason.code | some reason in reasons} == {true: set(), false: {"explain_not_granted"}}[tc.want]
}

test_rules_are_shown_by_permit if {
	permit := {asking.ops[0]}
	command.permit with input as asking with data.site as fixture.site with data.custom.team.permit as permit
	reasons := command.reasons with input as asking with data.site as fixture.site with data.custom.team.permit as permit
	reasons == set()
}
