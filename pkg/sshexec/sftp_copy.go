package sshexec

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"regexp"
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/shell"
	"github.com/sallyport/sallyport/pkg/tool"
)

// copying is one file on its way from host to host.
type copying struct {
	from, to *fileWork

	source *handle
	spot   *spot
	order  *order
	sum    hash.Hash // of what has been read, in order; of no use when resumed
	begun  int64     // bytes that an earlier try had left
}

// Copy runs the two halves of a copy: the step of from is a [tool.Send], that of
// to a [tool.Receive]. The content goes through the gateway in pieces. It is
// summed up on the way, and again by the receiving host, before the file there
// takes its name. What a copy leaves that failed is used by the next one of the
// same file.
//
// Time limits of both jobs hold. A failure stands in both reports and names its
// host.
func (e *Executor) Copy(ctx context.Context, from, to tool.Job) (sent, received tool.Report) {
	began := time.Now()
	a := &run{e: e, job: from, key: keyOf(from.Subject, from.Target)}
	b := &run{e: e, job: to, key: keyOf(to.Subject, to.Target)}
	if !e.enter() {
		a.end(tool.NotStarted, shuttingDown())
		return a.report, a.report
	}
	defer e.leave()
	ctx, cancel := e.limit(ctx, from.Limits)
	defer cancel()
	ctx, cancel = e.limit(ctx, to.Limits)
	defer cancel()
	a.progress, b.progress = startProgress(from.Progress), startProgress(to.Progress)
	copyFile(ctx, a, b)
	a.progress.stop()
	b.progress.stop()
	a.report.Duration = time.Since(began)
	b.report.Duration = a.report.Duration
	return a.report, b.report
}

// copyFile copies from one run to the other, whose reports it fills.
func copyFile(ctx context.Context, a, b *run) {
	if err := copyable(a, b); err != nil {
		a.end(tool.NotStarted, err)
		b.end(tool.NotStarted, err)
		return
	}
	var c *copying
	var did worked
	for range filesTries {
		c = &copying{}
		if err := c.open(ctx, a, b); err != nil {
			a.notStarted(ctx, err)
			b.notStarted(ctx, err)
			return
		}
		did = c.run()
		if !c.to.again(did.err) || !c.from.heard() {
			break
		}
	}
	culprit, other := b, a
	if isClosed(c.from.gone) && !isClosed(c.to.gone) {
		culprit, other = a, b
	}
	culprit.filed(ctx, c.to, did)
	address := other.report.Address
	other.report = culprit.report
	other.report.Address = address
}

// copyable refuses what is no copy.
func copyable(a, b *run) error {
	if len(a.job.Steps) != 1 || len(b.job.Steps) != 1 {
		return unfit(b.job.Target, 0, errors.New("a copy is one step on each host"))
	}
	send, ok := a.job.Steps[0].Do.(tool.Send)
	receive, ok2 := b.job.Steps[0].Do.(tool.Receive)
	if !ok || !ok2 {
		return unfit(b.job.Target, 0, errors.New("a copy is a send and a receive"))
	}
	return cmp.Or(a.judged(send.Path), b.writable(tool.Write{Path: receive.Path}))
}

// open joins a session on both hosts.
func (c *copying) open(ctx context.Context, a, b *run) error {
	from, err := a.files(ctx)
	if err != nil {
		return err
	}
	to, err := b.files(ctx)
	if err != nil {
		a.e.pool.leaveFiles(from)
		return err
	}
	c.from = &fileWork{files: from, ctx: ctx, r: a}
	c.to = &fileWork{files: to, ctx: ctx, r: b}
	a.progress.watch(c.from)
	b.progress.watch(c.to)
	return nil
}

// run does the copy beside the jobs, as fileWork.run does a step.
func (c *copying) run() worked {
	done := make(chan worked, 1)
	over := make(chan struct{})
	c.to.conn.spawn(func() {
		defer close(over)
		answer, err := c.copy()
		c.from.conn.e.pool.leaveFiles(c.from.files)
		c.to.conn.e.pool.leaveFiles(c.to.files)
		done <- worked{answer, err}
	})
	select {
	case did := <-done:
		return did
	case <-c.from.gone:
		return c.to.await(done, filesGrace, errLost)
	case <-c.to.gone:
		return c.to.await(done, lostGrace, errLost)
	case <-c.to.ctx.Done():
		c.from.conn.spawn(func() {
			if !waitFor(c.from.conn.e.cut, over, closeLinger) {
				c.from.giveUp()
			}
		})
		return c.to.await(done, filesGrace, errMuteFiles)
	}
}

func (c *copying) copy() (any, error) {
	receive := c.to.r.job.Steps[0]
	defer c.leave()
	if err := c.meet(c.from.r.job.Steps[0], receive); err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	digest, err := c.move()
	if err != nil {
		c.keep(err)
		return nil, err
	}
	c.spot.anew = true
	if err := c.spot.finish(statOf(c.source.info).Mode&permissions, "", receive.Op.File); err != nil {
		return nil, err
	}
	return tool.Copied{
		Bytes: c.source.info.Size(), Digest: digest, Mode: c.spot.mode, Created: c.spot.before == nil, Resumed: c.begun,
	}, nil
}

// meet opens the source, and looks at what it is to replace, at the same time.
func (c *copying) meet(send, receive tool.Step) error {
	var there error
	var beside sync.WaitGroup
	beside.Go(func() {
		if c.spot, there = c.to.spot(receive.Do.(tool.Receive).Path); there == nil {
			there = c.spot.replaceable("", receive.Op.File)
		}
	})
	var here error
	if c.source, here = c.from.at(send.Do.(tool.Send).Path); here == nil {
		here = c.from.regular(c.source, send.Op.File)
	}
	beside.Wait()
	return cmp.Or(here, there)
}

func (c *copying) leave() {
	if c.source != nil {
		c.source.close()
	}
	if c.spot != nil {
		c.spot.leave()
	}
}

// begin makes the new file, or opens the one that an earlier try has left.
func (c *copying) begin() error {
	if left := c.to.conn.e.leftovers.take(c.key()); left.bytes > 0 && c.spot.reopen(left) {
		c.begun = left.bytes
		return nil
	}
	return c.spot.create(private)
}

// move copies what is not there yet, and compares both ends. A leftover that
// turns out to be something else is begun anew.
func (c *copying) move() (string, error) {
	if err := c.transfer(); err != nil {
		return "", err
	}
	if err := c.unchanged(); err != nil {
		return "", err
	}
	want, err := c.sent()
	if err != nil {
		return "", err
	}
	got, err := c.to.summed(c.spot.file, c.spot.path)
	switch {
	case err != nil:
		return "", err
	case got == want:
		return got, nil
	case c.begun == 0:
		return "", c.to.wrong(tool.FailFile, c.spot.path, "arrived with other content than was sent, with SHA-256 "+got, "call again; the disk or the memory of the host may be failing")
	}
	c.begun = 0
	return c.move()
}

// transfer reads and writes piece by piece. The pieces are summed up in order,
// which also keeps those under way close together: before the first that is
// missing, none is.
func (c *copying) transfer() error {
	c.order, c.sum = newOrder(), sha256.New()
	unhook := context.AfterFunc(c.to.ctx, func() { _ = c.order.stop(c.to.ctx.Err()) })
	defer unhook()
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() {
		c.spot.made, _ = c.to.inode(c.spot.file) // in time for when the connection is lost
		c.spot.clean()
	})
	c.from.bytes.Store(c.begun)
	c.to.bytes.Store(c.begun)
	bytes := c.source.info.Size() - c.begun
	from, to := lanes(c.from.trip, bytes), lanes(c.to.trip, bytes)
	buffers := sync.Pool{New: func() any {
		b := make([]byte, c.packet())
		return &b
	}}
	return c.to.haul(load{
		bytes: bytes, piece: c.packet(), lanes: max(from, to), trips: 2, first: lane{c.source, c.spot.file},
		more: func(i int) (lane, func(), error) { return c.lane(i < from, i < to) },
		move: func(l lane, i int, at, end int64) error {
			b := buffers.Get().(*[]byte)
			defer buffers.Put(b)
			if err := c.piece(l, i, (*b)[:end-at], c.begun+at); err != nil {
				return c.order.stop(err)
			}
			return nil
		},
	})
}

// packet is what both hosts take at once.
func (c *copying) packet() int64 { return int64(min(c.from.packet, c.to.packet)) }

// lane opens a further lane, on the hosts that are far away.
func (c *copying) lane(from, to bool) (lane, func(), error) {
	l := lane{c.source, c.spot.file}
	closeFrom, closeTo := nothing, nothing
	var here, there error
	var beside sync.WaitGroup
	if to {
		beside.Go(func() { l.to, closeTo, there = c.to.another(c.spot.file, os.O_WRONLY) })
	}
	if from {
		l.from, closeFrom, here = c.from.another(c.source, os.O_RDONLY)
	}
	beside.Wait()
	done := func() { closeFrom(); closeTo() }
	if err := cmp.Or(here, there); err != nil {
		done()
		return l, nil, err
	}
	return l, done, nil
}

func (c *copying) piece(l lane, i int, b []byte, at int64) error {
	n, err := l.from.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		return c.changed()
	}
	if err != nil {
		return c.from.explain(err, c.source.path)
	}
	c.from.bytes.Add(int64(n))
	if n, err = l.to.WriteAt(b, at); err != nil {
		return c.to.explain(err, c.spot.path)
	}
	c.to.bytes.Add(int64(n))
	return c.order.turn(i, func() { c.sum.Write(b) })
}

func (c *copying) changed() error {
	return c.from.wrong(tool.FailChanged, c.source.path, "was changed while it was copied", "call again when nobody writes to it")
}

// unchanged sees that the source is what it was when it was opened.
func (c *copying) unchanged() error {
	now, err := c.source.Stat()
	if err != nil {
		return c.from.explain(err, c.source.path)
	}
	if !alike(now, c.source.info) {
		return c.changed()
	}
	return nil
}

// sent is the digest of the source. What had been copied before was not seen
// this time, so then the host is asked.
func (c *copying) sent() (string, error) {
	if c.begun > 0 {
		return c.from.summed(c.source, c.source.path)
	}
	return hex.EncodeToString(c.sum.Sum(nil)), nil
}

// order lets pieces through one after the other.
type order struct {
	mu      sync.Mutex
	changed *sync.Cond
	next    int
	err     error // why nobody goes through any more
}

func newOrder() *order {
	o := &order{}
	o.changed = sync.NewCond(&o.mu)
	return o
}

// turn waits for that of piece i and does something with it.
func (o *order) turn(i int, do func()) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.next < i && o.err == nil {
		o.changed.Wait()
	}
	if o.err != nil {
		return o.err
	}
	do()
	o.next++
	o.changed.Broadcast()
	return nil
}

// stop lets nobody through any more. The first reason counts.
func (o *order) stop(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = cmp.Or(o.err, err)
	o.changed.Broadcast()
	return o.err
}

// done is how many pieces have gone through.
func (o *order) done() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.next
}

// summed is the SHA-256 of an open file, which a program on the host computes
// where it can: what crosses the network once more for it is then nothing.
func (w *fileWork) summed(h *handle, name string) (string, error) {
	said, err := w.r.ask(w.ctx, "exec <"+shell.Quote(h.path)+"; if command -v openssl >/dev/null; then exec openssl dgst -sha256 -r; fi; exec sha256sum")
	if m := sha256Line.FindStringSubmatch(said); err == nil && m != nil {
		return m[1], nil
	}
	digest, err := w.digest(h)
	return digest, w.explain(err, name)
}

var sha256Line = regexp.MustCompile(`^([0-9a-f]{64})[ *]`)

const (
	// A leftover is worth keeping from leftoverBytes on, for leftoverAge, and only
	// so many are known at a time.
	leftoverBytes = 8 << 20
	leftoverAge   = litterAge / 2 // before others clear it away
	mostLeftovers = 100
)

// leftover is a file that a copy has begun.
type leftover struct {
	name  string // beside its place
	inode uint64
	owner uint32
	bytes int64 // from its beginning, that are there
	since time.Time
}

// leftovers are what copies of this executor have begun, by what was copied
// where.
type leftovers struct {
	mu   sync.Mutex
	left map[string]leftover
}

// key is what two copies must agree in for one to go on where the other has
// stopped.
func (c *copying) key() string {
	s := statOf(c.source.info)
	return fmt.Sprintf("%q %q %d %d %q %q", c.from.r.key, c.source.path, s.Size, s.Mtime, c.to.r.key, c.spot.path)
}

func (l *leftovers) take(key string) leftover {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.left[key]
	delete(l.left, key)
	if time.Since(left.since) > leftoverAge {
		return leftover{}
	}
	return left
}

func (l *leftovers) put(key string, left leftover) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, old := range l.left {
		if time.Since(old.since) > leftoverAge {
			delete(l.left, k)
		}
	}
	if len(l.left) >= mostLeftovers {
		return false
	}
	if l.left == nil {
		l.left = map[string]leftover{}
	}
	l.left[key] = left
	return true
}

// keep has a copy leave what it has brought, if it ended for lack of a connection
// or of time and that is worth it.
func (c *copying) keep(err error) {
	bytes := c.begun + int64(c.order.done())*c.packet()
	outOfTime := c.to.ctx.Err() != nil && stopCause(c.to.ctx) == tool.StopTimeout
	if bytes < leftoverBytes || c.spot.made == 0 || !errors.Is(err, errLost) && !outOfTime {
		return
	}
	left := leftover{name: c.spot.temp, inode: c.spot.made, owner: statOf(c.spot.file.info).UID, bytes: bytes, since: time.Now()}
	if c.to.conn.e.leftovers.put(c.key(), left) {
		c.spot.temp = ""
	}
}

// reopen opens a leftover, if it is still what it was.
func (s *spot) reopen(left leftover) bool {
	h, err := s.hold(openRequest{asked: s.dir.below(left.name), real: path.Join(s.dir.path, left.name), flags: os.O_RDWR})
	if err != nil {
		return false
	}
	inode, err := s.fileWork.inode(h)
	if err != nil || inode != left.inode || statOf(h.info).UID != left.owner || statOf(h.info).Mode&0o7777 != private {
		h.close()
		return false
	}
	s.file, s.temp, s.made = h, left.name, inode
	return true
}
