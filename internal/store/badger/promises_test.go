package badger

import (
	"testing"

	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

func TestPromises(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		dir := t.TempDir()
		return func() (storetest.Engine, error) { return Open(Options{Dir: dir}) }
	})
}
