//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// deadDomains is how many domains the backlog is for.
const deadDomains = 1000

func deadName(i int) string { return fmt.Sprintf("d%d.dead.example", i) }

// fillBacklog puts messages into the relay's queue before it starts, for domains
// whose only host never answers.
func (l *load) fillBacklog() (err error) {
	if l.backlog == 0 {
		return nil
	}
	for i := range deadDomains {
		if err := l.net.AddDomain(deadName(i), testnet.Domain{MX: []string{"nowhere.dead.example"}}); err != nil {
			return err
		}
	}
	body := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10))
	return l.fillQueue(l.backlog, func(n int) queue.NewMessage {
		return backlogMessage(fmt.Sprintf("user%d", n), deadName(n%deadDomains), body)
	})
}

func backlogMessage(user, domain string, body []byte) queue.NewMessage {
	return queue.NewMessage{Body: body, Envelope: queue.Envelope{From: "anna@sender.example", Recipients: []queue.Recipient{{Address: user + "@" + domain, Domain: domain}}}}
}

// fillQueue puts so many messages into the relay's queue before it starts.
func (l *load) fillQueue(count int, message func(n int) queue.NewMessage) (err error) {
	st, err := badger.Open(badger.Options{Dir: filepath.Join(l.data, "queue"), FreeSpace: l.freeSpace})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	q, err := queue.Open(queue.Options{Store: st, Paused: true})
	if err != nil {
		return err
	}
	defer q.Close()
	for n := 0; n < count; {
		messages := make([]queue.NewMessage, min(1000, count-n))
		for i := range messages {
			messages[i] = message(n)
			n++
		}
		if err := q.Add(messages, nil); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the relay has tried the backlog's domains and rests.
func (l *load) settle(ctx context.Context) error {
	if l.backlog == 0 {
		return nil
	}
	for before := time.Duration(-1); ; {
		now := l.process.cpu()
		if now-before < 50*time.Millisecond {
			return nil
		}
		before = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Second):
		}
	}
}
