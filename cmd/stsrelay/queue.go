package main

import (
	"github.com/spf13/cobra"
)

func (a *app) queueCommand() *cobra.Command {
	return group("queue", "Look into the queue and change it",
		a.queueList(), a.queueShow(), a.queueCat(), a.queueSummary(),
		a.queueChange("retry", "Make messages due now; held ones stay held", "stsrelay queue retry --domain partner.example"),
		a.queueChange("hold", "Keep messages from being tried", "stsrelay queue hold --from scanner@example.com"),
		a.queueChange("release", "Let held messages go, now", "stsrelay queue release --all"),
		a.queueChange("remove", "Delete messages, and tell nobody", "stsrelay queue remove 01KAR7M3QVJ0Z6"),
		a.queueChange("bounce", "Give messages up and tell their senders", "stsrelay queue bounce --domain gone.example --reason 'no such company'"),
		a.queueTrash(), a.queueUndo(), a.queueExport(), a.queueImport(), a.queueRescue(), a.queueDrain(),
		a.queuePause(), a.queueResume(),
	)
}
