package policy

import (
	"maps"
	"slices"
)

// places are parts of inputs that somebody looks at, each with a number, found in
// an input's text in one walk.
type places struct {
	root  spot
	count int
}

// spot is one of them, and those below it.
type spot struct {
	number int // from 1; 0 if nobody looks at it as a whole
	below  map[string]*spot
}

// of adds the places that are looked at and returns their numbers, from 0.
func (p *places) of(r *reads) []int { return p.add(&p.root, r, nil) }

func (p *places) add(at *spot, r *reads, numbers []int) []int {
	if r.whole {
		if at.number == 0 {
			p.count++
			at.number = p.count
		}
		return append(numbers, at.number-1)
	}
	for _, name := range slices.Sorted(maps.Keys(r.fields)) {
		if at.below == nil {
			at.below = map[string]*spot{}
		}
		if at.below[name] == nil {
			at.below[name] = &spot{}
		}
		numbers = p.add(at.below[name], r.fields[name], numbers)
	}
	return numbers
}

// in finds what the JSON text of an input has at each place, by number; nil where
// it has nothing.
func (p *places) in(text []byte) [][]byte {
	found := make([][]byte, p.count)
	p.root.find(text, found)
	return found
}

func (p *spot) find(text []byte, found [][]byte) {
	if p.number > 0 {
		found[p.number-1] = text
	}
	if len(p.below) == 0 {
		return
	}
	if text[0] != '{' {
		p.odd(text, found)
		return
	}
	for m := range members(text) {
		if below := p.below[string(m.name)]; below != nil {
			below.forget(found) // of a field that is there twice the last one counts
			below.find(m.value, found)
		}
	}
}

func (p *spot) forget(found [][]byte) {
	if p.number > 0 {
		found[p.number-1] = nil
	}
	for _, below := range p.below {
		below.forget(found)
	}
}

// odd begins what is not JSON.
const odd = '!'

// odd has the places below one that is no object tell of what is there instead,
// as no JSON could: it is not the same as an object without them.
func (p *spot) odd(text []byte, found [][]byte) {
	for _, below := range p.below {
		if below.number > 0 {
			found[below.number-1] = slices.Concat([]byte{odd}, text)
		}
		below.odd(text, found)
	}
}
