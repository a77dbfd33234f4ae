// Package sshexec runs allowed jobs on hosts over SSH. It is the only way to a
// host, and the only package that knows golang.org/x/crypto/ssh and
// github.com/pkg/sftp.
//
// [New] makes an [Executor]; [Executor.Run] takes a [tool.Job], whose target and
// steps have been judged, and gives back a [tool.Report]. [Executor.Copy] takes
// two, the halves of a copy from host to host. Connections are
// pooled: jobs of one subject on one host with the same login share them, and
// hops are connections like others. [Trust] decides which host keys are
// believed; a [Login] is asked for once a connection.
//
// A connection on which a command has run keeps one session open and unused, so
// that the next command, stop or file takes one round trip to begin instead of
// two. For about half a minute behind the last command, a host sees a session on
// which nothing is asked for. It is one of those that the host allows at once, and
// whoever needs a session takes it first. A host that closes it, opens none beside
// others or takes no command on it is asked for sessions as they are needed.
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
// Steps with files go over SFTP. [tool.Locate] finds the real path of one that
// leads through links; the others touch exactly the real path that they are given:
//
//   - On Linux with OpenSSH's server the kernel itself says what was opened,
//     before a byte is read or written, and by its inode whether it is the file
//     that was judged. Links and hard links that are swapped in between are
//     noticed. A write happens inside the directory that was judged, which is
//     held open.
//   - Devices, FIFOs and sockets are refused before they are opened.
//   - A file is replaced as a whole or not at all: the new one is made beside it,
//     private until it is whole, brought to disk, given the old one's owner and
//     mode, and then its name. What that would lose refuses: other names, an
//     access control list, an owner. Setuid and setgid bits are dropped, and the
//     answer says so.
//   - Until the request that gives the name, nothing has happened. When that is
//     sent and not answered, the outcome is unknown.
//
// What is left open: A special file that takes a file's place in the moment
// between the look and the opening is opened, though never read; a FIFO then keeps
// the server waiting, which is ended after some seconds. Content that somebody
// writes between the last look at what is expected and the renaming is lost. A
// directory that is moved while a file is written in it takes the file along; the
// answer says so. Extended attributes other than access control lists are neither
// seen nor kept, nor are those lists where ls does not show them, as busybox does
// not. Before Linux 5.14 a hard link that is swapped in goes unnoticed. And where
// descriptors cannot be seen (another server, a chroot without /proc, not Linux)
// paths are only compared before and after: who may rename a directory on the way
// to a file can win that race.
//
// It does not resolve names, judge commands, hold credentials or write logs of
// record; it never allocates a terminal, forwards an agent or writes a
// known_hosts file.
package sshexec
