//go:build linux

package main

import (
	"encoding/binary"
	"log"
	"os"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"

	store "github.com/stsrelay/stsrelay/internal/store/badger"
)

// openLog opens the log: write appends, and comes back when it is on the disk; done forgets
// what is delivered.
func openLog(file string, inBadger bool) (write func(batch []*mail) error, done func(m *mail), err error) {
	if inBadger {
		return openBadger(file)
	}
	return openFile(file)
}

// openFile opens a log that all who wait append to with one fdatasync.
func openFile(name string) (write func(batch []*mail) error, done func(m *mail), err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	var buf []byte
	return func(batch []*mail) error {
		buf = buf[:0]
		for _, m := range batch {
			buf = append(buf, m.content...)
		}
		if _, err := file.Write(buf); err != nil {
			return err
		}
		return syscall.Fdatasync(int(file.Fd()))
	}, func(*mail) {}, err
}

// openBadger opens a database with the options of the relay's store. It is to show what
// the database costs without what the relay does beside it: a message is one value, and
// what is delivered is deleted in transactions of some milliseconds.
func openBadger(file string) (write func(batch []*mail) error, done func(m *mail), err error) {
	db, err := badger.Open(store.BadgerOptions(file+".badger", nil))
	if err != nil {
		return nil, nil, err
	}
	var last uint64
	delivered := make(chan *mail, 100_000)
	go forget(db, delivered)
	return func(batch []*mail) error {
		txn := db.NewTransaction(true)
		defer txn.Discard()
		for _, m := range batch {
			last++
			m.number = last
			if err := txn.Set(key(m), m.content); err != nil {
				return err
			}
		}
		return txn.Commit()
	}, func(m *mail) { delivered <- m }, nil
}

// forget deletes what is delivered.
func forget(db *badger.DB, delivered <-chan *mail) {
	for m := range delivered {
		txn := db.NewTransaction(true)
		err := txn.Delete(key(m))
		share := time.After(3 * time.Millisecond)
		for more := true; more && err == nil; {
			select {
			case m := <-delivered:
				err = txn.Delete(key(m))
			case <-share:
				more = false
			}
		}
		if err == nil {
			err = txn.Commit()
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

func key(m *mail) []byte { return binary.BigEndian.AppendUint64([]byte("m"), m.number) }
