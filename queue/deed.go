package queue

// What an operator did to recipients of a message: Action.What, which is the message of the
// line in the log, and what the history says.
const (
	deedHeld       = "held by the operator"
	deedReleased   = "released by the operator"
	deedRemoved    = "removed by the operator"
	deedBounced    = "bounced by the operator"
	deedToRemove   = "to be removed by the operator when the attempt under way has ended"
	deedToBounce   = "to be bounced by the operator when the attempt under way has ended"
	deedUndoable   = "to be bounced by the operator in a minute, unless it is undone"
	deedHandedOver = "handed over to another relay"
)
