# METADATA
# title: Reports may be read from the database
# description: |
#   What SQL does cannot be told from a command line, so nothing is judged by it:
#   the queries that may be asked are listed word for word. Give them a database
#   user that can only read, all the same.
package custom.database_read_only

# The words of each command, by the name of the report.
reports := {
	"orders": ["psql", "-XAt", "-d", "shop", "-c", "SELECT count(*) FROM orders"],
	"sessions": ["psql", "-XAt", "-d", "shop", "-c", "SELECT state, count(*) FROM pg_stat_activity GROUP BY 1"],
}

permit contains command if {
	"database" in input.host.tags
	some op in input.ops
	some command in op.command.commands
	is_report(command)
}

# METADATA
# title: Only reports may be read from the database
deny contains {
	"code": "database_read_only",
	"title": "Only reports may be read from the database",
	"remedy": sprintf("run one of the reports word for word: %s", [concat(", ", object.keys(reports))]),
	"detail": op.engine,
} if {
	some op in input.ops
	op.action == "db.run"
	not of_report(op)
}

# of_report says that an op was read out of a command that is a report.
of_report(op) if {
	some line in input.ops
	some command in line.command.commands
	command.id == op.call
	is_report(command)
}

# A permit is for the command whatever surrounds it, so it says what may.
is_report(command) if {
	some report in reports
	command.argv == report
	command.wrappers == []
	command.assigns == []
	command.scope == []
}
