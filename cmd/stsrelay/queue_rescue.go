package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
)

// rescued is what queue rescue prints as JSON.
type rescued struct {
	File     string        `json:"file"`
	Damage   []string      `json:"damage"`
	Messages int           `json:"messages"`
	Octets   int64         `json:"octets"`
	Expected int           `json:"expected"` // messages that the store is known to have held
	Lost     []lostMessage `json:"lost"`
}

type lostMessage struct {
	ID         string   `json:"id"`
	From       string   `json:"from"`
	Recipients []string `json:"recipients"`
	Why        string   `json:"why"`
}

func (a *app) queueRescue() *cobra.Command {
	var dataDir string
	c := &cobra.Command{
		Use: "rescue FILE", Short: "Take everything that is sound out of a store that cannot be opened; the relay is stopped", Args: oneArg("FILE"),
		Long: `Take every message that is sound out of the store of a relay that does not run,
as a file that "queue import" reads, and list the messages that are not sound,
with queue ID, sender and recipients where they can be read. Nothing in the
store is changed.

Then move the store away (DATA_DIR/queue), start the relay, which makes a new
one, and import the file. Where the end of the store is damaged, what was
delivered last may be in the file, and be delivered a second time from there.`,
		Example: "  stsrelay queue rescue --data-dir /var/lib/stsrelay /backup/rescued.export",
		RunE: func(_ *cobra.Command, args []string) error {
			if dataDir == "" {
				c, _, err := a.load()
				if err != nil {
					return err
				}
				dataDir = c.DataDir
			}
			return a.rescue(relay.StoreDir(dataDir), args[0])
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", "", "the relay's data_dir; default that of the configuration")
	return c
}

func (a *app) rescue(dir, file string) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("there is no store: %w", err)
	}
	s, err := badger.OpenSalvage(dir, version)
	if err != nil {
		return err
	}
	defer s.Close()
	r, w := io.Pipe()
	var found queue.Rescued
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		found, err = queue.Rescue(s, w)
		_ = w.CloseWithError(err)
	}()
	_, err = saveExport(file, r)
	_ = r.Close() // if the file could not be written
	<-done
	if err != nil {
		return err
	}
	if found.Messages > 0 { // else an empty folder in place of the store is still a loss
		if err := badger.MarkRescued(dir); err != nil {
			fmt.Fprintf(a.err, "warning: %v; move %s away together with the store\n", err, badger.IdentityFile(dir))
		}
	}
	return a.rescued(s.Damage, found, file)
}

func (a *app) rescued(damage *badger.DamageError, found queue.Rescued, file string) error {
	out := rescued{File: file, Damage: []string{}, Messages: found.Messages, Octets: found.Octets, Expected: found.Messages + len(found.Lost), Lost: []lostMessage{}}
	if damage != nil {
		out.Damage = damage.Problems
		out.Expected = max(out.Expected, damage.Expected)
	}
	for _, m := range found.Lost {
		out.Lost = append(out.Lost, lostMessage(m))
	}
	if a.json {
		return a.printJSON(out)
	}
	for _, d := range out.Damage {
		fmt.Fprintf(a.out, "damaged: %s\n", d)
	}
	fmt.Fprintf(a.out, "rescued %d of %s, %s, to %s\n", out.Messages, human.Plural(out.Expected, "message"), human.Size(out.Octets), file)
	for _, m := range out.Lost {
		unknown := func(s string) string {
			if s == "" {
				return "unknown"
			}
			return s
		}
		fmt.Fprintf(a.out, "not sound: id %s, from %s, to %s: %s\n", unknown(m.ID), unknown(m.From), unknown(strings.Join(m.Recipients, ", ")), m.Why)
	}
	if n := out.Expected - out.Messages - len(out.Lost); n > 0 {
		fmt.Fprintf(a.out, "missing: %s of which nothing is left\n", human.Plural(n, "message"))
	}
	if out.Messages == 0 && out.Expected > 0 {
		return errors.New("no message could be taken out")
	}
	return nil
}
