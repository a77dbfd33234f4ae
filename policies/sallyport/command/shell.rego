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

# METADATA
# title: The command has a text that is denied on this host
# custom:
#   code: command_text_denied
#   remedy: leave it out; limits.deny_substrings of policy.yml are the operator's
deny contains reason.of(rego.metadata.rule(), part) if {
	parts := limit.own.deny_substrings
	parts != []
	some op in input.ops
	text := said_by(op)
	some part in parts
	contains(text, part)
}

# said_by is what an op would say to a shell: as submitted, and the words that a
# shell makes of it, which no quoting can hide. The null character, which is in
# no command, keeps the two apart.
said_by(op) := concat("\u0000", [op.command.text, strings.replace_n(unquoted, object.get(op.command, "canonical", ""))])

said_by(op) := concat(" ", op.argv)

# In a canonical line there are single quotes, and a backslash before each
# single quote, backslash and exclamation mark that is meant.
unquoted := {`'`: "", `\'`: "'", `\\`: `\`, `\!`: "!"}
