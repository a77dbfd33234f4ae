//go:build race

package policy_test

// raceDetector says that the tests run under it.
const raceDetector = true
