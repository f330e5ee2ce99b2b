package postgres_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

// An administrator may set timeouts for all programs. Those of this package are its own.
func TestTimeoutsOfTheServerDoNotEndWhatIsUnderWay(t *testing.T) {
	space := newSpace()
	query(t, `create role hurried login superuser; alter role hurried set statement_timeout = '1s';
		alter role hurried set idle_in_transaction_session_timeout = '1s'; alter role hurried set idle_session_timeout = '1s'`)
	t.Cleanup(func() { query(t, "drop role hurried") })
	var log strings.Builder
	s, err := postgres.Open(t.Context(), postgres.Options{URL: strings.Replace(cluster.URL(), "user=stsrelay", "user=hurried", 1), Space: space,
		Patience: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var b store.Batch
	for i := range 100 { // more than the first page of a scan
		b.Set(fmt.Appendf(nil, "k%02d", i), []byte("v"))
	}
	answer := make(chan error, 1)
	s.Submit(&b, func(err error) { answer <- err })
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	rows := 0
	err = s.Scan([]byte("k"), nil, func(_, _ []byte) error {
		if rows++; rows == 1 {
			query(t, "select pg_sleep(1.5)") // other connections are idle meanwhile, and this one in a transaction
		}
		return nil
	})
	if err != nil || rows != 100 {
		t.Errorf("a slow reader sees %d rows, %v", rows, err)
	}
	query(t, `create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(1.5); return new; end';
		create trigger slow before insert on stsrelay.entries for each row when (new.key = 'slow') execute function slow()`)
	t.Cleanup(func() { query(t, "drop function slow cascade") })
	if err := <-submit(s, "slow"); err != nil {
		t.Errorf("a slow commit: %v", err)
	}
	if err := s.Close(); err != nil { // nothing is logged after it
		t.Error(err)
	}
	if text := log.String(); text != "" {
		t.Errorf("the log: %s", text)
	}
}

// Where the server lets itself be asked and ends each commit, the patience has its end too.
func TestACommitThatTheServerAlwaysEndsIsAnswered(t *testing.T) {
	s, err := openSpace(t, postgres.Options{Space: newSpace(), Patience: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	query(t, `create function ended() returns trigger language plpgsql as 'begin raise exception using errcode = ''57014''; end';
		create trigger ended before insert on stsrelay.entries for each row when (new.key = 'ended') execute function ended()`)
	t.Cleanup(func() { query(t, "drop function ended cascade") })
	select {
	case err := <-submit(s, "ended"):
		if !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrAway) {
			t.Errorf("answered with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("there is no answer")
		query(t, "drop trigger ended on stsrelay.entries") // or the store cannot be closed
	}
	await.Until(t, "another commit", func() bool { return <-submit(s, "k") == nil })
}
