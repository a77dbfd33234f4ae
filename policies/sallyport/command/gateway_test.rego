package sallyport.command_test

import data.sallyport.command
import data.sallyport.lib.fixture_test as fixture

test_anyone_may_ask[action] if {
	some action in ["gateway.list", "gateway.read", "task.read", "task.control"]
	permitted(fixture.ask(action, ""))
}

reload := fixture.ask("gateway.control", "reload")

local := object.union(reload, {"subject": {"auth": "local"}})

reloading := {
	"nobody": {"call": reload, "reload": {}, "want": false},
	"local, from afar": {"call": reload, "reload": {"local": true}, "want": false},
	"local": {"call": local, "reload": {"local": true}, "want": true},
	"local, not granted": {"call": local, "reload": {}, "want": false},
	"group": {"call": reload, "reload": {"groups": {"sre": true}}, "want": true},
	"another group": {"call": reload, "reload": {"groups": {"dba": true}}, "want": false},
	"subject": {"call": reload, "reload": {"subjects": {"agent-7": true}}, "want": true},
	"subject, switched off": {"call": reload, "reload": {"subjects": {"agent-7": false}}, "want": false},
}

test_reload[name] if {
	some name, tc in reloading
	site := object.union(fixture.site, {"gateway": {"reload": tc.reload}})
	permitted_at(tc.call, site) == tc.want
	reasons := command.reasons with input as tc.call with data.site as site
	{reason.detail | some reason in reasons} == {true: set(), false: {"reload by agent-7"}}[tc.want]
}

test_other_control if {
	call := fixture.ask("gateway.control", "stop")
	site := object.union(fixture.site, {"gateway": {"reload": {"subjects": {"agent-7": true}}}})
	not permitted_at(call, site)
	reasons := command.reasons with input as call with data.site as site
	{reason.code | some reason in reasons} == {"gateway_control_not_granted"}
}

permitted_at(call, site) if {
	command.permit with input as call with data.site as site
} else := false

# Whoever may reload the gateway may not reload services for that.
test_reload_is_of_the_gateway if {
	call := object.union(local, {"ops": fixture.ask("service.control", "reload").ops})
	site := object.union(fixture.site, {"gateway": {"reload": {"local": true}}})
	permitted_at(local, site)
	not permitted_at(call, site)
}
