package gateway

import "bytes"

// keptLines are complete lines in about as much memory as they have bytes: an
// empty one takes a byte, not the header of a string.
type keptLines struct {
	blocks []block
	count  int64
	size   int64 // bytes, of line ends too
}

// block is some lines, each with its end.
type block struct {
	text  []byte
	count int64
}

// blockSize is how many bytes of lines that are gone may still be in memory, and
// how many are looked through for a line.
const blockSize = 32 << 10

func (k *keptLines) add(line string) {
	n := len(k.blocks)
	if n == 0 || len(k.blocks[n-1].text)+len(line) >= blockSize {
		k.blocks = append(k.blocks, block{})
		n++
	}
	last := &k.blocks[n-1]
	last.text = append(append(last.text, line...), '\n')
	last.count++
	k.count++
	k.size += int64(len(line)) + 1
}

// dropFirst forgets the first line, of which there must be one.
func (k *keptLines) dropFirst() {
	b := &k.blocks[0]
	end := bytes.IndexByte(b.text, '\n') + 1
	b.text = b.text[end:]
	b.count--
	k.count--
	k.size -= int64(end)
	if b.count == 0 {
		k.blocks[0] = block{}
		k.blocks = k.blocks[1:]
	}
}

// slice is the lines of these positions.
func (k *keptLines) slice(from, to int64) []string {
	lines := make([]string, 0, to-from)
	for _, b := range k.blocks {
		if from >= b.count {
			from, to = from-b.count, to-b.count
			continue
		}
		for text := b.text; len(text) > 0 && to > 0; from, to = from-1, to-1 {
			line, rest, _ := bytes.Cut(text, []byte("\n"))
			if text = rest; from <= 0 {
				lines = append(lines, string(line))
			}
		}
	}
	return lines
}
