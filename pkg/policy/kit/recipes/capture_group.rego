# METADATA
# title: Packets are captured by the network team
# description: |
#   Members of the group netops may capture a bounded number of packets, as root,
#   and write no file. For all others a capture is refused whatever grants it.
package custom.capture_group

# METADATA
# title: Captures are for the network team
deny contains {
	"code": "capture_group",
	"title": "Captures are for the network team",
	"remedy": "ask the network team, or to be put into the group netops",
} if {
	some op in input.ops
	op.action == "capture.run"
	not "netops" in input.subject.groups
}

# sudo -n tcpdump -nn -c COUNT -i INTERFACE, and nothing else.
permit contains command if {
	"netops" in input.subject.groups
	some op in input.ops
	some command in op.command.commands
	regex.match(`^tcpdump -nn -c [0-9]{1,4} -i [a-z0-9]{1,15}$`, concat(" ", command.argv))
	count(command.argv) == 6
	command.dir in {"", "/usr/bin/"}
	command.wrappers == [{"program": "sudo", "dir": "", "args": ["-n"]}]
	command.assigns == []
	command.scope == []
}
