# Ends every process of one task and says which it could not end.
#
# /bin/sh reads this from standard input, behind a line task=MARKER. A process
# belongs to the task if the marker stands in its environment (all children
# inherit it, also those that leave the session) or, while the login shell still
# starts up, on its command line; if a process of the task is its parent; or if
# it is in a session that a process of the task leads. The last two find what
# sudo has started, which gets a new environment.
#
# It needs grep, tr, id and sleep with options that busybox has, and /proc. It
# prints "uid N"; "scanned" after the first look and before the first signal;
# "survivor PID COMMAND" for what it could not end; then "done".
{
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
mark="SALLYPORT_TASK=$task"

echo "uid $(id -u)"
[ -r /proc/self/status ] || exit 3

pause=0.05 rounds=10
sleep 0.01 2>/dev/null || pause=1 rounds=1

known=" " # processes of the task
led=" "   # sessions that they lead or led

is() { case "$1" in *" $2 "*) return 0 ;; esac; return 1; }

# learn takes a process into the task.
learn() {
	is "$safe" "$1" && return
	is "$known" "$1" && return
	known="$known$1 " led="$led$1 " grown=y
}

# marked names the files in which the marker stands. As an argument of grep, it
# would stand on grep's own command line.
if printf 'a\0b\n' | grep -q b; then
	marked() { printf '%s\n' "$mark" | grep -lsF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline; }
else
	marked() {
		for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do
			case "$(tr '\0' '\n' <"$f")" in *"$mark"*) echo "$f" ;; esac
		done
	}
fi

# look reads the process table into procs, as PID:STATE:PARENT, and sessions, as
# PID:SESSION. It reads status and not stat, because only there a process cannot
# give itself a name that looks like another line.
look() {
	procs= sessions= key=
	for w in $(grep -sE '^(State|PPid|NSsid):' /proc/[0-9]*/status); do
		case "$key$w" in
		/proc/*:State:) p=${w#/proc/} p=${p%%/*} key=State ;;
		/proc/*:PPid:) key=PPid ;;
		/proc/*:NSsid:) key=NSsid ;;
		State*) state=$w key= ;;
		PPid*) procs="$procs $p:$state:$w" key= ;;
		NSsid*) sessions="$sessions $p:$w" key= ;;
		esac
	done
}

# scan brings known up to date and sets alive to what of it still runs.
scan() {
	look
	was=$known known=" " alive= grown=y
	for w in $procs; do is "$was" "${w%%:*}" && known="$known${w%%:*} "; done
	for f in $(marked); do p=${f#/proc/}; learn "${p%%/*}"; done
	while [ "$grown" ]; do
		grown=
		for w in $procs; do is "$known" "${w##*:}" && learn "${w%%:*}"; done
		for w in $sessions; do is "$led" "${w#*:}" && learn "${w%%:*}"; done
	done
	for w in $procs; do
		case $w in *:[ZX]:*) ;; *) is "$known" "${w%%:*}" && alive="$alive ${w%%:*}" ;; esac
	done
}

# Neither this script nor what it runs under may be hit.
look
safe=" 1 " p=$$
while [ "${p:-0}" -gt 1 ]; do
	safe="$safe$p " up=
	for w in $procs; do case $w in "$p":*) up=${w##*:} ;; esac; done
	p=$up
done

scan
echo scanned
for signal in TERM KILL; do
	i=0
	while [ "$alive" ] && [ $i -lt $rounds ]; do
		[ $signal = TERM ] && [ $i -gt 0 ] || kill -$signal $alive
		[ $signal = TERM ] && [ $i = 0 ] && kill -CONT $alive
		sleep $pause
		scan
		i=$((i + 1))
	done
done
for p in $alive; do echo "survivor $p $(tr '\0\n' '  ' <"/proc/$p/cmdline")"; done
echo "done"
} </dev/null 2>/dev/null
