package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// Very many silent hosts do not keep mail from those that answer.
func TestSilentHostsLeaveRoomForOthers(t *testing.T) {
	w := newWorld(t, "concurrency = 9\n")
	good := w.host("mx1.good.example")
	w.domain("good.example", testnet.Domain{MX: []string{good.Name}})
	w.send("", "kurt@good.example")
	w.wait(good, 1)
	w.empty()
	silent := w.host("mx.silent.example")
	w.set(silent, testnet.Faults{Hang: "greeting"})
	for i := range 30 {
		name := fmt.Sprintf("s%d.silent.example", i)
		h := w.host("mx." + name) // an address of its own
		w.set(h, testnet.Faults{Hang: "greeting"})
		w.domain(name, testnet.Domain{MX: []string{h.Name}})
		w.send("", "kurt@"+name)
	}
	w.waitFor("silence", func(q *queue.Queue) bool { return q.Active() == 6 && q.PlacesShort() })
	start := time.Now()
	for i := range 3 {
		w.send("", "kurt@good.example")
		w.wait(good, i+2)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("good mail took %s", took)
	}
}

// However many names lead to one silent address: what finds it full holds no place,
// and mail for a new domain goes at once.
func TestOneSilentAddressHoldsFewPlaces(t *testing.T) {
	w := newWorld(t, "concurrency = 12\nconcurrency_per_host = 3\n")
	silent := w.host("mx.silent.example")
	w.set(silent, testnet.Faults{Hang: "greeting"})
	for i := range 40 {
		name := fmt.Sprintf("s%d.silent.example", i)
		if err := w.DNS.Add(fmt.Sprintf("mx.%s. 60 IN A %s", name, silent.IP)); err != nil {
			t.Fatal(err)
		}
		w.domain(name, testnet.Domain{MX: []string{"mx." + name}})
		w.send("", "kurt@"+name)
	}
	w.waitFor("silence", func(*queue.Queue) bool { return silent.Counts().Hung == 3 })
	good := w.host("mx1.good.example")
	w.domain("good.example", testnet.Domain{MX: []string{good.Name}})
	start := time.Now()
	w.send("", "kurt@good.example")
	w.wait(good, 1)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("mail for a new domain took %s", took)
	}
	if n := silent.Counts().Connections; n != 3 {
		t.Errorf("%d sessions at one address, 3 are allowed", n)
	}
}
