package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueImport() *cobra.Command {
	var hold, check bool
	c := &cobra.Command{
		Use: "import FILE", Short: "Take the messages of an export into the queue", Args: oneArg("FILE"),
		Long: `Take the messages of an export into the queue, with their IDs, attempts and due
times. What is in the queue already is passed over, so that an import that was
cut short can be made again. A damaged message costs itself and nothing else.
The file - is standard input.

What was delivered since the export is delivered a second time: with --hold
nothing goes out before "queue release".`,
		Example: "  stsrelay queue import --check /backup/queue.export\n  stsrelay queue import --hold /backup/queue.export",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, size := a.in, int64(0)
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
				if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
					size = info.Size()
				}
			}
			p := a.progress("import", size, human.Size)
			t, err := a.importFrom(cmd.Context(), p.reader(in), hold, check)
			p.end()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return a.imported(t, check)
		},
	}
	c.Flags().BoolVar(&hold, "hold", false, "hold all that is imported")
	c.Flags().BoolVar(&check, "check", false, "only read the file and say what it holds; needs no relay")
	return c
}

func (a *app) importFrom(ctx context.Context, in io.Reader, hold, check bool) (operator.Transfer, error) {
	if check {
		t, err := queue.CheckExport(in)
		return operator.NewTransfer(t), err
	}
	client, err := a.client()
	if err != nil {
		return operator.Transfer{}, err
	}
	return client.Import(ctx, in, hold)
}

// imported prints the result of an import. It returns an error if anything is wrong with
// the file.
func (a *app) imported(t operator.Transfer, check bool) error {
	var errs []error
	if a.json {
		errs = append(errs, a.printJSON(t))
	} else {
		verb := "imported"
		if check {
			verb = "whole:"
		}
		fmt.Fprintf(a.out, "%s %s, %s; %d in the queue already, %d damaged, %d unreadable when it was exported\n",
			verb, human.Plural(t.Messages, "message"), human.Size(t.Octets), t.Present, t.Damaged, t.Unreadable)
	}
	if t.Error != "" {
		errs = append(errs, errors.New(t.Error))
	} else if !t.Whole() {
		errs = append(errs, errors.New("the file is not what was exported"))
	}
	for _, p := range t.Problems {
		errs = append(errs, errors.New(p))
	}
	return errors.Join(errs...)
}
