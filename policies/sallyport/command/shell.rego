package sallyport.command

import data.sallyport.host
import data.sallyport.lib.grammar
import data.sallyport.lib.reason

# Constructs of the shell that leave each command to be judged by itself.
allowed_features := {"pipe", "and", "or", "sequence", "redirect_null", "redirect_dup", "glob"}

permits(op) if {
	op.action == "shell.run"
	line := op.command
	line.canonical
	line.certainty in {"static", "pattern"}
	[feature | some feature in line.features; not feature in allowed_features] == []
	line.commands != []
	[command | some command in line.commands; not permitted(command)] == []
}

permitted(command) if {
	some name in host.granted
	grammar.permits(data.sallyport.profiles.named[name], command)
}

permitted(command) if command in data.custom[_].permit

# METADATA
# title: A rule denies this command
# custom:
#   code: command_denied
#   remedy: leave it out; the operator decided that it is not for you on this host
deny contains reason.of(rego.metadata.rule(), detail) if {
	some name in host.denied
	some op in input.ops
	some command in commands_of(op)
	grammar.permits(data.sallyport.profiles.named[name], command)
	detail := sprintf("%s is in the denied profile %s", [called(command), name])
}

# commands_of are the commands that an op consists of or amounts to.
commands_of(op) := op.command.commands

commands_of(op) := equivalents(op) if {
	op.place == "host"
	not op.derived
}
