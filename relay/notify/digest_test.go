package notify

import (
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
)

// relayOf is a reporter with a queue that delivers nothing, over a store.
type relayOf struct {
	t     *testing.T
	dir   string
	now   time.Time
	store *badger.Store
	queue *queue.Queue
	*Reporter
}

func (r *relayOf) open() {
	r.t.Helper()
	var err error
	if r.store, err = badger.Open(badger.Options{Dir: r.dir, FreeSpace: store.Floor}); err != nil {
		r.t.Fatal(err)
	}
	if r.queue, err = queue.Open(queue.Options{Store: r.store, Paused: true}); err != nil {
		r.t.Fatal(err)
	}
	r.Reporter = reporter()
	r.Now = func() time.Time { return r.now }
	if r.Digest, err = NewDigest(r.Reporter, r.store); err != nil {
		r.t.Fatal(err)
	}
	if err := r.Load(r.store); err != nil {
		r.t.Fatal(err)
	}
}

func (r *relayOf) close() {
	r.queue.Close()
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
}

// fails makes n messages of a sender fail.
func (r *relayOf) fails(sender string, n int) {
	r.t.Helper()
	for i := range n {
		w, states := work(queue.Envelope{From: sender}, queue.Recipient{Address: fmt.Sprintf("dead%d@list.example", i), Domain: "list.example"})
		m, ok := r.Failure(w, states)
		if !ok {
			r.t.Fatal("no notice is owed")
		}
		if err := r.queue.Add([]queue.NewMessage{m}, nil); err != nil {
			r.t.Fatal(err)
		}
	}
}

// notices are the messages in the queue for a sender, decoded.
func (r *relayOf) notices(sender string) (out []string) {
	r.t.Helper()
	var ids []queue.ID
	if err := r.queue.List(r.t.Context(), queue.Filter{To: sender}, func(m queue.Message) bool { ids = append(ids, m.ID); return true }); err != nil {
		r.t.Fatal(err)
	}
	for _, id := range ids {
		content, err := r.queue.Open(id)
		if err != nil {
			r.t.Fatal(err)
		}
		msg, err := mail.ReadMessage(content)
		if err != nil {
			r.t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
		if err != nil && msg.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			r.t.Fatal(err)
		}
		out = append(out, msg.Header.Get("Subject")+"\n"+string(body))
	}
	return out
}

func TestNoticesBeyondTheCapComeInOneMessage(t *testing.T) {
	r := &relayOf{t: t, dir: filepath.Join(t.TempDir(), "q"), now: now}
	r.open()
	r.fails("program@example.com", 25)
	r.fails("anna@example.com", 1)
	if n := len(r.notices("program@example.com")); n != maxNotices {
		t.Errorf("%d notices", n)
	}
	if n := len(r.notices("anna@example.com")); n != 1 {
		t.Errorf("another sender got %d notices", n)
	}
	// What is held back survives a restart.
	r.close()
	r.open()
	defer r.close()
	if err := r.Digest.Send(r.queue); err != nil {
		t.Fatal(err)
	}
	if n := len(r.notices("program@example.com")); n != maxNotices {
		t.Errorf("%d notices before the hour is over", n)
	}
	r.fails("program@example.com", 2)
	r.now = r.now.Add(window)
	for range 2 { // it is sent once
		if err := r.Digest.Send(r.queue); err != nil {
			t.Fatal(err)
		}
	}
	got := r.notices("program@example.com")
	if len(got) != maxNotices+1 {
		t.Fatalf("%d notices after the hour", len(got))
	}
	digest := got[maxNotices]
	for _, want := range []string{"7 more notices about your mail", "dead20@list.example", "dead24@list.example", "dead1@list.example", "Not delivered: grüße"} {
		if !strings.Contains(digest, want) {
			t.Errorf("no %q in the digest:\n%s", want, digest)
		}
	}
	left := 0
	if err := r.store.Scan(store.PrefixNotice, nil, func([]byte, []byte) error { left++; return nil }); err != nil || left != 0 {
		t.Errorf("%d are still in the store, %v", left, err)
	}
	r.fails("program@example.com", 1)
	if n := len(r.notices("program@example.com")); n != maxNotices+2 {
		t.Errorf("the next hour begins with %d notices", n)
	}
}

func TestTheDigestSpeaksGermanToo(t *testing.T) {
	r := reporter()
	r.Language = func() string { return "de" }
	d := &Digest{reporter: r}
	m := d.message("anna@example.com", &recipientWindow{kept: []summary{{Action: Delayed, Subject: "Grüße", Recipients: []string{"kurt@example.org"}, At: now, What: "…"}}, more: 3}, now)
	msg, err := mail.ReadMessage(strings.NewReader(string(m.Body)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if err != nil || !strings.Contains(string(body), "Verzögert: Grüße") || !strings.Contains(string(body), "Und 3 weitere") {
		t.Errorf("%s, %v", body, err)
	}
}

// What a digest only counts leaves nothing behind that a restart would tell again.
func TestNoticesThatAreOnlyCountedAreNotStored(t *testing.T) {
	r := &relayOf{t: t, dir: filepath.Join(t.TempDir(), "q"), now: now}
	r.open()
	r.fails("program@example.com", maxNotices+maxKept+5)
	r.now = r.now.Add(window)
	if err := r.Digest.Send(r.queue); err != nil {
		t.Fatal(err)
	}
	r.close()
	r.open()
	defer r.close()
	r.now = r.now.Add(window)
	if err := r.Digest.Send(r.queue); err != nil {
		t.Fatal(err)
	}
	got := r.notices("program@example.com")
	if len(got) != maxNotices+1 || !strings.Contains(got[maxNotices], "1005 more notices") {
		t.Errorf("%d notices, the last one is\n%.200s", len(got), got[len(got)-1])
	}
}

// Notices that were held back while the clock was ahead do not wait until it is that time, and
// neither do later ones.
func TestNoticesAreNotHeldBackAfterTheClockWasAhead(t *testing.T) {
	r := &relayOf{t: t, dir: filepath.Join(t.TempDir(), "store"), now: now.Add(365 * 24 * time.Hour)}
	r.open()
	r.fails("a@x.example", maxNotices+3)
	r.close()
	r.now = now
	r.open()
	defer r.close()
	if !r.Digest.Waits() {
		t.Error("no notice is held back")
	}
	if err := r.Digest.Send(r.queue); err != nil {
		t.Fatal(err)
	}
	if r.Digest.Waits() {
		t.Error("notices are held back after the digest")
	}
	r.fails("a@x.example", 1)
	if got := len(r.notices("a@x.example")); got != maxNotices+2 {
		t.Errorf("%d notices, want %d, the digest and one more", got, maxNotices)
	}
}

// Digests that cannot be queued come later, each with all that it is to tell.
func TestDigestsThatCannotBeQueuedAreSentLater(t *testing.T) {
	r := &relayOf{t: t, dir: filepath.Join(t.TempDir(), "q"), now: now}
	r.open()
	defer r.close()
	counts := map[string]int{"a@example.com": 3, "b@example.com": 3, "c@example.com": 3}
	for sender, n := range counts {
		r.fails(sender, maxNotices+n)
	}
	r.now = r.now.Add(window)
	before := r.Reporter
	r.close()
	if err := r.Digest.Send(r.queue); err == nil {
		t.Fatal("a store that is closed has taken the digests")
	}
	r.open()
	r.Reporter = before
	r.fails("a@example.com", 1)
	counts["a@example.com"]++
	if err := r.Digest.Send(r.queue); err != nil {
		t.Fatal(err)
	}
	for sender, n := range counts {
		got := r.notices(sender)
		if len(got) != maxNotices+1 || !strings.Contains(got[len(got)-1], fmt.Sprintf("%d more notices", n)) {
			t.Errorf("%s: %d notices, the last one is\n%.200s", sender, len(got), got[len(got)-1])
		}
	}
}
