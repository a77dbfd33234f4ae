package sallyport.command

import data.sallyport.lib.reason

# Why a command line as a whole is refused. What is wrong with one of its
# commands is in command_reasons.rego.

lines contains op.command if {
	some op in input.ops
	op.action == "shell.run"
	not permits(op)
	not customary(op)
}

# METADATA
# title: The command line cannot be judged
# custom:
#   code: command_not_understood
#   remedy: mend what it names; plain commands with literal words, joined by | && || or ;, are understood
reasons contains reason.of(rego.metadata.rule(), line.error.message) if some line in lines

# METADATA
# title: A construct of the shell is not permitted
# custom:
#   code: command_feature
#   remedy: write it as plain commands with literal words, joined by | && || or ;
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some line in lines
	not line.error
	some feature in line.features
	not feature in allowed_features
	not feature in redirections
	not feature in assignments
	detail := replace(feature, "_", " ")
}

# METADATA
# title: Output and input may not be redirected there
# custom:
#   code: command_redirect
#   remedy: only >/dev/null, 2>/dev/null and 2>&1 are permitted; read a file with a command that is allowed to
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some line in lines
	some feature in redirections
	feature in line.features
	detail := redirected(line)
}

# METADATA
# title: Variables may not be set
# custom:
#   code: command_assignment
#   remedy: leave the assignment out; give the value as an option or an operand
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some line in lines
	names := {assign.name | some command in line.commands; some assign in command.assigns}
	count([feature | some feature in line.features; feature in assignments]) + count(names) > 0
	detail := concat(", ", names)
}

# METADATA
# title: A word is not known before the command runs
# custom:
#   code: command_word_expands
#   remedy: write the word out, or put it in single quotes if it is meant literally
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some line in lines
	not line.error
	some command in line.commands
	some word in command.words
	some kind in word.kinds
	detail := sprintf("%s: %s", [reason.quoted(word.text), replace(kind, "_", " ")])
}

redirections := {"redirect", "redirect_both", "heredoc", "herestring"}

assignments := {"assignment", "assignment_prefix", "array"}

# redirected names the targets that are not harmless, as far as they are known.
redirected(line) := concat(", ", sort({shown |
	some redirect in array.concat(
		array.concat(line.writes, line.reads),
		[own | some command in line.commands; some own in command.redirects],
	)
	redirect.path != "/dev/null"
	not harmless(redirect)
	shown := sprintf("%s %s (descriptor %d)", [redirect.op, reason.quoted(redirect.path), redirect.fd])
}))

harmless(redirect) if {
	redirect.op == "dup"
	redirect.fd == 2
	redirect.path == "1"
}
