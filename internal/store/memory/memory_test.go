package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func place(p *memory.Place) storetest.Place {
	return storetest.Place{
		Open:       func(*testing.T) storetest.Engine { return p.Open() },
		Crash:      func(*testing.T) storetest.Place { return place(p.Crash()) },
		Fill:       p.Fill,
		Fail:       func(storetest.Engine) { p.Fail() },
		LoseAnswer: p.LoseAnswer,
		Damage:     func(_ *testing.T, key []byte) { p.Damage(key) },
	}
}

func TestTheEngineKeepsItsPromises(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Place { return place(new(memory.Place)) })
}
