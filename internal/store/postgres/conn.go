package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// connectTimeout bounds the opening of a connection to one address of a server of the DSN.
	connectTimeout = 5 * time.Second
	// lockTimeout bounds the wait for a row that an older connection of this relay has
	// locked, or another relay.
	lockTimeout = 3 * time.Second
)

// conn is one connection. It is used by one goroutine at a time.
type conn struct {
	pg *pgconn.PgConn
	// warned is set by a warning of the server. No statement of this package has a reason
	// for one, but a commit has: it was made without the standbys.
	warned string
	// notified is set by a notification, which may come with the answer to a query.
	notified bool
	// prepared are the statements that were prepared on this connection.
	prepared map[string]*pgconn.StatementDescription
}

// dialing marks the contexts that may open a connection to the server. pgconn opens one
// of its own to cancel a statement when it closes a connection. A commit that waits for
// the standbys and is cancelled is reported as done, though one disk alone has it.
type dialing struct{}

var errNoCancel = errors.New("statements are never cancelled")

// parse reads a DSN.
func parse(dsn string) (*pgconn.Config, error) {
	c, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("the URL of PostgreSQL: %w", err)
	}
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if ctx.Value(dialing{}) == nil {
			return nil, errNoCancel
		}
		return dial(ctx, network, addr)
	}
	if c.ConnectTimeout == 0 || c.ConnectTimeout > connectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	if c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return c, nil
}

// session is what each connection sets. Timeouts that an administrator has set for all
// programs would end a slow commit again and again, and connections that are idle: this
// package has its own (within). The last one is there from version 17 on. With what is off,
// the server answers scans from the index, in order and from the first row on.
const session = `set lock_timeout = 3000; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set idle_session_timeout = 0;
	select set_config(name, '0', false) from pg_settings where name = 'transaction_timeout';
	set enable_seqscan = off; set enable_sort = off; set enable_bitmapscan = off`

func connect(ctx context.Context, c *pgconn.Config, name string) (*conn, error) {
	c = c.Copy()
	n := &conn{prepared: make(map[string]*pgconn.StatementDescription)}
	c.RuntimeParams["application_name"] = "stsrelay " + name
	c.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if severity := notice.SeverityUnlocalized; severity != "NOTICE" && severity != "INFO" && severity != "DEBUG" && severity != "LOG" {
			n.warned = notice.Message
		}
	}
	c.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { n.notified = true }
	// Each server of the DSN has its turn, also where one before it is silent at two addresses.
	servers := time.Duration(1 + len(c.Fallbacks))
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, dialing{}, true), 2*c.ConnectTimeout*servers)
	defer cancel()
	pg, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	n.pg = pg
	if err := n.exec(lockTimeout, session); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// notification waits for a notification, unless one has come since the last call.
func (n *conn) notification(ctx context.Context) (err error) {
	if !n.notified {
		err = n.pg.WaitForNotification(ctx)
	}
	n.notified = false
	return err
}

// close drops the connection. What the server does with a statement under way is not
// known.
func (n *conn) close() {
	_ = n.pg.Conn().Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.pg.Close(ctx)
	<-n.pg.CleanupDone()
}

// within calls fn, and closes the socket if fn takes longer than timeout. There is no
// gentler way that never cancels: see dialing.
func (n *conn) within(timeout time.Duration, fn func() error) error {
	n.warned = ""
	timer := time.AfterFunc(timeout, func() { _ = n.pg.Conn().Close() })
	defer timer.Stop()
	err := fn()
	if err == nil && n.warned != "" {
		return fmt.Errorf("%w: the server says: %s", errLost, n.warned)
	}
	return classify(err)
}

// exec runs statements without parameters.
func (n *conn) exec(timeout time.Duration, sql string) error {
	return n.within(timeout, func() error { return n.pg.Exec(context.Background(), sql).Close() })
}

// query runs one prepared statement and calls row for each row of the result, whose
// values are valid only during the call.
func (n *conn) query(timeout time.Duration, sql string, params []param, row func([][]byte)) error {
	return n.within(timeout, func() error {
		q, err := n.prepare(statement{sql, params, row})
		if err != nil {
			return err
		}
		return q.read(n.pg.ExecPrepared(context.Background(), q.name, q.values, q.formats, q.results))
	})
}

// queryThen runs first, and then, when first is committed, and in the same round trip.
func (n *conn) queryThen(timeout time.Duration, first, then statement) error {
	return n.within(timeout, func() error {
		var list [2]prepared
		for i, s := range []statement{first, then} {
			var err error
			if list[i], err = n.prepare(s); err != nil {
				return err
			}
		}
		p := n.pg.StartPipeline(context.Background())
		for _, q := range list {
			p.SendQueryPrepared(q.name, q.values, q.formats, q.results)
			p.SendPipelineSync() // it ends the transaction
		}
		err := p.Flush()
		i := 0
		for i < len(list) && err == nil {
			var result any
			if result, err = p.GetResults(); err == nil {
				switch r := result.(type) {
				case *pgconn.ResultReader:
					err = list[i].read(r)
				case *pgconn.PipelineSync:
					i++
				}
			}
		}
		if closed := p.Close(); err == nil {
			err = closed
		}
		if i > 0 && err != nil { // an error about the second one says nothing of the first
			return errors.New("after the commit: " + err.Error())
		}
		return err
	})
}

// statement is an SQL statement, its parameters, and what reads the rows of its result; nil:
// nothing does.
type statement struct {
	sql    string
	params []param
	row    func([][]byte)
}

// prepared is a statement as it is sent.
type prepared struct {
	name             string
	values           [][]byte
	formats, results []int16
	row              func([][]byte)
}

func (n *conn) prepare(s statement) (q prepared, err error) {
	d, ok := n.prepared[s.sql]
	if !ok {
		if d, err = n.pg.Prepare(context.Background(), "s"+strconv.Itoa(len(n.prepared)), s.sql, nil); err != nil {
			return q, err
		}
		n.prepared[s.sql] = d
	}
	q = prepared{name: d.Name, values: make([][]byte, len(s.params)), formats: make([]int16, len(s.params)), results: make([]int16, len(d.Fields)), row: s.row}
	for i, p := range s.params {
		q.values[i], q.formats[i] = p.value, p.format
	}
	for i, f := range d.Fields {
		if f.DataTypeOID == oidBytea {
			q.results[i] = binaryFormat
		}
	}
	return q, nil
}

func (q *prepared) read(r *pgconn.ResultReader) error {
	for r.NextRow() {
		if q.row != nil {
			q.row(r.Values())
		}
	}
	_, err := r.Close()
	return err
}

const (
	oidBytea     = 17
	binaryFormat = 1
)

// param is the value of a parameter.
type param struct {
	value  []byte
	format int16
}

func text(v string) param   { return param{value: []byte(v)} }
func number(n int64) param  { return param{value: strconv.AppendInt(nil, n, 10)} }
func octets(v []byte) param { return param{value: v, format: binaryFormat} }
func seconds(d time.Duration) param {
	return param{value: strconv.AppendFloat(nil, d.Seconds(), 'f', 3, 64)}
}

// list is a parameter of the type bytea[], in the binary format of PostgreSQL's array_recv.
func list(values [][]byte) param {
	size := 20
	for _, v := range values {
		size += 4 + len(v)
	}
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint32(b, min(1, uint32(len(values)))) // dimensions
	b = binary.BigEndian.AppendUint32(b, 0)                           // no nulls
	b = binary.BigEndian.AppendUint32(b, oidBytea)
	if len(values) > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(len(values)))
		b = binary.BigEndian.AppendUint32(b, 1) // the first index
	}
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return param{value: b, format: binaryFormat}
}

// The errors of this package that decide what happens next.
var (
	// errLost: the server cannot be reached or was lost, and it is not known whether a
	// transaction under way was made.
	errLost = errors.New("the connection to PostgreSQL was lost")
	// errLater: the transaction was not made; the server can make it later.
	errLater = errors.New("PostgreSQL cannot write now")
	// errTerm: the term has ended, or belongs to another relay.
	errTerm = errors.New("the term has ended")
	// errNumber: the last transaction of the space is not the one that was expected.
	errNumber = errors.New("another transaction was the last one")
)

// classify adds to an error of pgconn which of the errors above it is. Any other error is
// of the statement, which was not made.
func classify(err error) error {
	if err == nil {
		return nil
	}
	p, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	class := p.Code[:min(2, len(p.Code))]
	switch {
	case p.Code == "ST001":
		return fmt.Errorf("%w: %w", errTerm, err)
	case p.Code == "ST002":
		return fmt.Errorf("%w: %w", errNumber, err)
	case p.Code == "ST003":
		return fmt.Errorf("%w: %w", store.ErrChanged, err)
	case p.Code == "53100":
		return fmt.Errorf("%w: of PostgreSQL: %w", store.ErrDiskFull, err)
	case class == "08" || class == "57" || class == "58" || class == "XX" || p.Severity == "FATAL" || p.Severity == "PANIC":
		return fmt.Errorf("%w: %w", errLost, err)
	case class == "40" || class == "53" || class == "55" || class == "25":
		return fmt.Errorf("%w: %w", errLater, err)
	}
	return err
}
