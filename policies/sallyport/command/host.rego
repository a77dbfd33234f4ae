package sallyport.command

import data.sallyport.host

# Whoever could do something on a host may know what it runs. These are all the
# words that are used to find out.
permits(op) if {
	op.action == "host.read"
	op.facet == "os"
	op.argv in {["uname", "-snrm"], ["cat", "/etc/os-release"], ["printenv", "SHELL"]}
	host.something_usable
}
