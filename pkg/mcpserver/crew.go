package mcpserver

import "sync"

// mostResting is how many of a crew's goroutines wait for something to do.
const mostResting = 4

// crew does things side by side on goroutines that are used again. A call goes
// deep: a new goroutine's stack grows in six steps, and is copied at each, which
// takes as long as a decision does.
type crew struct {
	next    chan func()
	resting chan struct{} // an entry for each goroutine that waits
	over    chan struct{}
	working sync.WaitGroup
}

func newCrew() *crew {
	return &crew{next: make(chan func()), resting: make(chan struct{}, mostResting), over: make(chan struct{})}
}

// do has something done. It never waits for anything.
func (c *crew) do(work func()) {
	c.working.Add(1)
	select {
	case c.next <- work:
	default:
		go c.member(work)
	}
}

func (c *crew) member(work func()) {
	for {
		work()
		c.working.Done()
		select {
		case c.resting <- struct{}{}:
		default:
			return
		}
		select {
		case work = <-c.next:
			<-c.resting
		case <-c.over:
			return
		}
	}
}

// wait waits until everything is done.
func (c *crew) wait() { c.working.Wait() }

// dismiss lets those go who wait for something to do, and later the others.
func (c *crew) dismiss() { close(c.over) }
