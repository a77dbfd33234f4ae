# METADATA
# title: Which ops a call may consist of
# description: |
#   Each op needs somebody who permits it. There is one file for each noun;
#   what none of them knows is refused.
package sallyport.command

import data.sallyport.host
import data.sallyport.lib.reason

permit if {
	input.ops != []
	[op | some op in input.ops; not permits(op); not customary(op)] == []
	[op | some op in withheld; not customary(op)] == []
	[profile | some profile in host.denied; not data.sallyport.profiles.named[profile]] == []
}

# What was read out of a command line is permitted by what permits the command,
# but for files that are withheld.
permits(op) if {
	op.derived
	some line in input.ops
	some command in line.command.commands
	command.id == op.call
}

# customary says that a custom package permits what nobody here does. It cannot
# permit what the gateway did not understand.
customary(op) if {
	op in data.custom[_].permit
	understood(op)
}

understood(op) if op.action != "shell.run"

understood(op) if op.command.canonical

# METADATA
# title: Nothing permits this
# custom:
#   code: action_not_granted
#   remedy: use ssh_run with a command that a granted profile has, or ask the operator
reasons contains reason.of(rego.metadata.rule(), op.action) if {
	some op in input.ops
	not op.action in {"shell.run", "conn.open", "gateway.list", "gateway.read", "gateway.control", "gateway.explain"}
	not explained_file(op)
	not permits(op)
	not customary(op)
}

# METADATA
# title: A rule names a profile that does not exist
# custom:
#   code: profile_unknown
#   remedy: tell the operator; nothing can be judged by it
reasons contains reason.of(rego.metadata.rule(), name) if {
	some name in (host.granted | host.denied)
	not data.sallyport.profiles.named[name]
}
