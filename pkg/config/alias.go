package config

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// maxCopied is how many values the aliases of a file may stand for. It is far
// beyond 10,000 hosts that share their tags, and keeps a few lines from becoming
// all memory there is.
const maxCopied = 250_000

// expansion puts what aliases and merges stand for in their place.
type expansion struct {
	within map[*yaml.Node]bool // what is being walked: an alias to it would hold itself
	used   map[*yaml.Node]bool // anchors that something refers to
	copied int
}

// expand replaces aliases and merges, which YAML defines to mean the same as the
// text that they stand for. What cannot be replaced is reported and stays, and so
// does the anchor that nothing refers to: it may be the beginning of a password.
func (v value) expand() {
	x := expansion{within: map[*yaml.Node]bool{}, used: map[*yaml.Node]bool{}}
	x.walk(v)
	for anchored := range x.used {
		anchored.Anchor = ""
	}
}

func (x *expansion) walk(v value) {
	if v.node.Kind == yaml.AliasNode {
		x.replace(v)
		return
	}
	x.within[v.node] = true
	for _, child := range v.node.Content {
		x.walk(valueAt(v.place, v.path, child))
	}
	delete(x.within, v.node)
	merge(v.node)
}

func (x *expansion) replace(v value) {
	target, at := v.node.Alias, *v.node
	x.used[target] = true
	switch {
	case x.within[target]:
		v.fail(faultf("write the value out", "the alias stands for something that it is a part of"))
		return
	case x.copied > maxCopied:
		return // it has been told
	}
	*v.node = *x.copy(target)
	v.node.Line, v.node.Column = at.Line, at.Column
	if x.copied > maxCopied {
		v.fail(faultf("write the values out", "the aliases of the file stand for more than %d values", maxCopied))
	}
}

// copy copies what has been walked: an anchor stands before what refers to it.
func (x *expansion) copy(n *yaml.Node) *yaml.Node {
	c := *n
	c.Anchor, c.Content = "", nil
	for _, child := range n.Content {
		if x.copied++; x.copied > maxCopied {
			break
		}
		c.Content = append(c.Content, x.copy(child))
	}
	return &c
}

// merge puts the keys of the mappings under << where that stands, but for those
// that are there. Of several mappings the first goes before the others.
func merge(n *yaml.Node) {
	at := slices.IndexFunc(n.Content, func(c *yaml.Node) bool { return c.Tag == "!!merge" })
	if n.Kind != yaml.MappingNode || at < 0 || at%2 != 0 {
		return
	}
	from := []*yaml.Node{n.Content[at+1]}
	if from[0].Kind == yaml.SequenceNode {
		from = from[0].Content
	}
	if len(from) == 0 || slices.ContainsFunc(from, func(c *yaml.Node) bool { return c.Kind != yaml.MappingNode }) {
		return // it is reported as a key
	}
	n.Content = slices.Delete(n.Content, at, at+2)
	have := keysOf(n)
	for _, source := range from {
		for i := 0; i+1 < len(source.Content); i += 2 {
			if key := source.Content[i]; !slices.Contains(have, key.Value) {
				n.Content, have = append(n.Content, key, source.Content[i+1]), append(have, key.Value)
			}
		}
	}
}
