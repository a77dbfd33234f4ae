package sallyport.command

import data.sallyport.host

# Whoever could use a host may connect to it. Whether that is so, and whether the
# caller may go to a host outside of the inventory, the host's rules say.
permits(op) if {
	op.action == "conn.open"
	host.something_usable
}
