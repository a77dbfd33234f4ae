package sallyport.command

import data.sallyport.host

# Whoever could do something on a host may open a connection to it. What is then
# done over it is asked again, each time.
permits(op) if {
	op.action == "conn.open"
	host.usable != set()
}
