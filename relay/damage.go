package relay

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
)

// StoreDir returns the folder of the store in a data folder.
func StoreDir(dataDir string) string { return filepath.Join(dataDir, "queue") }

// explainDamage adds to the error of a damaged store how many messages are sound and
// what to do. It returns other errors as they are.
func explainDamage(c *config.Config, version string, err error) error {
	damage, ok := errors.AsType[*badger.DamageError](err)
	if !ok {
		return err
	}
	sound := "what is sound of it cannot be told"
	if n, all, err := surveyStore(damage, version); err == nil {
		sound = fmt.Sprintf("%d of %s are sound", n, human.Plural(all, "message"))
	}
	if damage.Foreign {
		return fmt.Errorf("%w. %s; nothing was changed. Is the right disk or volume mounted? Put the right folder there. "+
			"If there is none: take out what is there with \"stsrelay queue rescue --data-dir %s FILE\", move %s and %s away, start the relay, and bring the messages back with \"stsrelay queue import FILE\"",
			err, sound, c.DataDir, damage.Dir, badger.IdentityFile(damage.Dir))
	}
	return fmt.Errorf("%w. %s; nothing was changed. Look at the disk first. Then take out what is sound with "+
		"\"stsrelay queue rescue --data-dir %s FILE\", move %s away, start the relay, and bring the messages back with \"stsrelay queue import FILE\"",
		err, sound, c.DataDir, damage.Dir)
}

// surveyStore counts the sound messages of a damaged store, and all that it held as far
// as is known.
func surveyStore(damage *badger.DamageError, version string) (sound, all int, err error) {
	s, err := badger.OpenSalvage(damage.Dir, version)
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	r, err := queue.Rescue(s, io.Discard)
	return r.Messages, max(damage.Expected, r.Messages+len(r.Lost)), err
}
