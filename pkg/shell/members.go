package shell

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Members are the texts of the commands that operators join to a line, in order.
// A line that cannot be parsed has none.
func Members(line string) []string {
	tree := treeOf(line)
	if tree == nil {
		return nil
	}
	var all []string
	var add func(*syntax.Stmt)
	add = func(s *syntax.Stmt) {
		if joined, ok := s.Cmd.(*syntax.BinaryCmd); ok && len(s.Redirs) == 0 {
			add(joined.X)
			add(joined.Y)
			return
		}
		piece := spanOf(s)
		if s.Semicolon.IsValid() { // or an ampersand
			piece.to = int(s.Semicolon.Offset())
		}
		all = append(all, strings.TrimRight(line[piece.from:piece.to], " \t\n"))
	}
	for _, s := range tree.Stmts {
		add(s)
	}
	return all
}
