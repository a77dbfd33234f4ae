package tool

import "fmt"

// Count is a number of things in words: "1 host", "2 hosts".
func Count[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
