// Package sshexec runs allowed jobs on hosts over SSH. It is the only way to a
// host, and the only package that knows golang.org/x/crypto/ssh.
//
// [New] makes an [Executor]; [Executor.Run] takes a [tool.Job], whose target and
// steps have been judged, and gives back a [tool.Report]. Connections are
// pooled: jobs of one subject on one host with the same login share them, and
// hops are connections like others. [Trust] decides which host keys are
// believed; a [Login] is asked for once a connection.
//
// What it promises:
//
//   - Only what was judged is sent: the canonical form of a command line, or
//     words quoted so that no shell reads them otherwise. Only the judged address
//     is dialled, as a literal, also behind hops.
//   - The outcome is one of three. A command whose exit was seen has finished.
//     One that provably was not sent has not started, and only such a one is
//     sent again, over another session or connection. Everything else is
//     unknown, and is never run again.
//   - A stop (time limit, cancellation, disconnect, shutdown, far too much
//     output) ends the command's whole process tree or lists what survived. It
//     works from a second session, for which every connection keeps room. Out of
//     its reach are processes that empty their environment and leave their
//     parent and session at once, what a service manager or a container engine
//     starts on the command's behalf, and hosts without /proc; of the last it
//     says so.
//   - Both output streams are always drained and counted; memory is bounded by
//     the job's cap.
//   - No address is tried so often that sshd would lock the gateway out.
//   - Nothing outlives [Executor.Close].
//
// It does not resolve names, judge commands, hold credentials or write logs of
// record; it never allocates a terminal, forwards an agent or writes a
// known_hosts file.
package sshexec
