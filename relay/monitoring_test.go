package relay_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// monitoring is the folder of what is made for those who run a relay.
const monitoring = "../docs"

var metricName = regexp.MustCompile(`\b(stsrelay|process|go)_[a-z0-9_]+\b`)

// families are the metrics that a relay writes which has delivered and refused.
func families(t *testing.T) map[string]bool {
	t.Helper()
	o := newObserved(t, "")
	h := o.host("mx1.metrics.example")
	o.domain("metrics.example", testnet.Domain{MX: []string{h.Name}})
	if _, gone := o.attempted(o.send("anna@sender.example", "kurt@metrics.example")); !gone {
		t.Fatal("not delivered")
	}
	if _, err := sendMail(o.addr, "no address", "x", "kurt@metrics.example"); err == nil {
		t.Fatal("a wrong sender was accepted")
	}
	written := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(o.metrics(), -1) {
		written[m[1]] = true
	}
	return written
}

func TestDocumentsNameTheMetricsThatThereAre(t *testing.T) {
	written := families(t)
	for _, name := range []string{"monitoring.md", "monitoring/alerts.yml", "monitoring/alerts_test.yml", "monitoring/dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(monitoring, name))
		if err != nil {
			t.Fatal(err)
		}
		named := make(map[string]bool)
		for _, metric := range metricName.FindAllString(string(text), -1) {
			if !written[metric] {
				metric = family(metric)
			}
			if !written[metric] {
				t.Errorf("%s names %s, which the relay does not write", name, metric)
			}
			named[metric] = true
		}
		if len(named) == 0 {
			t.Errorf("%s names no metric", name)
		}
		for metric := range written {
			if name == "monitoring.md" && strings.HasPrefix(metric, "stsrelay_") && !named[metric] {
				t.Errorf("%s does not say what %s is", name, metric)
			}
		}
	}
}

func TestEveryPanelOfTheDashboardAsksTheDataSourceThatIsChosen(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(monitoring, "monitoring/dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ UID string }
	var d struct {
		Templating struct{ List []struct{ Name, Type string } }
		Panels     []struct {
			ID          int
			Type, Title string
			Datasource  source
			Targets     []struct {
				Datasource source
				Expr       string
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if v := d.Templating.List; len(v) == 0 || v[0].Name != "datasource" || v[0].Type != "datasource" {
		t.Errorf("no variable for the data source: %+v", v)
	}
	ids := make(map[int]bool)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: number %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s asks %q for %d things", p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, q := range p.Targets {
			if q.Datasource.UID != "${datasource}" || !metricName.MatchString(q.Expr) {
				t.Errorf("%s asks %q for %q", p.Title, q.Datasource.UID, q.Expr)
			}
		}
	}
}
