package postgres

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Space is what is known of a space without holding it.
type Space struct {
	Name string `json:"name"`
	// Holder is the relay that holds it, "" for none.
	Holder string `json:"holder"`
	Term   int64  `json:"term"`
	// Since is when Holder took it.
	Since time.Time `json:"since"`
	// Left is how long the term holds without renewal, 0 or less where nobody holds the
	// space.
	Left time.Duration `json:"-"`
	// GivenUp reports whether its holder has stopped as planned.
	GivenUp bool `json:"-"`
	// WantedBy is the relay that asks for it, "" for none.
	WantedBy string `json:"wanted_by,omitempty"`
	// Messages is how many messages wait in it.
	Messages int64 `json:"messages"`
	// Notices reports whether notices are held back in it.
	Notices bool `json:"-"`
}

// Held reports whether a relay holds the space.
func (s *Space) Held() bool { return s.Left > 0 }

// Standby is a server that follows the primary.
type Standby struct {
	Name string `json:"name"`
	// State is the state of replication, such as "streaming"; Sync is "sync", "quorum",
	// "potential" or "async".
	State string `json:"state"`
	Sync  string `json:"sync"`
}

// Fleet is the state of all that share a database.
type Fleet struct {
	Spaces []Space `json:"spaces"`
	// Standbys is empty where the server does not show them to this user.
	Standbys []Standby `json:"standbys"`
	// Clock is how far the server's clock is ahead of this machine's.
	Clock time.Duration `json:"-"`
	// OldestTransaction is the age of the oldest snapshot that keeps rows from being
	// cleaned up.
	OldestTransaction time.Duration `json:"-"`
	// Live and Dead are the rows of the table of entries, as the server has counted them.
	Live int64 `json:"live_rows"`
	Dead int64 `json:"dead_rows"`
}

// Directory reads what all relays have in a database. It is used by one goroutine at a
// time.
type Directory struct {
	config *pgconn.Config
	name   string
	conn   *conn
	// listening reports whether conn gets notifications about orders.
	listening bool
}

// NewDirectory opens nothing yet. name is that of the reader, for the server's list of
// connections.
func NewDirectory(url, name string) (*Directory, error) {
	config, err := parse(url)
	if err != nil {
		return nil, err
	}
	return &Directory{config: config, name: name}, nil
}

// Close closes the connection.
func (d *Directory) Close() {
	if d.conn != nil {
		d.conn.close()
		d.conn, d.listening = nil, false
	}
}

func (d *Directory) query(ctx context.Context, sql string, params []param, row func([][]byte)) (err error) {
	if d.conn == nil {
		if d.conn, err = connect(ctx, d.config, d.name); err != nil {
			d.conn = nil
			return err
		}
	}
	if err = d.conn.query(sqlTimeout, sql, params, row); err != nil {
		d.Close()
	}
	return err
}

// Spaces returns all spaces, in the order of their names.
func (d *Directory) Spaces(ctx context.Context) (list []Space, err error) {
	err = d.query(ctx, `select s.name, s.holder, s.term, coalesce(extract(epoch from nullif(s.since, '-infinity')), 0),
			greatest(coalesce(extract(epoch from nullif(s.until, '-infinity') - clock_timestamp()), 0), 0), s.wanted_by,
			(select count(*) from stsrelay.entries e where e.space = s.id and e.key >= $1 and e.key < $2 and length(e.key) = 9), s.until = '-infinity',
			exists (select from stsrelay.entries e where e.space = s.id and e.key >= $3 and e.key < $4)
		from stsrelay.spaces s order by s.name`,
		[]param{octets(store.PrefixMessage), octets(successor(store.PrefixMessage)), octets(store.PrefixNotice), octets(successor(store.PrefixNotice))}, func(row [][]byte) {
			s := Space{Name: string(row[0]), Holder: string(row[1]), Term: integer(row[2]), Left: duration(row[4]), WantedBy: string(row[5]), Messages: integer(row[6]), GivenUp: string(row[7]) == "t", Notices: string(row[8]) == "t"}
			if since := duration(row[3]); since > 0 {
				s.Since = time.Unix(0, int64(since)).UTC()
			}
			if !s.Held() {
				s.Holder = ""
			}
			list = append(list, s)
		})
	return list, err
}

// Fleet returns the state of all.
func (d *Directory) Fleet(ctx context.Context) (f Fleet, err error) {
	if f.Spaces, err = d.Spaces(ctx); err != nil {
		return f, err
	}
	before := time.Now()
	var clock time.Duration
	err = d.query(ctx, `select extract(epoch from clock_timestamp()),
			coalesce((select extract(epoch from max(clock_timestamp() - xact_start)) from pg_stat_activity where backend_xmin is not null and pid <> pg_backend_pid()), 0),
			coalesce((select n_live_tup from pg_stat_user_tables where relid = 'stsrelay.entries'::regclass), 0),
			coalesce((select n_dead_tup from pg_stat_user_tables where relid = 'stsrelay.entries'::regclass), 0)`, nil, func(row [][]byte) {
		clock, f.OldestTransaction, f.Live, f.Dead = duration(row[0]), duration(row[1]), integer(row[2]), integer(row[3])
	})
	if err != nil {
		return f, err
	}
	middle := before.Add(time.Since(before) / 2)
	f.Clock = time.Unix(0, int64(clock)).Sub(middle)
	err = d.query(ctx, "select application_name, state, sync_state from pg_stat_replication where state is not null order by 1", nil, func(row [][]byte) {
		f.Standbys = append(f.Standbys, Standby{Name: string(row[0]), State: string(row[1]), Sync: string(row[2])})
	})
	return f, err
}

// Want asks the relay that holds a space to hand it over to who.
func (d *Directory) Want(ctx context.Context, space, who string) error {
	return d.query(ctx, "update stsrelay.spaces set wanted_by = $2 where name = $1", []param{text(space), text(who)}, nil)
}

// duration reads seconds.
func duration(v []byte) time.Duration {
	seconds, _ := strconv.ParseFloat(string(v), 64) // it comes from a number
	return time.Duration(seconds * float64(time.Second))
}
