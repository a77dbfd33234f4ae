# METADATA
# title: Sallyport's policy
# description: |
#   Host, network, command and limit each have to say yes to every op of a call,
#   and nobody may object. README.md walks through it.
package sallyport

import data.sallyport.command
import data.sallyport.host
import data.sallyport.lib.reason
import data.sallyport.limit
import data.sallyport.network

# METADATA
# title: The decision
# description: |
#   What a call may do and under which limits, or why it may not. Reasons are
#   looked for only when there is something to explain.
# entrypoint: true
decision := granted if {
	granted
} else := refused

granted := {
	"allow": true,
	"reasons": [],
	"limits": limit.limits,
	"redact": {pattern | some pattern; data.custom[_].redact[pattern]},
	"record": "full",
	"approval": null,
} if {
	input.version == 1
	host.permit
	network.permit
	limit.permit
	command.permit
	count(command.deny) == 0
	[word | some word in data.custom[_].deny] == []
}

refused := {
	"allow": false,
	"reasons": sort(reasons),
	"limits": in_force,
	"redact": [],
	"record": "full",
	"approval": null,
}

# in_force are the limits that there would be without a refusal.
in_force := limit.limits

default in_force := {"seconds": 0, "output_bytes": 0, "concurrent": 0}

reasons := explained if {
	count(explained) > 0
} else := unexplained

explained := ((((host.reasons | network.reasons) | limit.reasons) | command.reasons) | command.deny) | objections

# METADATA
# title: A policy of this site forbids it
# description: |
#   A package below custom may say why in its own words. A field that it leaves
#   out is filled in from here.
# custom:
#   code: custom_denied
#   remedy: ask the team that owns the policy
objections contains reason.said(rego.metadata.rule(), name, word) if {
	some name
	some word in data.custom[name].deny
}

# METADATA
# title: No rule permits it
# custom:
#   code: not_permitted
#   remedy: ask the operator for a grant in policy.yml
unexplained contains reason.of(rego.metadata.rule(), "every part found fault with nothing, and yet not all said yes")
