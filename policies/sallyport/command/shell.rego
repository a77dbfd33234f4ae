package sallyport.command

import data.sallyport.host
import data.sallyport.lib.grammar
import data.sallyport.lib.reason
import data.sallyport.limit

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
	some command in op.command.commands
	grammar.permits(data.sallyport.profiles.named[name], command)
	detail := sprintf("%s is in the denied profile %s", [concat(" ", command.argv), name])
}

# METADATA
# title: The command has a text that is denied on this host
# custom:
#   code: command_text_denied
#   remedy: leave it out; limits.deny_substrings of policy.yml are the operator's
deny contains reason.of(rego.metadata.rule(), part) if {
	some part in limit.own.deny_substrings
	contains(spoken, part)
}

# spoken is all that a call would say to a shell: as submitted, and the words
# that a shell makes of it, which quotes cannot hide. No text holds the null
# character, so a denied text is never found across two of them.
spoken := concat("\u0000", array.concat(
	[op.command.text | some op in input.ops],
	[concat(" ", words) | some op in input.ops; some words in words_in(op)],
))

words_in(op) := [array.concat(around(command), words_of(command)) | some command in op.command.commands] if {
	op.command
} else := [op.argv]

around(command) := [word |
	some wrapper in command.wrappers
	some word in array.concat([wrapper.program], wrapper.args)
]

words_of(command) := command.argv if {
	command.argv
} else := [word.text | some word in command.words]
