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
		Use: "rescue FILE", Short: "Take what is sound out of a damaged store", Args: oneArg("FILE"),
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
	damage, found, err := a.takeOut(dir, file)
	if err != nil {
		return err
	}
	if found.Messages > 0 { // else an empty folder in place of the store is still a loss
		if err := badger.MarkRescued(dir); err != nil {
			fmt.Fprintf(a.err, "warning: %v; move %s away together with the store\n", err, badger.IdentityFile(dir))
		}
	}
	return a.rescued(a.out, "rescued", damage, found, file)
}

// takeOut writes the sound messages of a store that no process uses to a file; "-" is
// standard output. It changes nothing in the store.
func (a *app) takeOut(dir, file string) (*badger.DamageError, queue.Rescued, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, queue.Rescued{}, fmt.Errorf("there is no store: %w", err)
	}
	s, err := badger.OpenSalvage(dir, version)
	if err != nil {
		return nil, queue.Rescued{}, err
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
	p := a.progress("export", 0, human.Size)
	if file == "-" {
		_, err = copyExport(a.raw, p.reader(r))
	} else {
		_, err = saveExport(file, p.reader(r))
	}
	p.end()
	_ = r.Close() // if the file could not be written
	<-done
	return s.Damage, found, err
}

// rescued prints what takeOut has found; did is the word for it.
func (a *app) rescued(to io.Writer, did string, damage *badger.DamageError, found queue.Rescued, file string) error {
	out := rescued{File: file, Damage: []string{}, Messages: found.Messages, Octets: found.Octets, Expected: found.Messages + len(found.Lost), Lost: []lostMessage{}}
	if damage != nil {
		out.Damage = damage.Problems
		out.Expected = max(out.Expected, damage.Expected)
	}
	for _, m := range found.Lost {
		out.Lost = append(out.Lost, lostMessage(m))
	}
	if a.json && to == a.out {
		return a.printJSON(out)
	}
	for _, d := range out.Damage {
		fmt.Fprintf(to, "damaged: %s\n", d)
	}
	fmt.Fprintf(to, "%s %d of %s, %s, to %s\n", did, out.Messages, human.Plural(out.Expected, "message"), human.Size(out.Octets), file)
	for _, m := range out.Lost {
		unknown := func(s string) string {
			if s == "" {
				return "unknown"
			}
			return s
		}
		fmt.Fprintf(to, "not sound: id %s, from %s, to %s: %s\n", unknown(m.ID), unknown(m.From), unknown(strings.Join(m.Recipients, ", ")), m.Why)
	}
	if n := out.Expected - out.Messages - len(out.Lost); n > 0 {
		fmt.Fprintf(to, "missing: %s of which nothing is left\n", human.Plural(n, "message"))
	}
	if out.Messages == 0 && out.Expected > 0 {
		return errors.New("no message could be taken out")
	}
	return nil
}
