package outbound

// Kind is the kind of a failure of a host.
type Kind uint8

// The kinds.
const (
	// Down: the host cannot be reached, or takes no mail now.
	Down Kind = iota
	// Held: the host is not good enough for what is asked of it, or nobody can tell.
	Held
	// HeldForGood: the same, and no other time is better (REQUIRETLS).
	HeldForGood
	// Loop: the host is this relay.
	Loop
)

// Reasons are why hosts did not take a message, and which of them counts. The zero
// value has none.
type Reasons struct {
	held        error // the first
	heldForGood bool
	down        error // the last
	last        error // of both
}

// Failed takes note of a host that could not be used.
func (r *Reasons) Failed(err error, kind Kind) {
	r.last = err
	switch {
	case kind == Down || kind == Loop:
		r.down = err
	case r.held == nil:
		r.held, r.heldForGood = err, kind == HeldForGood
	}
}

// Reached takes note of a host with which a transaction was made.
func (r *Reasons) Reached() { r.last = nil }

// Held reports whether what is asked for has held the mail from some host.
func (r *Reasons) Held() bool { return r.held != nil }

// Reason is why no host took the mail: nil where none was tried. reached reports
// whether some host has said something about the message. Where what is asked for has
// held the mail, that tells more than that another host is down.
func (r *Reasons) Reason(reached bool) error {
	switch {
	case r.heldForGood && r.down != nil:
		return r.down // that host might do what the others cannot
	case r.held != nil && !reached:
		return r.held
	}
	return r.last
}
