package sallyport.command

import data.sallyport.host
import data.sallyport.lib.grammar
import data.sallyport.lib.reason
import data.sallyport.lib.rule

# Why one command of a line is refused. Each command that no granted profile
# permits is held against every table of the granted profiles that has it.

# refused are the commands to explain: those whose words are known, if the
# caller may run anything at all.
refused contains command if {
	count(host.granted) > 0
	some command in array.slice(unpermitted, 0, 5)
}

# A line has up to 64 commands; what is wrong with the first few is enough to
# learn from. What a tool does with a file is explained as the command that it
# amounts to.
unpermitted := array.concat(
	[command |
		some line in lines
		line.certainty in {"static", "pattern"}
		some command in line.commands
		not permitted(command)
	],
	unreadable,
)

# METADATA
# title: The program is in nothing that you are granted
# custom:
#   code: command_program
#   remedy: use one of the programs that are
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some command in array.slice(unpermitted, 0, 5)
	count(sources) > 0
	not known(command)
	about(command) == []
	has := concat(", ", [reason.quoted(program) | some program in sort(programs)])
	detail := sprintf("%s is not in %s, which has %s", [unheard(command), concat(", ", sources), has])
}

# unheard is the program that nothing speaks of: what is run, or else what runs it.
unheard(command) := sprintf("%s around %s", [reason.quoted(rule.key(command)), called(command)]) if {
	command.wrappers != []
	command.program in programs
} else := called(command)

# sources are what grants the caller programs: profiles, and rules.
sources := array.concat(sort(host.granted), ["the rules of policy.yml" | host.allowing != []])

programs contains program if {
	some table, _ in held
	some program, _ in data.sallyport.profiles.commands[table]
}

programs contains program if {
	some rules in host.allowing
	some program, _ in rules
}

# METADATA
# title: A program may not be called from there
# custom:
#   code: command_directory
#   remedy: call it by its name alone, or in /bin/ or /usr/bin/
reasons contains reason.of(rego.metadata.rule(), called(command)) if {
	some command in refused
	known(command)
	not command.dir in {"", "/bin/", "/usr/bin/"}
}

# METADATA
# title: What runs the command is not permitted to
# custom:
#   code: command_wrapper
#   remedy: >-
#     run the command by itself, or in a profile with wrappers as sudo -n, timeout SECONDS or nice -n N;
#     at most two, none twice, sudo outermost
reasons contains reason.of(rego.metadata.rule(), detail) if {
	some command in refused
	some i, wrapper in command.wrappers
	[name | some name in host.granted; wrapper_fits(name, command.wrappers, i)] == []
	detail := sprintf("%s around %s; %s permits %s", [
		reason.quoted(concat(" ", array.concat([wrapper.program], wrapper.args))),
		called(command),
		profiles,
		wrappers_permitted,
	])
}

# held gives the granted profiles with a command table, by table.
held[table] contains name if {
	some name in host.granted
	some table in data.sallyport.profiles.named[name].commands
}

profiles := concat(", ", sort(host.granted))

known(command) if {
	some table, _ in held
	data.sallyport.profiles.commands[table][command.program]
}

# called is how a command calls its program.
called(command) := reason.quoted(concat("", [command.dir, object.get(command, "program", "")]))

wrapper_fits(name, wrappers, i) if grammar.wrapper_fits(data.sallyport.profiles.named[name], wrappers, i)

wrappers_permitted := concat(", ", wrappers) if {
	wrappers := {wrapper |
		some name in host.granted
		some wrapper in data.sallyport.profiles.named[name].wrappers
	}
	count(wrappers) > 0
} else := "none"
