package alert

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Every key in the source begins with a known kind, and the documentation has each kind.
func TestEveryAlertHasAKnownKind(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	said := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`\bsay\((?:fmt\.Sprintf\()?"([a-z-]+)|NotAccepting = "([a-z]+)"|ResolverSilent = "([a-z]+)"`).FindAllStringSubmatch(string(text), -1) {
			said[m[1]+m[2]+m[3]] = true
		}
	}
	doc, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if !said[k] {
			t.Errorf("no alert has the kind %s", k)
		}
		if !strings.Contains(string(doc), "`"+k+"`") {
			t.Errorf("docs/monitoring.md does not say what %s is", k)
		}
	}
	for k := range said {
		if !slices.Contains(kinds, k) {
			t.Errorf("%s is no known kind", k)
		}
	}
}

func TestAlertsAreCountedByKind(t *testing.T) {
	d := newHarness(t)
	d.after(0, say("dkim a", "dkim", "a", "x"), say("dkim b", "dkim", "b", "x"), Publish("own.example", "id", phrase.New("wrong")))
	got := d.Kinds()
	if got["dkim"] != 2 || got["publish"] != 1 || got["disk"] != 0 || len(got) != len(kinds) {
		t.Errorf("%v", got)
	}
}

// An authority that does not renew the relay's certificate is an alert when less than a
// quarter of its life is left, and one that gives none at once.
func TestTheRelaysOwnCertificateOfAnAuthority(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for _, tt := range []struct {
		name  string
		order *Ordered
		says  string // "": no alert
	}{
		{"none is asked", nil, ""},
		{"it waits its turn", &Ordered{}, ""},
		{"it is refused", &Ordered{Problem: "rateLimited"}, "rateLimited"},
		{"it is young", &Ordered{NotBefore: now.Add(-10 * day), NotAfter: now.Add(80 * day)}, ""},
		{"six days, and renewed just now", &Ordered{NotBefore: now.Add(-4 * day), NotAfter: now.Add(2 * day)}, ""},
		{"six days, and not renewed", &Ordered{NotBefore: now.Add(-5 * day), NotAfter: now.Add(day), Problem: "port 443 is closed"}, "ends on 2026-11-26 12:00:00 UTC and is not renewed: port 443 is closed"},
		{"ninety days, and not renewed", &Ordered{NotBefore: now.Add(-70 * day), NotAfter: now.Add(20 * day)}, "is not renewed: no reason is known yet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &Checks{Now: func() time.Time { return now }, Ordered: func() *Ordered { return tt.order }}
			got := c.ordered()
			if tt.says == "" && len(got) > 0 || tt.says != "" && (len(got) != 1 || !strings.Contains(got[0].What, tt.says) || got[0].german.what == "") {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAFaultOfAPublishedDomainIsToldInGerman(t *testing.T) {
	d := newHarness(t)
	d.language = "de"
	a := Publish("own.example", "certificate", phrase.New("%s has no certificate: %s%s", "mta-sts.own.example", "port 80", ""))
	d.says(d.after(0, a), "mta-sts.own.example hat kein Zertifikat: port 80", "Neu:\n\n* mta-sts.own.example hat kein Zertifikat: port 80\n  Was hilft: stsrelay publish status own.example\n")
}
