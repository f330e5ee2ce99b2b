package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

func TestTroublesOfAFleet(t *testing.T) {
	well := func() postgres.Fleet {
		return postgres.Fleet{
			Spaces:   []postgres.Space{{Name: "a", Holder: "a", Left: time.Second, Messages: 3}, {Name: "old"}},
			Standbys: []postgres.Standby{{Name: "b", State: "streaming", Sync: "quorum"}},
			Live:     1000, Dead: 90_000,
		}
	}
	for _, row := range []struct {
		key    string
		change func(*postgres.Fleet)
		words  string
	}{
		{"", func(*postgres.Fleet) {}, ""},
		{"space-old", func(f *postgres.Fleet) { f.Spaces[1].Messages = 2 }, "nobody holds the messages of old: 2 wait"},
		{"standby", func(f *postgres.Fleet) { f.Standbys[0].Sync = "async" }, "b streaming async"},
		{"standby", func(f *postgres.Fleet) { f.Standbys[0].State = "catchup" }, "no standby is in step"},
		{"standby", func(f *postgres.Fleet) { f.Standbys = nil }, "none that this user can see"},
		{"clock", func(f *postgres.Fleet) { f.Clock = -2100 * time.Millisecond }, "2.1s"},
		{"transaction", func(f *postgres.Fleet) { f.OldestTransaction = 61 * time.Minute }, "1h1m0s"},
		{"dead-rows", func(f *postgres.Fleet) { f.Dead = 200_000 }, "200000 dead rows and 1000 live"},
	} {
		f := well()
		row.change(&f)
		list := f.Troubles(postgres.Required)
		switch {
		case row.key == "" && len(list) == 0:
		case len(list) != 1 || list[0].Key != row.key || !strings.Contains(list[0].Text.String(), row.words) || list[0].Text.German() == list[0].Text.String():
			t.Errorf("%s: %+v", row.key, list)
		}
	}
	f := well()
	f.Standbys = nil
	if list := f.Troubles(postgres.Managed); len(list) != 0 {
		t.Errorf("the provider replicates: %+v", list)
	}
}
