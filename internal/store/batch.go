package store

import "errors"

// ErrChanged is the answer to a batch of which nothing was written because one
// of its comparisons failed: somebody else has changed what it is about.
var ErrChanged = errors.New("changed by another")

// Batch is a set of changes that are made together or not at all. It is data:
// an engine reads it with Ops, Compares, Check, IsPatient and IsUnhurried. It
// is not safe for use by several goroutines, and must not be changed once
// submitted; the same holds for the keys and values in it.
type Batch struct {
	ops       []Op
	compares  []Comparison
	tree      int // bytes that go into the tree
	body      int // bytes that go into the value log
	extra     int // entries beyond one an op
	patient   bool
	unhurried bool
	check     func() error
}

// Op is one change.
type Op struct {
	Key []byte
	// Value is what is stored; nil deletes the key.
	Value []byte
	// Update, if set, makes the value inside the transaction; see Batch.Update.
	Update func(old []byte) []byte
	// Change, if set, makes all changes itself; see Batch.Change.
	Change func(Txn) error
}

// Txn is what a Change may do. It is valid only during the call.
type Txn interface {
	// Epoch changes whenever changes were made that then were not written. Who
	// remembers what he wrote, instead of reading it again, may believe it as
	// long as the epoch is the same.
	Epoch() int
	// Get returns a copy of the value of key, nil where there is none or where it
	// cannot be read.
	Get(key []byte) ([]byte, error)
	// Set stores value under key; both must not be changed afterwards.
	Set(key, value []byte) error
	Delete(key []byte) error
}

// Comparison is a condition of a batch; see Batch.Compare.
type Comparison struct {
	Key  []byte
	Same func(now []byte) bool
}

// Set stores value under key.
func (b *Batch) Set(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.add(Op{Key: key, Value: value}, len(value))
}

// Delete removes key; that it is not there is no error.
func (b *Batch) Delete(key []byte) { b.add(Op{Key: key}, 0) }

// Update stores under key what fn makes of its present value (nil where there
// is none); a nil result deletes it. fn runs in the committer, after all
// batches submitted before, perhaps more than once: it must be quick, must not
// call the store, and must not count on being the last call. A present value
// that cannot be read counts as none.
func (b *Batch) Update(key []byte, fn func(old []byte) []byte) {
	b.add(Op{Key: key, Update: fn}, valueThreshold-1)
}

// Change runs fn inside the transaction, where several keys depend on each
// other: it sees all batches submitted before. entries and size bound what it
// writes, in keys and in bytes. What is said of Update's fn holds for it too;
// an error of it is the answer to the whole batch, which then changes nothing.
func (b *Batch) Change(entries, size int, fn func(Txn) error) {
	b.ops = append(b.ops, Op{Change: fn})
	b.extra += entries - 1
	b.tree += size + 64*entries
}

// Compare makes the whole batch depend on the present value of key (nil where
// there is none, empty where it cannot be read): where same says no, nothing of
// it is written and its answer is ErrChanged. Batches submitted before have been
// written by then. same runs like the function of Update, under its rules.
func (b *Batch) Compare(key []byte, same func(now []byte) bool) {
	b.compares = append(b.compares, Comparison{Key: key, Same: same})
}

// Append adds the changes and comparisons of other behind those of b.
func (b *Batch) Append(other *Batch) {
	b.ops = append(b.ops, other.ops...)
	b.compares = append(b.compares, other.compares...)
	b.tree += other.tree
	b.body += other.body
	b.extra += other.extra
}

// Patient makes the batch wait while the disk is full instead of failing. It is
// meant for what has happened already and cannot be taken back, such as the
// result of a delivery. A patient batch still fails with the store, and when
// the disk is full at Close.
func (b *Batch) Patient() { b.patient = true }

// Unhurried lets the batch wait for others to share its commit with, for some
// milliseconds: nobody waits for it.
func (b *Batch) Unhurried() { b.unhurried = true }

// IsUnhurried says that the batch may wait for others.
func (b *Batch) IsUnhurried() bool { return b.unhurried }

// If makes the batch depend on check, which the committer calls just before it
// writes the batch, when every batch that was not written has its answer. The
// error of check is then the answer to this batch.
func (b *Batch) If(check func() error) { b.check = check }

// Len is the number of changes.
func (b *Batch) Len() int { return len(b.ops) }

// Ops are the changes, in order.
func (b *Batch) Ops() []Op { return b.ops }

// Compares are the comparisons; all must hold before the first change is made.
func (b *Batch) Compares() []Comparison { return b.compares }

// Check asks the condition of If; nil where there is none.
func (b *Batch) Check() error {
	if b.check == nil {
		return nil
	}
	return b.check()
}

// IsPatient says that the batch waits while the disk is full.
func (b *Batch) IsPatient() bool { return b.patient }

func (b *Batch) add(o Op, size int) {
	b.ops = append(b.ops, o)
	b.tree += len(o.Key) + 32
	if size < valueThreshold {
		b.tree += size
	} else {
		b.body += size
	}
}
