package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// errRefused is wrapped by the error about a batch that cannot be written. Nothing of its
// transaction was.
var errRefused = errors.New("the change was not written")

// writer makes the transactions. Only the committer uses it.
type writer struct {
	s      *Store
	conn   *conn // nil: none is open
	number int64 // of the last transaction
	fence  int64
	epoch  int // for Txn.Epoch
	// doubt are the batches of a transaction of which it is not known whether it was made;
	// its number is the next one. doubtful is true also when none of them waits any more.
	doubt    []*request
	doubtful bool
	// cache has values that functions have read or written: nobody else changes them.
	cache map[string][]byte
}

// fenceTries is how often a transaction is begun anew because the fence was raised.
const fenceTries = 100

// cacheEntries bounds the cache.
const cacheEntries = 20000

// drop closes the connection.
func (w *writer) drop() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
}

// forget is called when a transaction was not made, or nobody knows.
func (w *writer) forget() {
	w.epoch++
	w.cache = nil
}

// confirm opens a connection if there is none, and finds out what was the last transaction.
// With that, a transaction in doubt is decided: its batches are answered, or wait again.
func (w *writer) confirm(deadline time.Time) (err error) {
	if w.conn == nil {
		// A server that is silent may use up all the time that is left, and the next one of
		// the DSN has its turn only then: so the deadline does not count here.
		if w.conn, err = w.s.connect(context.Background()); err != nil {
			w.conn = nil
			return err
		}
		deadline = w.s.deadline()
	}
	var last, fence int64
	ask := func() error {
		return w.commit(deadline, statement{
			sql:    "select last, new_fence from stsrelay.confirm($1, $2)",
			params: []param{number(w.s.term.space), number(w.s.term.number)},
			row:    func(row [][]byte) { last, fence = integer(row[0]), integer(row[1]) },
		})
	}
	if err = ask(); errors.Is(err, errTerm) {
		if err = w.s.renewNow(context.Background()); err == nil {
			err = ask()
		}
	}
	if err != nil {
		if !errors.Is(err, errLater) {
			w.drop()
		}
		return err
	}
	made := last == w.number+1
	w.number, w.fence = last, fence
	w.decide(made)
	return nil
}

// decide ends the doubt about a transaction.
func (w *writer) decide(made bool) {
	doubt := w.doubt
	w.doubt, w.doubtful = nil, false
	if !made {
		w.s.putBack(doubt)
		return
	}
	for _, r := range doubt {
		r.answer(nil)
	}
}

// write makes the changes of group in one transaction. errRefused: one of the batches
// cannot be written. errLost: the transaction is in doubt, if w.doubt has it.
func (w *writer) write(group []*request, deadline time.Time) error {
	if w.conn == nil || w.doubtful {
		if w.doubtful && len(w.doubt) > 0 {
			return errLater // confirm decides it first, so that the order is kept
		}
		if err := w.confirm(deadline); err != nil {
			return err
		}
		deadline = w.s.deadline() // to connect may have taken what was left
	}
	err := w.try(group, deadline)
	for n := 0; n < fenceTries && errors.Is(err, errNumber); n++ {
		// Another relay moves rows from this space. What functions have read may be older
		// than that.
		if err = w.confirm(deadline); err == nil {
			err = w.try(group, deadline)
		}
	}
	return err
}

// try makes one attempt at the changes of group.
func (w *writer) try(group []*request, deadline time.Time) error {
	t := &transaction{w: w, changed: make(map[string][]byte)}
	if len(group) == 1 {
		t.move = group[0].move
	}
	if err := t.apply(group, deadline); err != nil {
		w.forget()
		if t.failure != nil {
			w.drop()
			return t.failure
		}
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if len(t.changed) == 0 && t.move == nil {
		return nil
	}
	err := w.send(t, deadline)
	if errors.Is(err, errTerm) {
		if err = w.s.renewNow(context.Background()); err == nil {
			err = w.send(t, deadline)
		}
	}
	switch {
	case err == nil:
		w.number++
		w.remember(t)
		return nil
	case errors.Is(err, store.ErrFailed), errors.Is(err, store.ErrDiskFull), errors.Is(err, errLater):
	case errors.Is(err, errLost):
		w.doubt, w.doubtful = group, true
		w.drop()
	case errors.Is(err, errNumber):
		err = fmt.Errorf("%w: %w", errLater, err)
	case errors.Is(err, errTerm):
		w.drop()
		err = fmt.Errorf("%w: %w", errLater, err)
	default:
		err = fmt.Errorf("%w: %w", errRefused, err)
	}
	w.forget()
	return err
}

func (w *writer) send(t *transaction, deadline time.Time) error {
	var deletes, keys, values [][]byte
	for k, v := range t.changed {
		if v == nil {
			deletes = append(deletes, []byte(k))
		} else {
			keys = append(keys, []byte(k))
			values = append(values, v)
		}
	}
	write := statement{
		sql:    "select stsrelay.write($1, $2, $3, $4, $5, $6, $7)",
		params: []param{number(w.s.term.space), number(w.s.term.number), number(w.number + 1), number(w.fence), list(deletes), list(keys), list(values)},
	}
	if m := t.move; m != nil {
		write.sql = "select stsrelay.move($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
		write.params = append(write.params, number(m.space), list(m.from), list(m.to), number(m.count), number(m.revs))
	}
	return w.commit(deadline, write)
}

// commit runs a statement that writes. Then it looks at the settings, which may have changed
// while the commit waited for a standby: it was released without one then.
func (w *writer) commit(deadline time.Time, write statement) error {
	var is settings
	if err := w.conn.queryThen(time.Until(deadline), write, statement{sql: sqlSettings, row: is.read}); err != nil {
		return err
	}
	if err := is.check(w.s.o.Replication); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

// remember keeps what functions have read or written, for the next transactions.
func (w *writer) remember(t *transaction) {
	if w.cache == nil || len(w.cache)+len(t.read) > cacheEntries {
		w.cache = make(map[string][]byte)
	}
	for k, v := range t.read {
		w.cache[k] = v
	}
	for k, v := range t.changed {
		if _, ok := w.cache[k]; ok || t.made[k] {
			w.cache[k] = v
		}
	}
}

// transaction is what the batches of one transaction change. It implements store.Txn.
// Functions run before the transaction is sent. That is as good as inside: the
// transaction is refused if any other was made in between.
type transaction struct {
	w        *writer
	deadline time.Time
	changed  map[string][]byte // nil: deleted
	read     map[string][]byte // from the server; nil: none
	made     map[string]bool   // by a function
	move     *move             // nil: nothing
	failure  error             // of the connection
}

func (t *transaction) apply(group []*request, deadline time.Time) error {
	t.deadline = deadline
	t.read, t.made = make(map[string][]byte), make(map[string]bool)
	if err := t.prefetch(group); err != nil {
		return err
	}
	for _, r := range group {
		for _, o := range r.batch.Ops() {
			if err := t.change(&o); err != nil {
				return fmt.Errorf("%q: %w", o.Key, err)
			}
		}
	}
	return nil
}

func (t *transaction) change(o *store.Op) error {
	switch {
	case o.Do != nil:
		return o.Do(t)
	case o.Update != nil:
		old, err := t.Get(o.Key)
		if err != nil {
			return err
		}
		value := o.Update(old)
		if value == nil {
			return t.Delete(o.Key)
		}
		return t.Set(o.Key, value)
	case len(o.Key) == 0:
		return errEmptyKey
	}
	t.changed[string(o.Key)] = o.Value
	return nil
}

var errEmptyKey = errors.New("the key is empty")

// prefetch reads, at once, the values that the Updates of group begin with.
func (t *transaction) prefetch(group []*request) error {
	var keys [][]byte
	for _, r := range group {
		for _, o := range r.batch.Ops() {
			if o.Update != nil {
				if _, known := t.known(o.Key); !known {
					keys = append(keys, o.Key)
					t.read[string(o.Key)] = nil
				}
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return t.query("select key, value from stsrelay.entries where space = $1 and key = any ($2)",
		list(keys), func(row [][]byte) { t.read[string(row[0])] = append([]byte{}, row[1]...) })
}

func (t *transaction) query(sql string, p param, row func([][]byte)) error {
	err := t.w.conn.query(min(time.Until(t.deadline), readTimeout), sql, []param{number(t.w.s.term.space), p}, row)
	t.failure = err
	return err
}

// known returns the value of key if it is known without asking the server.
func (t *transaction) known(key []byte) (value []byte, known bool) {
	if value, known = t.changed[string(key)]; known {
		return value, true
	}
	if value, known = t.w.cache[string(key)]; known {
		return value, true
	}
	value, known = t.read[string(key)]
	return value, known
}

func (t *transaction) Epoch() int { return t.w.epoch }

func (t *transaction) Get(key []byte) ([]byte, error) {
	value, known := t.known(key)
	if !known {
		err := t.query("select value from stsrelay.entries where space = $1 and key = $2",
			octets(key), func(row [][]byte) { value = append([]byte{}, row[0]...) })
		if err != nil {
			return nil, err
		}
		t.read[string(key)] = value
	}
	if value == nil {
		return nil, nil
	}
	return append([]byte{}, value...), nil
}

func (t *transaction) Set(key, value []byte) error {
	if len(key) == 0 {
		return errEmptyKey
	}
	t.changed[string(key)] = append([]byte{}, value...)
	t.made[string(key)] = true
	return nil
}

func (t *transaction) Delete(key []byte) error {
	if len(key) == 0 {
		return errEmptyKey
	}
	t.changed[string(key)] = nil
	t.made[string(key)] = true
	return nil
}
