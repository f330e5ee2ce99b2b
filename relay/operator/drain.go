package operator

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/drain"
)

// DrainRequest says to which relay all mail is handed.
type DrainRequest struct {
	To          string `json:"to"`                    // "https://relay2.example.com:8025"
	Token       string `json:"token"`                 // of its admin.act_token_file
	Authorities string `json:"authorities,omitempty"` // certificates in PEM form; "": those of the system
}

// DrainProgress is how far a drain is.
type DrainProgress struct {
	Handed int `json:"handed"` // messages that the other relay has
	Left   int `json:"left"`   // messages that are here
	// Error is why the last attempt failed; it is made again unless this is the last line.
	Error string `json:"error,omitempty"`
	// Done is true in the last line.
	Done bool `json:"done"`
}

// Drain hands all mail to another relay until none is left or ctx ends, and tells progress
// how far it is. The last call of progress is the result.
func (o *Operator) Drain(ctx context.Context, actor Actor, r DrainRequest, progress func(DrainProgress)) error {
	to, err := drain.New(drain.Options{URL: r.To, Token: r.Token, Authorities: r.Authorities})
	if err != nil {
		return failed(invalid, err)
	}
	defer to.Close()
	o.log(ctx, actor, "all mail is handed to another relay, as the operator wants", slog.String("to", to.String()))
	tell := func(handed int, err error, done bool) {
		p := DrainProgress{Handed: handed, Left: o.o.Queue.Counts().Messages, Done: done}
		if err != nil {
			p.Error = err.Error()
		}
		progress(p)
	}
	handed, err := o.o.Queue.Drain(ctx, queue.DrainOptions{To: to.String(), Send: to.Send, Forget: to.Forget,
		Progress: func(handed int, err error) { tell(handed, err, false) }})
	if errors.Is(err, queue.ErrDraining) {
		return failed(conflict, err)
	}
	attrs := []slog.Attr{slog.String("to", to.String()), slog.Int("messages", handed), slog.Int("left", o.o.Queue.Counts().Messages)}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	o.log(ctx, actor, "the handing over has ended", attrs...)
	tell(handed, err, true)
	return nil
}

// Take takes mail that another relay hands over, in a run of its drain.
func (o *Operator) Take(ctx context.Context, actor Actor, run string, r io.Reader) (queue.Taken, error) {
	if run == "" || len(run) > 64 {
		return queue.Taken{}, failed(invalid, phrase.Errorf("a drain has the name of its run"))
	}
	t, err := o.o.Queue.Take(ctx, run, r)
	if err != nil {
		return t, failed(conflict, err)
	}
	o.log(ctx, actor, "mail taken from another relay", slog.Int("messages", len(t.IDs)), slog.String("error", t.Error))
	return t, nil
}

// ForgetTaken forgets what was taken in a run of another relay's drain.
func (o *Operator) ForgetTaken(ctx context.Context, run string) error {
	if run == "" {
		return failed(invalid, phrase.Errorf("a drain has the name of its run"))
	}
	return o.o.Queue.ForgetTaken(ctx, run)
}
