package operator_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func TestChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked []string
		var mu sync.Mutex
		o := operator.New(operator.Options{Check: func(_ context.Context, domain, sender string) (*check.Report, error) {
			mu.Lock()
			asked = append(asked, domain+" "+sender)
			mu.Unlock()
			<-release
			return &check.Report{Domain: domain}, nil
		}})
		ask := func(domain, sender string) int {
			if _, err := o.Check(t.Context(), operator.Actor{Via: "web"}, domain, sender); err != nil {
				return operator.HTTPStatus(err)
			}
			return http.StatusOK
		}
		if got := ask("not a name", ""); got != http.StatusBadRequest {
			t.Error(got)
		}
		if got := ask("b.example", "not a name"); got != http.StatusBadRequest {
			t.Error(got)
		}
		var four sync.WaitGroup
		for range 4 {
			four.Go(func() {
				if got := ask("anna@B.Example", "kurt@a.example"); got != http.StatusOK {
					t.Error(got)
				}
			})
		}
		synctest.Wait()
		if got := ask("c.example", ""); got != http.StatusTooManyRequests {
			t.Errorf("a fifth check at once: %d", got)
		}
		close(release)
		four.Wait()
		if len(asked) != 4 || asked[0] != "b.example a.example" {
			t.Errorf("%q", asked)
		}
		for i := 4; i < 30; i++ {
			if got := ask("d.example", ""); got != http.StatusOK {
				t.Fatalf("check %d: %d", i+1, got)
			}
		}
		if got := ask("d.example", ""); got != http.StatusTooManyRequests {
			t.Errorf("more checks in a minute: %d", got)
		}
		time.Sleep(time.Minute)
		if got := ask("d.example", ""); got != http.StatusOK {
			t.Errorf("a minute later: %d", got)
		}
	})
}
