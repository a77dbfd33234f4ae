package sallyport.command

import data.sallyport.lib.reason
import data.sallyport.limit

# Texts that commands must not hold: deny_substrings of policy.yml. One that is
# the name of a program and a blank means that program, wherever it is called,
# and not a word that ends like it.

# METADATA
# title: The command has a text that is denied on this host
# custom:
#   code: command_text_denied
#   remedy: leave it out; limits.deny_substrings of policy.yml are the operator's
deny contains reason.of(rego.metadata.rule(), part) if {
	limit.own.deny_substrings != []
	some part in denied_texts
}

denied_texts contains part if {
	some op in input.ops
	text := said_by(op)
	some part in limit.own.deny_substrings
	contains(text, part)
	stands_for_itself(op, part)
}

# The program is called that a text means.
denied_texts contains part if {
	data.site.texts.programs != {}
	some op in input.ops
	some call in calls(op)
	some part in data.site.texts.programs[call.program]
	part in limit.own.deny_substrings
}

# The words of a text are there in another order or spelling.
denied_texts contains spelling.text if {
	data.site.texts.spellings != {}
	some op in input.ops
	some call in calls(op)
	some spelling in data.site.texts.spellings[call.program]
	spelling.text in limit.own.deny_substrings
	spelled(spelling, call.words)
}

# A text that means a program is found only where a word has a command line of
# its own that calls it.
stands_for_itself(_, part) if not means_program(part)

stands_for_itself(op, part) if {
	some call in calls(op)
	some word in call.words
	regex.match(data.site.texts.meaning[part].inside, word.text)
}

means_program(part) if data.site.texts.meaning[part].program != ""

spelled(spelling, words) if {
	[letter | some letter in spelling.letters; not has_letter(words, letter)] == []
	[operand | some operand in spelling.operands; not has_operand(words, operand)] == []
}

has_letter(words, letter) if {
	some word in words
	startswith(word.text, "-")
	regex.match(`^-[A-Za-z]+$`, word.text)
	contains(lower(word.text), letter)
}

has_letter(words, letter) if {
	some word in words
	startswith(lower(word.text), concat("", ["--", letter]))
}

has_operand(words, operand) if {
	some word in words
	startswith(word.text, operand)
}

# said_by is what an op would say to a shell: as submitted, and the words that a
# shell makes of it, which no quoting and spacing can hide. The null character,
# which is in no command, keeps the two apart.
said_by(op) := concat("\u0000", [op.command.text, spaced(words)]) if {
	words := strings.replace_n(unquoted, object.get(op.command, "canonical", ""))
}

said_by(op) := concat(" ", op.argv)

spaced(words) := words if {
	not regex.match(`[\t\n]|  `, words)
} else := regex.replace(words, `\s+`, " ")

# In a canonical line there are single quotes, and a backslash before each
# single quote, backslash and exclamation mark that is meant.
unquoted := {`'`: "", `\'`: "'", `\\`: `\`, `\!`: "!"}
