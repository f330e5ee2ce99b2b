package operator

import (
	"context"
	"io"
	"log/slog"

	"github.com/stsrelay/stsrelay/relay/backup"
)

// StoreRecords writes all records of the store that are no mail, for a backup, after what
// became of mail until now is in the files of the history. After an error what was written is
// not whole.
func (o *Operator) StoreRecords(ctx context.Context, actor Actor, w io.Writer) error {
	var found backup.Records
	err := o.o.History.Sync(ctx)
	if err == nil {
		found, err = backup.WriteRecords(ctx, o.o.Store, w)
	}
	if err != nil {
		o.o.Logger.Error("a backup of the store was cut short", "error", err)
		return err
	}
	o.log(ctx, actor, "backup of the store requested by the operator", slog.Int("records", found.Records), slog.Int("unreadable", found.Unreadable))
	return nil
}
