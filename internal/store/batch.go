package store

// Batch is a set of changes that are made together or not at all. It is data: an
// engine reads it with Ops, Check, RetriesWhenFull and IsDeferrable. It is not safe for
// use by several goroutines, and must not be changed once submitted; the same holds for
// the keys and values in it. It must not be copied once it has a change.
type Batch struct {
	ops             []Op
	few             [3]Op // memory of ops: most batches have no more
	retriesWhenFull bool
	deferrable      bool
	check           func() error
}

// Op is one change, of one of three kinds.
type Op struct {
	Key []byte
	// Value is what is stored; nil deletes the key.
	Value []byte
	// Update, if set, makes the value inside the transaction; see Batch.Update.
	Update func(old []byte) []byte
	// Do, if set, makes all changes itself; see Batch.Do. It writes at most Entries
	// keys and Size octets.
	Do            func(Txn) error
	Entries, Size int
}

// Txn is what the function of Do may do. It is valid only during the call.
type Txn interface {
	// Epoch returns a number that changes whenever a function of a batch was called and it
	// is not certain that its changes were written. A function may remember a value that it
	// has set, instead of reading it again, as long as the epoch is the same.
	Epoch() int
	// Get returns a copy of the value of key, nil where there is none or where it
	// cannot be read.
	Get(key []byte) ([]byte, error)
	// Set stores value under key; both must not be changed afterwards.
	Set(key, value []byte) error
	Delete(key []byte) error
}

// Set stores value under key.
func (b *Batch) Set(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.add(Op{Key: key, Value: value})
}

// Delete removes key; that it is not there is no error.
func (b *Batch) Delete(key []byte) { b.add(Op{Key: key}) }

func (b *Batch) add(o Op) {
	if b.ops == nil {
		b.ops = b.few[:0]
	}
	b.ops = append(b.ops, o)
}

// Update stores under key what fn makes of its present value (nil where there
// is none); a nil result deletes it. Engines reckon with a value of 1 KiB. fn runs
// inside the transaction, after all batches submitted before, perhaps more than once: it
// must be quick, must not call the store, and must not count on being the last call. A
// present value that cannot be read counts as none.
func (b *Batch) Update(key []byte, fn func(old []byte) []byte) {
	b.add(Op{Key: key, Update: fn})
}

// Do runs fn inside the transaction, where several keys depend on each other: it sees
// all batches submitted before. entries and size bound what it writes, in keys and in
// octets. What is said of Update's fn holds for it too; an error of it is the answer to
// the whole batch, which then changes nothing.
func (b *Batch) Do(entries, size int, fn func(Txn) error) {
	b.add(Op{Do: fn, Entries: entries, Size: size})
}

// RetryWhenFull makes the batch wait while the disk is full instead of failing. It is
// meant for what has happened already and cannot be taken back, such as the
// result of a delivery. Such a batch still fails with the store, and when
// the disk is full at Close.
func (b *Batch) RetryWhenFull() { b.retriesWhenFull = true }

// Deferrable lets the batch wait some milliseconds for others to share its commit with:
// nobody waits for it.
func (b *Batch) Deferrable() { b.deferrable = true }

// Precondition makes the batch depend on check, which is called just before the batch
// is written, when every batch that was not written has its answer. The error of check
// is then the answer to this batch.
func (b *Batch) Precondition(check func() error) { b.check = check }

// Len is the number of changes.
func (b *Batch) Len() int { return len(b.ops) }

// Ops are the changes, in order.
func (b *Batch) Ops() []Op { return b.ops }

// Check asks the precondition; nil where there is none.
func (b *Batch) Check() error {
	if b.check == nil {
		return nil
	}
	return b.check()
}

// RetriesWhenFull reports whether the batch waits while the disk is full.
func (b *Batch) RetriesWhenFull() bool { return b.retriesWhenFull }

// IsDeferrable reports whether the batch may wait for others.
func (b *Batch) IsDeferrable() bool { return b.deferrable }
