package sallyport.command

import data.sallyport.host
import data.sallyport.lib.reason
import data.sallyport.lib.rule

# Why no rule allows a command, where there are rules about its program.

# METADATA
# title: No rule allows these words
# custom:
#   code: command_rule
#   remedy: write it as one of the rules says, or ask the operator for another rule in policy.yml
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some command in array.slice(unpermitted, 0, 5)
	some found in array.slice(about(command), 0, 3)
	whole := reason.quoted(concat(" ", rule.all_words(command)))
	detail := sprintf("%s: %s allows %s, but %s", [whole, place(found), found.says, fault(found, command)])
}

# about are the rules about a command's program.
about(command) := [data.site.rules[id] | some id in rules_about(host.allowing, rule.key(command))]

# fault is the first thing that a rule finds wrong with a command.
fault(found, command) := sprintf("%s is a pattern", [reason.quoted(words[0])]) if {
	not command.static
	words := [word.text | some word in command.args; word.pattern]
} else := sprintf("it stands in %s, where no rule reaches", [inside(command.scope)]) if {
	command.scope != []
} else := sprintf("%s leads through . or ..", [reason.quoted(words[0])]) if {
	words := [word | some word in rule.all_words(command); rule.leads_out(word)]
	words != []
} else := rule.misfit(found, rule.spoken(command))

# inside is where a command hides.
inside(scope) := "the text of sh -c" if "shell" in scope

inside(scope) := sprintf("a construct of the shell (%s)", [concat(", ", scope)]) if not "shell" in scope
