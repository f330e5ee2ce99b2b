package relay_test

import (
	"fmt"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// What a stranger publishes is kept with each recipient only as far as it tells
// something.
func TestAHostOfVeryManyAddresses(t *testing.T) {
	w := newWorld(t, "retry = [\"1h\"]\n")
	w.domain("many.example", testnet.Domain{MX: []string{"mx.many.example"}})
	for i := range 250 {
		if err := w.DNS.Add(fmt.Sprintf("mx.many.example. 60 IN A 127.77.%d.%d", i/250, i%250+1)); err != nil {
			t.Fatal(err)
		}
	}
	w.DNS.Fail("mx.many.example", "A", testnet.Truncate)
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@many.example"))
	if gone {
		t.Fatal("the message has left the queue")
	}
	if n := len(m.States[0].LastError); n > 2000 {
		t.Errorf("the reason has %d octets", n)
	}
}
