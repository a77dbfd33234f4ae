package sshexec

import (
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/sallyport/sallyport/pkg/tool"
)

const (
	// uncapped is what is kept of a stream whose limit is zero: memory has a
	// limit even where policy has none.
	uncapped = 64 << 20
	// floodFactor and floodFloor give the amount of one stream behind which a
	// command is stopped: nobody keeps it, and it still costs the host, the
	// network and the gateway.
	floodFactor = 64
	floodFloor  = 64 << 20
)

// capture keeps the head and the tail of one output stream and counts the
// rest. It takes everything that it is given, because a stream that is not
// drained blocks the remote program.
type capture struct {
	mu      sync.Mutex
	head    []byte // the first headCap bytes
	tail    []byte // ring of the last tailCap bytes behind the head
	next    int    // where the ring is written next, once it is full
	total   int64
	headCap int
	tailCap int
	flood   int64 // total at which the command is stopped
}

// newCapture keeps up to limit bytes, three quarters of them from the head:
// what a program says first usually explains the rest, and errors come last.
func newCapture(limit int64) *capture {
	if limit <= 0 {
		limit = uncapped
	}
	tail := int(limit / 4)
	return &capture{
		headCap: int(limit) - tail,
		tailCap: tail,
		flood:   max(floodFactor*limit, floodFloor),
	}
}

// write takes p and reports whether the stream is still below its flood mark.
func (c *capture) write(p []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total += int64(len(p))
	if room := c.headCap - len(c.head); room > 0 {
		n := min(room, len(p))
		c.head = append(c.head, p[:n]...)
		p = p[n:]
	}
	c.keepTail(p)
	return c.total < c.flood
}

// keepTail appends p to the ring, where only the last tailCap bytes survive.
func (c *capture) keepTail(p []byte) {
	if len(p) > c.tailCap {
		p = p[len(p)-c.tailCap:]
	}
	if room := c.tailCap - len(c.tail); room > 0 {
		n := min(room, len(p))
		c.tail = append(c.tail, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		n := copy(c.tail[c.next:], p)
		p = p[n:]
		c.next = (c.next + n) % len(c.tail)
	}
}

// bytes is how much has come so far.
func (c *capture) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// stream is what was kept. With more set, the stream was cut off while it was
// still being written. It may be called while writes go on.
func (c *capture) stream(more bool) tool.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	tail := append(c.tail[c.next:len(c.tail):len(c.tail)], c.tail[:c.next]...)
	if c.total == int64(len(c.head)+len(tail)) {
		kept := append(c.head[:len(c.head):len(c.head)], tail...)
		return tool.Stream{Kept: kept, Bytes: c.total, Truncated: more}
	}
	return tool.Stream{Kept: joinCut(c.head, tail, c.total), Bytes: c.total, Truncated: true}
}

// joinCut puts head and tail around a notice of what is missing, all of it no
// longer than head and tail were. Where that is too short for a notice, the
// head stands alone.
func joinCut(head, tail []byte, total int64) []byte {
	limit := len(head) + len(tail)
	room := limit - len(notice(total))
	if room < limit/2 {
		return append([]byte(nil), wholeHead(head)...)
	}
	keepTail := min(len(tail), room/4)
	head = wholeHead(head[:min(len(head), room-keepTail)])
	tail = wholeTail(tail[len(tail)-keepTail:])
	said := notice(total - int64(len(head)+len(tail)))
	kept := make([]byte, 0, len(head)+len(said)+len(tail))
	kept = append(kept, head...)
	kept = append(kept, said...)
	return append(kept, tail...)
}

func notice(missing int64) string {
	return fmt.Sprintf("\n[... %d bytes left out ...]\n", missing)
}

// wholeHead drops the beginning of a rune from the end of b.
func wholeHead(b []byte) []byte {
	for back := 1; back <= min(utf8.UTFMax-1, len(b)); back++ {
		if last := b[len(b)-back:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				return b[:len(b)-back]
			}
			break
		}
	}
	return b
}

// wholeTail drops the rest of a rune from the beginning of b.
func wholeTail(b []byte) []byte {
	for i := range min(utf8.UTFMax, len(b)) {
		if utf8.RuneStart(b[i]) {
			return b[i:]
		}
	}
	return b
}
