package gateway

// Result is what a call gives back to whoever asked: one closed object, a
// short text for people and models, and whether it is an error to act on.
type Result struct {
	// Structured marshals to the tool's output schema.
	Structured any
	// Text is a short rendering of the same facts.
	Text string
	// IsError is set for refusals, bad arguments and remote failures.
	IsError bool
	// DecisionIDs of the decisions that the call led to, in host order.
	DecisionIDs []string
	// Running is set when the call started something that goes on after it, and
	// is closed when that has ended. Until then the call's progress is told.
	Running <-chan struct{}
}
