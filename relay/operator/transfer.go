package operator

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/stsrelay/stsrelay/queue"
)

// Transfer is what an export file holds, or the result of an import.
type Transfer struct {
	Messages   int      `json:"messages"` // whole; imported, with an import
	Octets     int64    `json:"octets"`   // of their bodies
	Present    int      `json:"present"`  // in the queue already: not imported
	Damaged    int      `json:"damaged"`
	Unreadable int      `json:"unreadable"` // damaged in the store, so not in the file
	Complete   bool     `json:"complete"`   // the end of the file is there
	Problems   []string `json:"problems,omitempty"`
	// Error is why an import ended before the end of the file.
	Error string `json:"error,omitempty"`
}

// Whole reports whether nothing is missing or damaged.
func (t *Transfer) Whole() bool { return t.Complete && t.Damaged == 0 && len(t.Problems) == 0 }

// NewTransfer returns the result of the queue as a Transfer.
func NewTransfer(t queue.Transfer) Transfer {
	return Transfer{Messages: t.Messages, Octets: t.Octets, Present: t.Present, Damaged: t.Damaged,
		Unreadable: t.Unreadable, Complete: t.Complete, Problems: t.Problems}
}

// Export writes the whole queue as docs/export-format.md describes. After an error
// what was written is not whole.
func (o *Operator) Export(ctx context.Context, actor Actor, w io.Writer) error {
	t, err := o.o.Queue.Export(ctx, w)
	if err != nil {
		o.o.Logger.Error("the export of the queue was cut short", "error", err)
		return err
	}
	o.log(ctx, actor, "queue exported by the operator",
		slog.Int("messages", t.Messages), slog.Int64("octets", t.Octets), slog.Int("unreadable", t.Unreadable))
	return nil
}

// Import reads an export file into the queue; hold holds its messages. Once
// messages may have been imported, an error is in the result.
func (o *Operator) Import(ctx context.Context, actor Actor, r io.Reader, hold bool) (Transfer, error) {
	reason := ""
	if hold {
		reason = importedOnHold.String()
	}
	t, err := o.o.Queue.Import(ctx, r, reason)
	out := NewTransfer(t)
	switch {
	case errors.Is(err, queue.ErrImporting):
		return out, failed(conflict, err)
	case errors.Is(err, queue.ErrNoExport):
		return out, failed(rejected, err)
	case err != nil:
		out.Error = err.Error()
	}
	o.log(ctx, actor, "queue imported by the operator", slog.Int("messages", t.Messages), slog.Int("present", t.Present),
		slog.Int("damaged", t.Damaged), slog.Bool("complete", t.Complete), slog.String("error", out.Error))
	return out, nil
}
