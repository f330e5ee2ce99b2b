package delivery

import (
	"slices"

	"github.com/stsrelay/stsrelay/queue"
)

// recipients are the recipients of one attempt, by position in its claim, with their
// results.
type recipients struct {
	before  []queue.RecipientState
	states  []queue.RecipientState // State "": no result yet
	relayed []bool                 // handed to a host that does not know DSN
	open    []int                  // those without a result
	// declined are refusals that count where no other host takes the message.
	declined map[int]*attemptError

	// memory of the slices above, for a message to one recipient
	state  [1]queue.RecipientState
	relay  [1]bool
	number [1]int
}

// begin is called before all else, with the states from before the attempt.
func (r *recipients) begin(before []queue.RecipientState) {
	r.before, r.states, r.relayed, r.open = before, r.state[:], r.relay[:], r.number[:]
	if n := len(before); n != 1 {
		r.states, r.relayed, r.open = make([]queue.RecipientState, n), make([]bool, n), make([]int, n)
	}
	for i := range r.open {
		r.open[i] = i
	}
}

// fail makes f the result of the recipient at position i. tls describes the session.
func (r *recipients) fail(i int, f *attemptError, tls string) {
	r.states[i] = f.state(r.before[i], tls)
}

// failAll makes f the result of all that have none. They stay open.
func (r *recipients) failAll(f *attemptError, tls string) {
	for _, i := range r.open {
		r.fail(i, f, tls)
	}
}

// acceptRefusals makes refusals the results of the recipients that still have none. Where
// another host may take the message, the refusal is declined instead.
func (r *recipients) acceptRefusals(refusals map[int]*attemptError, tls string) {
	r.open = slices.DeleteFunc(r.open, func(i int) bool {
		f := refusals[i]
		if f == nil {
			return false
		}
		if f.elsewhere {
			r.decline(i, f)
			return false
		}
		r.fail(i, f, tls)
		return true
	})
}

// decline records that a host does not take the message for a recipient. It counts where
// no other host takes it. The first refusal counts, but a temporary one replaces a
// permanent one.
func (r *recipients) decline(i int, f *attemptError) {
	if r.declined == nil {
		r.declined = make(map[int]*attemptError)
	}
	if old := r.declined[i]; old == nil || old.permanent && !f.permanent {
		r.declined[i] = f
	}
}

// acceptDeclined makes the declined refusals the results of the recipients that no other
// host took. cut reports whether some host was not asked: then they wait.
func (r *recipients) acceptDeclined(cut bool, tls string) {
	r.open = slices.DeleteFunc(r.open, func(i int) bool {
		f := r.declined[i]
		if f == nil {
			return false
		}
		if cut && f.permanent {
			later := *f
			later.permanent = false
			later.text += "; another host is asked later"
			f = &later
		}
		r.fail(i, f, tls)
		return true
	})
}
