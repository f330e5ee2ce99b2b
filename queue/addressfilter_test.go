package queue

import (
	"fmt"
	"testing"
)

// The filter never leaves out a message that a search selects.
func TestTheFilterOfAMessageHasItsAddresses(t *testing.T) {
	a := newAddressFilters()
	for _, tt := range []struct{ address, asked string }{
		{"anna@a.test", "anna@a.test"}, {"anna@a.test", "anna@A.Test"}, {"Anna@b.a.TEST", "Anna@B.a.test"},
		{"no-domain", "no-domain"}, {`"a@b"@c.test`, `"a@b"@C.test`}, {"иван@пример.test", "иван@пример.test"}, {"иван@Пример.test", "иван@пример.test"},
	} {
		if !sameAddress(tt.address, tt.asked) {
			t.Errorf("%s and %s are not the same", tt.address, tt.asked)
		}
		env := Envelope{From: tt.address, Recipients: []Recipient{{Address: "x@x.test"}, {Address: tt.address}}}
		for _, f := range []Filter{{From: tt.asked}, {To: tt.asked}, {From: tt.asked, To: tt.asked}, {To: "x@X.test"}, {}} {
			if want := a.wanted(f); a.of(&env)&want != want {
				t.Errorf("%+v: a message from and to %s is left out", f, tt.address)
			}
		}
	}
	null := Envelope{Recipients: []Recipient{{Address: "x@x.test"}}}
	if want := a.wanted(Filter{From: "<>"}); a.of(&null)&want != want {
		t.Error("a notice is left out of a search for the null sender")
	}
}

// A search by address reads few envelopes besides those that it selects.
func TestTheFilterOfAMessageHasFewOtherAddresses(t *testing.T) {
	a := newAddressFilters()
	want, passed := a.wanted(Filter{To: "kurt@b.test"}), 0
	for i := range 100_000 {
		env := Envelope{From: "anna@a.test", Recipients: []Recipient{{Address: fmt.Sprintf("user%d@b.test", i)}}}
		if a.of(&env)&want == want {
			passed++
		}
	}
	if passed > 1000 {
		t.Errorf("the filter of %d messages of 100,000 has an address that they do not have", passed)
	}
}
