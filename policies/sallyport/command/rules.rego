package sallyport.command

import data.sallyport.host
import data.sallyport.lib.reason
import data.sallyport.lib.rule

# Rules of policy.yml that say which words a command may have, beside the
# profiles. They are found by the program, so that it does not matter how many
# there are.

permitted(command) if {
	data.site.rules != {}
	said := rule.spoken(command)
	some id in rules_about(host.allowing, rule.key(command))
	rule.allows(data.site.rules[id], said)
}

rules_about(held, program) := [id | some rules in held; some key in [program, ""]; some id in rules[key]]

# METADATA
# title: A rule denies these words
# custom:
#   code: command_rule_denied
#   remedy: leave it out; the operator decided that it is not for you on this host
deny contains reason.of(rego.metadata.rule(), detail) if {
	data.site.rules != {}
	some op in input.ops
	some call in calls(op)
	ids := rules_about(host.denying, call.program)
	ids != []
	heard := rule.heard(call, moves(op))
	some id in ids
	found := data.site.rules[id]
	rule.denies(found, heard)
	detail := sprintf("%s: %s denies %s", [called(call), place(found), found.says])
}

# moves says that the line of an op changes its directory.
moves(op) if {
	some command in op.command.commands
	command.program in {"cd", "chdir", "pushd", "popd"}
} else := false

# place is where a rule stands.
place(found) := sprintf("%s (policy.yml:%d)", [found.rule, found.line])

# calls are the calls of programs that an op comes to, in a container, too.
calls(op) := array.concat(
	[call | some command in commands_of(op); some call in rule.calls(command)],
	[call | some call in called_inside(op.argv)],
)

called_inside(argv) := array.concat([call(argv[0], array.slice(argv, 1, count(argv)))], hidden) if {
	words := regex.split(`[^A-Za-z0-9._/+=-]+`, concat(" ", argv))
	hidden := [call(word, words) | base(argv[0]) in runners; some word in words]
}

call(program, words) := {"program": base(program), "dir": "", "words": [{"text": word} | some word in words]}

base(program) := regex.replace(program, `^.*/`, "")

# What these run in a container is somewhere in their words.
runners := {
	"sh", "bash", "dash", "ash", "ksh", "zsh", "busybox", "env", "sudo", "doas", "su", "gosu", "su-exec", "nice", "nohup",
	"timeout", "setsid", "stdbuf", "xargs", "chroot", "tini", "dumb-init",
}
