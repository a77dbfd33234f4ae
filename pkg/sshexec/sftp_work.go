package sshexec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/pkg/sftp"

	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	// filesGrace is how long a step with files may take, when its time is up, to
	// come to an end and clean up. Then its SFTP session is given up.
	filesGrace = 700 * time.Millisecond
	// filesTries is how often a step is begun when its session was lost. One
	// that may have changed something is not begun again.
	filesTries = 3
	// maxPath is where Linux has its limit for a path, maxName where most file
	// systems have theirs for a name.
	maxPath = 4095
	maxName = 255
)

// How far a step with files has come. Until the one request is sent that changes
// what others see, nothing has happened.
const (
	workBegun int32 = iota
	workSent        // that request was sent, and its answer is not here
	workEnded       // it will not be sent any more, or was refused
	workDone        // others see it
)

// fileWork is one step with files on its way.
type fileWork struct {
	*files
	ctx   context.Context
	r     *run
	bytes atomic.Int64 // of content that were moved
	stage atomic.Int32
	stuck atomic.Pointer[string] // path that was not opened in time
}

// seen is for the progress.
func (w *fileWork) seen() int64 { return w.bytes.Load() }

// worked is what came of a step with files.
type worked struct {
	answer any
	err    error
}

// isFile reports whether a step is one with files. Its error says why a path
// cannot be meant.
func (r *run) isFile(step tool.Step) (bool, error) {
	switch do := step.Do.(type) {
	case tool.Locate:
		return true, r.nameable(do.Path)
	case tool.Read:
		return true, r.judged(do.Path)
	case tool.Write:
		return true, r.writable(do)
	case tool.List:
		if do.Offset < 0 || do.Most < 0 {
			return true, errors.New("a page cannot begin or end before the first entry")
		}
		return true, r.judged(do.Path)
	}
	return false, nil
}

// judged refuses what cannot be a real path, which is all that is opened.
func (r *run) judged(name string) error {
	if path.Clean(name) != name {
		return errors.New("a path that leads through .. or . is not a real path")
	}
	return r.nameable(name)
}

// writable refuses what a file cannot be written with.
func (r *run) writable(do tool.Write) error {
	if _, err := modeOf(do.Mode); err != nil {
		return err
	}
	if do.Path == "/" {
		return r.wrong(tool.FailNotFile, do.Path, "is a directory", "name a file in it")
	}
	return r.judged(do.Path)
}

// nameable refuses a path that policy cannot have seen as the host would, and
// one that the host would read otherwise: OpenSSH's server ends at a null byte.
func (r *run) nameable(name string) error {
	why, remedy := "", "give an absolute path that is text"
	switch {
	case !path.IsAbs(name):
		why = "does not begin with /"
	case !utf8.ValidString(name):
		why = "is not UTF-8"
	case strings.ContainsRune(name, 0):
		why = "has a null byte in it"
	case len(name) > maxPath:
		why, remedy = fmt.Sprintf("is longer than %d bytes", maxPath), "give a shorter one"
	case slices.ContainsFunc(strings.Split(name, "/"), func(s string) bool { return len(s) > maxName }):
		why, remedy = fmt.Sprintf("has a name in it that is longer than %d bytes", maxName), "give a shorter one"
	default:
		return nil
	}
	return r.wrong(tool.FailName, name, why, remedy)
}

// wrong is a failure that is about a file.
func (r *run) wrong(code tool.FailureCode, name, what, remedy string) *tool.Failure {
	return &tool.Failure{
		Code: code, Message: fmt.Sprintf("%s: %q %s", place(r.job.Target), name, what), Remedy: remedy,
	}
}

// file does one step with files and reports whether the next may follow.
func (r *run) file(ctx context.Context, step tool.Step) bool {
	var w *fileWork
	var did worked
	for range filesTries {
		f, err := r.files(ctx)
		if err != nil {
			r.notStarted(ctx, err)
			return false
		}
		w = &fileWork{files: f, ctx: ctx, r: r}
		r.progress.watch(w)
		did = w.run(step)
		if name := w.stuck.Load(); name != nil && errors.Is(did.err, errLost) {
			did.err = w.wrong(tool.FailFile, *name, "was not opened in time", "look on the host whether its file system answers")
		}
		if !w.again(did.err) {
			break
		}
	}
	return r.filed(ctx, w, did)
}

// again reports whether a step that has failed is begun again, on another session.
// A host that has fallen silent is not called again: whoever asked would wait for
// a connection that does not come, and can ask again.
func (w *fileWork) again(err error) bool {
	stage := w.stage.Load()
	if !errors.Is(err, errLost) || w.ctx.Err() != nil || stage == workSent || stage == workDone {
		return false
	}
	return w.heard()
}

// heard waits for a sign of life, or for the end of the connection, and reports
// whether the host may be called again.
func (w *fileWork) heard() bool {
	select {
	case <-w.session.answered():
	case <-w.conn.dead:
	case <-w.ctx.Done():
	}
	return w.ctx.Err() == nil && !w.conn.wire.isMute()
}

// files joins the SFTP session of a pooled connection, and opens one where there
// is none.
func (r *run) files(ctx context.Context) (*files, error) {
	var err error
	tries := map[error]int{}
	for range openTries {
		var g grant
		if g, err = r.connection(ctx, wantFiles); err != nil {
			return nil, err
		}
		if err = g.files.opened(ctx); err == nil {
			return g.files, nil
		}
		r.e.pool.leaveFiles(g.files)
		switch ended := waitFor(ctx, g.conn.dead, lostGrace); {
		case ended && g.conn.wire.isMute():
			return nil, dropped(r.job.Target, "before it was asked about files; nothing was changed", err)
		case ended && errors.Is(err, errNoSFTP), ended && errors.Is(err, errLost):
			err = errBroken // a connection that ends meanwhile tells nothing of the host's file transfer
		}
		if f := r.filesNotOpened(err, tries); f != nil {
			return nil, f
		}
	}
	return nil, noSession(r.job.Target, "the host opens no session", err)
}

// opened waits until the session is open, or will not be.
func (f *files) opened(ctx context.Context) error {
	select {
	case <-f.ready:
		return f.err
	case <-ctx.Done():
		return errAbandoned
	}
}

// filesNotOpened says why no other session is tried; nil if one is.
func (r *run) filesNotOpened(err error, tries map[error]int) error {
	if errors.Is(err, errExecRefused) || errors.Is(err, errNoSFTP) || errors.Is(err, errLost) {
		return &tool.Failure{
			Code:    tool.FailNoSFTP,
			Message: place(r.job.Target) + ": the host does no file transfer: its SSH server opens no SFTP session",
			Remedy:  "set \"Subsystem sftp internal-sftp\" in its sshd_config, and see that the account's start-up files print nothing",
			Cause:   err,
		}
	}
	return r.notOpened(err, tries)
}

// run does a step beside the job, which so comes to its end in time whatever the
// host does.
func (w *fileWork) run(step tool.Step) worked {
	done := make(chan worked, 1)
	w.conn.spawn(func() {
		answer, err := w.do(step)
		w.conn.e.pool.leaveFiles(w.files)
		done <- worked{answer, err}
	})
	select {
	case did := <-done:
		return did
	case <-w.gone:
		return w.await(done, lostGrace, errLost)
	case <-w.ctx.Done():
		return w.await(done, filesGrace, errMuteFiles)
	}
}

// await waits a moment for a step to end. What goes on behind a job that has
// ended changes nothing any more; it may clean up, while the host is heard.
func (w *fileWork) await(done <-chan worked, grace time.Duration, otherwise error) worked {
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case did := <-done:
		return did
	case <-late.C:
	}
	w.stage.CompareAndSwap(workBegun, workEnded)
	w.conn.spawn(func() {
		linger := time.NewTimer(closeLinger)
		defer linger.Stop()
		if w.conn.wire.silent() < grace {
			select {
			case <-done:
				return
			case <-w.gone:
			case <-linger.C:
			}
		}
		w.giveUp()
	})
	return worked{err: otherwise}
}

// giveUp ends the session of a server that does not answer. Closing its session
// does not end it, and while it lives the host counts it.
func (w *fileWork) giveUp() {
	w.end()
	if w.pid == 0 || w.session.isOver() {
		return
	}
	w.conn.spawn(func() {
		ctx, cancel := context.WithTimeout(w.conn.e.cut, probeLimit)
		defer cancel()
		_, _ = w.r.ask(ctx, fmt.Sprintf("kill -KILL %d", w.pid))
	})
}

func (w *fileWork) do(step tool.Step) (any, error) {
	switch do := step.Do.(type) {
	case tool.Locate:
		return w.locate(do)
	case tool.Read:
		return w.read(do, step.Op.File)
	case tool.Write:
		return w.write(do, step.Op.File)
	case tool.List:
		return w.list(do)
	}
	return nil, fmt.Errorf("a step of type %T is not one with files", step.Do)
}

// filed reports what came of a step with files.
func (r *run) filed(ctx context.Context, w *fileWork, did worked) bool {
	if did.err == nil {
		r.report.Outcome = tool.Finished
		r.report.Outputs = append(r.report.Outputs, tool.Output{Answer: did.answer})
		return true
	}
	outcome, lost := tool.NotStarted, errors.Is(did.err, errLost)
	var said *tool.Failure
	switch stage := w.stage.Load(); {
	case stage == workSent:
		outcome = tool.Unknown
		said = dropped(r.job.Target, "while the file was put in its place; whether it was is not known", did.err)
	case errors.As(did.err, &said):
		if stage == workDone {
			outcome = tool.Finished
		}
	case lost && ctx.Err() == nil:
		said = dropped(r.job.Target, "while it was asked about files; nothing was changed", did.err)
	case lost:
		said = r.hung(did.err)
	}
	if outcome == tool.NotStarted && len(r.report.Outputs) > 0 {
		outcome = tool.Finished
	}
	if ctx.Err() != nil {
		r.report.Stop, r.report.Stopped = stopCause(ctx), !lost
	}
	r.report.Outcome, r.report.Err = outcome, said
	return false
}

// hung says that a stop was not confirmed.
func (r *run) hung(err error) *tool.Failure {
	return &tool.Failure{
		Code:    tool.FailStop,
		Message: place(r.job.Target) + ": its SFTP server did not answer when it was to stop; nothing was changed, but a temporary file may be left",
		Remedy:  "look on the host what keeps its sftp-server waiting",
		Cause:   err,
	}
}

// commit sends the one request that changes what others see. When its error is
// an answer of the server's, nothing has changed.
func (w *fileWork) commit(request func() error) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if !w.stage.CompareAndSwap(workBegun, workSent) {
		return errMuteFiles
	}
	err := request()
	switch {
	case err == nil:
		w.stage.Store(workDone)
	case answered(err):
		w.stage.Store(workEnded)
	}
	return err
}

// answered reports whether an error is what the server said, rather than that it
// could not be heard.
func answered(err error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission)
}

// unsupported reports whether the server says that it cannot do such a thing, and
// badName that there is no such thing.
func unsupported(err error) bool { return statusIs(err, sftp.ErrSSHFxOpUnsupported) }
func badName(err error) bool     { return statusIs(err, sftp.ErrSSHFxBadMessage) }

func statusIs(err, code error) bool {
	var status *sftp.StatusError
	return errors.As(err, &status) && status.FxCode() == code
}

// explain types an error of a request about a file. OpenSSH's server gives few
// reasons, so it looks for them.
func (w *fileWork) explain(err error, name string) error {
	var said *tool.Failure
	switch {
	case errors.As(err, &said), err == nil, w.ctx.Err() != nil && errors.Is(err, w.ctx.Err()):
		return err
	case errors.Is(err, os.ErrNotExist):
		return w.wrong(tool.FailNotFound, name, "does not exist", "check the path; list its directory")
	case errors.Is(err, os.ErrPermission):
		return w.wrong(tool.FailPermission, name, "is not open to the account "+w.r.job.Target.User, "ask for rights on the host, or use another path")
	case errors.Is(err, io.EOF) || !answered(err):
		w.end()
		return fmt.Errorf("%w: %v", errLost, err)
	}
	return w.generic(err, name)
}

// generic explains an error that has no reason: the file system may be full or
// read-only.
func (w *fileWork) generic(err error, name string) error {
	fs, statErr := w.client.StatVFS(path.Dir(name))
	var f *tool.Failure
	switch {
	case statErr == nil && fs.Flag&1 != 0:
		f = w.wrong(tool.FailPermission, name, "is on a read-only file system", "use another path")
	case statErr == nil && (fs.Bavail == 0 || fs.Favail == 0 && fs.Files > 0):
		f = w.wrong(tool.FailNoSpace, name, "is on a file system that is full", "make room on the host")
	default:
		f = w.wrong(tool.FailFile, name, "cannot be used so, says the host without a reason", "look at it on the host")
	}
	f.Cause = err
	return f
}

func (w *fileWork) wrong(code tool.FailureCode, name, what, remedy string) *tool.Failure {
	return w.r.wrong(code, name, what, remedy)
}

// moved: a path leads elsewhere by now.
func (w *fileWork) moved(name string) *tool.Failure {
	return w.wrong(tool.FailChanged, name, "leads elsewhere than it did when it was judged", "call again; somebody is changing it")
}

// special: a path leads to what content is not read from or written to.
func (w *fileWork) special(name string, t tool.FileType) *tool.Failure {
	return w.wrong(tool.FailSpecialFile, name, "is a "+string(t), "name a regular file; of others only devices can be read over SFTP, where policy permits it")
}
