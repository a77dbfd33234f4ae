package sshexec

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/pkg/tool"
)

// progressEvery is how often a job may say how far it is.
const progressEvery = 250 * time.Millisecond

// progress tells a job's owner how far it is: the first phase at once, then
// what has changed, at most once in progressEvery. A nil progress tells nobody.
type progress struct {
	tell func(tool.Progress)

	mu      sync.Mutex
	now     tool.Progress
	earlier int64 // bytes of the steps before this one
	step    moving

	begun chan struct{} // there is a first phase
	quit  chan struct{}
	gone  chan struct{}
}

// moving is a step that counts the bytes that it has moved.
type moving interface{ seen() int64 }

// startProgress begins to tell; the caller ends it with stop.
func startProgress(tell func(tool.Progress)) *progress {
	if tell == nil {
		return nil
	}
	p := &progress{
		tell: tell, begun: make(chan struct{}), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	go p.run()
	return p
}

func (p *progress) run() {
	defer close(p.gone)
	select {
	case <-p.quit:
		return
	case <-p.begun:
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var told tool.Progress
	for {
		if now := p.current(); now != told {
			told = now
			p.tell(now)
		}
		select {
		case <-p.quit:
			return
		case <-tick.C:
		}
	}
}

func (p *progress) current() tool.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.step != nil {
		p.now.Bytes = p.earlier + p.step.seen()
	}
	return p.now
}

// phase says what the job does now.
func (p *progress) phase(name string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(name)
}

func (p *progress) set(name string) {
	if p.now.Phase == "" {
		close(p.begun)
	}
	p.now.Phase = name
}

// watch follows a step that has started.
func (p *progress) watch(s moving) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.step != nil {
		p.earlier += p.step.seen()
	}
	p.step = s
	p.set("running")
}

// stop ends the telling and waits for it.
func (p *progress) stop() {
	if p == nil {
		return
	}
	close(p.quit)
	<-p.gone
}
