package postgres

import (
	"context"
	"errors"
	"time"
)

// Order is what an operator asks of the relay that holds a space.
type Order struct {
	Space   string
	Content []byte
	id      int64
}

// ErrWithdrawn is the error of Ask where nobody has begun to execute the order: nothing
// was done, and nothing will be.
var ErrWithdrawn = errors.New("the relay that holds the space does not answer; nothing was done there")

// ErrNoAnswer is the error of Ask where the order was begun and has no answer.
var ErrNoAnswer = errors.New("the relay that holds the space has begun, and does not answer: it is not known what was done there")

const (
	// orderChannel is the name of the notifications about orders.
	orderChannel = "stsrelay_orders"
	// askAgain is the time between two looks for an answer.
	askAgain = 100 * time.Millisecond
	// keepOrders is how long an order stays whose asker has gone.
	keepOrders = "1 hour"
)

// Ask hands an order to the relay that holds a space, and waits until ctx ends for its
// answer.
func (d *Directory) Ask(ctx context.Context, o Order) (answer []byte, err error) {
	id := int64(0)
	err = d.query(ctx, "insert into stsrelay.orders (space, content) select id, $2 from stsrelay.spaces where name = $1 returning id",
		[]param{text(o.Space), octets(o.Content)}, func(row [][]byte) { id = integer(row[0]) })
	if err == nil && id == 0 {
		return nil, ErrWithdrawn
	}
	if err == nil {
		err = d.query(ctx, "select pg_notify('"+orderChannel+"', '')", nil, nil)
	}
	for err == nil && ctx.Err() == nil {
		answered := false
		err = d.query(ctx, "delete from stsrelay.orders where id = $1 and answer is not null returning answer", []param{number(id)}, func(row [][]byte) {
			answered, answer = true, append([]byte{}, row[0]...)
		})
		if answered || err != nil {
			return answer, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
	if err != nil {
		return nil, err
	}
	return d.withdraw(id)
}

// withdraw deletes an order without an answer, if it has not begun.
func (d *Directory) withdraw(id int64) (answer []byte, err error) {
	err = ErrNoAnswer
	e := d.query(context.Background(), "delete from stsrelay.orders where id = $1 and (not begun or answer is not null) returning answer", []param{number(id)}, func(row [][]byte) {
		err = ErrWithdrawn
		if row[0] != nil {
			err, answer = nil, append([]byte{}, row[0]...)
		}
	})
	if e != nil {
		return nil, e
	}
	return answer, err
}

// Orders returns the orders for the spaces that a relay holds, which have not begun.
func (d *Directory) Orders(ctx context.Context, holder string) (list []Order, err error) {
	err = d.query(ctx, `select o.id, s.name, o.content from stsrelay.orders o join stsrelay.spaces s on s.id = o.space
		where s.holder = $1 and s.until > clock_timestamp() and not o.begun order by o.id`, []param{text(holder)}, func(row [][]byte) {
		list = append(list, Order{id: integer(row[0]), Space: string(row[1]), Content: append([]byte{}, row[2]...)})
	})
	return list, err
}

// Begin marks an order as begun. It reports whether this caller shall execute it.
func (d *Directory) Begin(ctx context.Context, o Order) (mine bool, err error) {
	err = d.query(ctx, "update stsrelay.orders set begun = true where id = $1 and not begun returning id", []param{number(o.id)}, func([][]byte) { mine = true })
	return mine, err
}

// Answer answers an order.
func (d *Directory) Answer(ctx context.Context, o Order, answer []byte) error {
	return d.query(ctx, "update stsrelay.orders set answer = $2 where id = $1", []param{number(o.id), octets(answer)}, nil)
}

// SweepOrders deletes orders whose askers have gone.
func (d *Directory) SweepOrders(ctx context.Context) error {
	return d.query(ctx, "delete from stsrelay.orders where made < clock_timestamp() - interval '"+keepOrders+"'", nil, nil)
}

// WaitForOrder waits until an order may have come, for d at most. Without notifications,
// as behind some proxies, it is that time.
func (d *Directory) WaitForOrder(ctx context.Context, most time.Duration) error {
	if err := d.query(ctx, "select 1", nil, nil); err != nil { // it opens the connection
		return err
	}
	if !d.listening {
		if err := d.conn.exec(sqlTimeout, "listen "+orderChannel); err != nil {
			d.Close()
			return err
		}
		d.listening = true
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := d.conn.notification(ctx)
	if err == nil || ctx.Err() != nil && !d.conn.pg.IsClosed() {
		return nil
	}
	d.Close()
	return err
}
