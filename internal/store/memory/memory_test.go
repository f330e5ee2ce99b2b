package memory_test

import (
	"testing"

	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

func TestPromises(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Opener {
		var last *memory.Store
		return func() (storetest.Engine, error) {
			if last == nil {
				last = memory.New()
			} else {
				last = last.Reopen()
			}
			return last, nil
		}
	})
}
