# Ends every process of one task and says which it could not end.
#
# /bin/sh reads this from standard input, behind a line task=MARKER. A process
# belongs to the task if the marker stands in its environment (all children
# inherit it, also those that leave the session, and sudo keeps it) or, while
# the login shell still starts up, on its command line; if a process of the task
# is its parent; or if it is in a session that a process of the task has led.
# The last two find what was started with a new environment.
#
# It needs /proc, and grep, awk, tr, id and sleep with options that busybox has.
# It prints "uid N"; "scanned" after the first look and before the first signal;
# "survivor PID COMMAND" for what it could not end; then "done".
{
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
mark="SALLYPORT_TASK=$task"

echo "uid $(id -u)"
[ -r /proc/self/status ] || exit 3

[ "$(echo a b | awk '{ print $2 }')" = b ] || exit 3

pause=0.05 rounds=10
sleep 0.01 || pause=1 rounds=1

# marked names the files in which the marker stands. As an argument of grep, it
# would stand on grep's own command line. Some greps see nothing behind a null.
if printf 'a\0b\n' | grep -q b; then
	marked() { printf '%s\n' "$mark" | grep -ls -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline; }
else
	marked() {
		for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do
			case "$(tr '\0' '\n' <"$f")" in *"$mark"*) echo "$f" ;; esac
		done
	}
fi

# table prints the processes. It reads status and not stat, because only there
# a process cannot give itself a name that looks like another line.
table() { grep -sE '^(State|PPid|NSsid):' /proc/[0-9]*/status; }

# family reads the table and prints, between bars, the sessions that the task has
# led, its processes, and those of them that still run. It is told of the first
# two as they were, of the marked files and of the script's own process.
family='
BEGIN {
	FS = "[:\t ]+"
	n = split(led, list, " "); for (i = 1; i <= n; i++) leads[list[i]]
	n = split(known, list, " "); for (i = 1; i <= n; i++) task[list[i]]
	n = split(marked, list, " "); for (i = 1; i <= n; i++) { split(list[i], part, "/"); task[part[3]] }
}
$2 == "State" { split($1, part, "/"); p = part[3]; state[p] = $3 }
$2 == "PPid" { parent[p] = $3 }
$2 == "NSsid" { session[p] = $3 }
END {
	for (p = self; p > 1; p = parent[p]) safe[p]
	safe[1]
	for (p in task) if (!(p in state) || p in safe) delete task[p]
	do {
		grown = 0
		for (p in task) leads[p]
		for (p in state) if (!(p in task) && !(p in safe) && (parent[p] in task || session[p] in leads)) {
			task[p]
			grown = 1
		}
	} while (grown)
	for (p in leads) printf "%s ", p
	printf "|"
	for (p in task) printf "%s ", p
	printf "|"
	for (p in task) if (state[p] !~ /^[ZX]/) printf "%s ", p
	print "|"
}'

led= known= alive=
# scan brings them up to date.
scan() {
	found=$(table | awk -v led="$led" -v known="$known" -v marked="$(echo $(marked))" -v self=$$ "$family")
	led=${found%%|*} found=${found#*|}
	known=${found%%|*} found=${found#*|}
	alive=${found%|}
}

scan
echo scanned
for signal in TERM KILL; do
	i=0
	while [ "$alive" ] && [ $i -lt $rounds ]; do
		if [ $signal = KILL ] || [ $i = 0 ]; then kill -$signal $alive; fi
		if [ $signal = TERM ] && [ $i = 0 ]; then kill -CONT $alive; fi
		sleep $pause
		scan
		i=$((i + 1))
	done
done
for p in $alive; do echo "survivor $p $(tr '\0\n' '  ' <"/proc/$p/cmdline")"; done
echo "done"
} </dev/null 2>/dev/null
