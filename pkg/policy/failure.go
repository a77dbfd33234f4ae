package policy

import "github.com/sallyport/sallyport/pkg/tool"

// failure is a way of not answering. Each is a refusal with a code of its own.
type failure int

const (
	failNotReady failure = iota
	failUndefined
	failTimeout
	failCancelled
	failConflict
	failEvaluation
	failMalformed
	failApproval
	failLog
)

const tellOperator = "tell the operator; the gateway's own log has the cause under this decision id"

// failures are what an agent is told. The cause goes to the decision log only.
var failures = [...]tool.Reason{
	failNotReady: {
		Code: "policy_not_ready", Title: "No policy is active",
		Remedy: "try again when the gateway is ready",
	},
	failUndefined: {
		Code: "policy_undefined", Title: "The policy gave no answer",
		Remedy: tellOperator,
	},
	failTimeout: {
		Code: "policy_timeout", Title: "The policy did not answer in time",
		Remedy: "shorten the command or try again; if it stays, " + tellOperator,
	},
	failCancelled: {
		Code: "policy_cancelled", Title: "The call was cancelled before it was judged",
		Remedy: "call again",
	},
	failConflict: {
		Code: "policy_conflict", Title: "The policy gave two answers",
		Remedy: tellOperator,
	},
	failEvaluation: {
		Code: "policy_error", Title: "The policy broke while it judged this",
		Remedy: tellOperator,
	},
	failMalformed: {
		Code: "policy_malformed", Title: "The policy's answer has the wrong shape",
		Remedy: tellOperator,
	},
	failApproval: {
		Code: "approval_required", Title: "A person has to approve this",
		Remedy: "ask the operator to run it or to grant it",
	},
	failLog: {
		Code: "log_unwritable", Title: "The decision log cannot be written",
		Remedy: "nothing runs without a record; try again when the operator has made room or repaired the log",
	},
}

func (f failure) reason() tool.Reason { return failures[f] }
