package relay_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// observed is a relay that serves its health and metrics, with a token.
type observed struct {
	*e2e.World
	http string
}

func newObserved(t *testing.T, toml string) *observed {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	w := e2e.NewStopped(t)
	if err := os.WriteFile(filepath.Join(w.Dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Start(toml + "[admin]\nhttp = \"" + addr + "\"\ntoken_file = \"token\"\n")
	return &observed{w, addr}
}

func (o *observed) get(path, token string) (int, string) {
	o.T.Helper()
	req, err := http.NewRequestWithContext(o.T.Context(), http.MethodGet, "http://"+o.http+path, http.NoBody)
	if err != nil {
		o.T.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		o.T.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		o.T.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func (o *observed) metrics() string {
	o.T.Helper()
	code, text := o.get("/metrics", "secret")
	if code != http.StatusOK {
		o.T.Fatalf("/metrics with the token: %d", code)
	}
	return text
}

// lacks fails for each of want that no line of text begins with.
func (o *observed) lacks(text string, want ...string) {
	o.T.Helper()
	for _, line := range want {
		if !strings.Contains("\n"+text, "\n"+line) {
			o.T.Errorf("no %s in\n%s", line, text)
		}
	}
}

func TestHealthIsForEverybodyAndMetricsForThoseWithTheToken(t *testing.T) {
	o := newObserved(t, "")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 401, "/v1/queue": 404} {
		if code, _ := o.get(path, ""); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, _ := o.get("/metrics", "wrong"); code != http.StatusUnauthorized {
		t.Errorf("/metrics with a wrong token: %d", code)
	}
}

func TestADeliveryMovesTheMetrics(t *testing.T) {
	o := newObserved(t, "")
	h := o.Host("mx1.metrics.example")
	o.Domain("metrics.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	o.lacks(o.metrics(), "stsrelay_accepted_messages_total 0\n", "stsrelay_delivery_seconds_count 0\n", "stsrelay_policies{mode=\"enforce\"} 0\n",
		"stsrelay_policy_fetches_total{result=\"sts-webpki-invalid\"} 0\n", "stsrelay_reports_total{how=\"mail\",result=\"failed\"} 0\n")
	if _, gone := o.Attempted(o.Send("anna@sender.example", "kurt@metrics.example")); !gone {
		t.Fatal("not delivered")
	}
	if _, err := e2e.SendMail(o.Addr, "no address", "x", "kurt@metrics.example"); err == nil {
		t.Fatal("a wrong sender was accepted")
	}
	o.lacks(o.metrics(),
		"stsrelay_build_info{version=\"test\"} 1\n", "stsrelay_uptime_seconds ",
		"stsrelay_accepting 1\n", "stsrelay_delivering 1\n",
		"stsrelay_accepted_messages_total 1\n", "stsrelay_accepted_bytes_total ",
		"stsrelay_refused_total{code=\"501\",status=\"5.1.7\"} 1\n",
		"stsrelay_queue_messages 0\n", "stsrelay_queue_recipients 0\n", "stsrelay_queue_held 0\n", "stsrelay_queue_oldest_seconds 0\n", "stsrelay_queue_active ",
		"stsrelay_recipients_total{verdict=\"delivered\",why=\"\"} 1\n",
		"stsrelay_attempts_total{protection=\"mta-sts\",verdict=\"delivered\"} 1\n",
		"stsrelay_delivery_seconds_count 1\n",
		"stsrelay_sessions{direction=\"in\"} ", "stsrelay_sessions{direction=\"out\"} 1\n", "stsrelay_sessions_out_total{tls=\"TLS 1.3\"} 1\n",
		"stsrelay_policy_fetches_total{result=\"ok\"} 1\n", "stsrelay_policies{mode=\"enforce\"} 1\n", "stsrelay_policies{mode=\"missing\"} 0\n",
		"stsrelay_store_commit_seconds_count ", "stsrelay_store_commit_batches_count ",
		"stsrelay_store_size_bytes ", "stsrelay_store_free_bytes ", "stsrelay_store_free_limit_bytes 6.7108864e+07\n",
		"process_resident_memory_bytes ")
}

func TestWhatIsNotDeliveredMovesTheMetricsToo(t *testing.T) {
	o := newObserved(t, "")
	h := o.Host("mx1.metrics.example")
	if err := h.Set(testnet.Faults{NoStartTLS: true}); err != nil {
		t.Fatal(err)
	}
	o.Domain("clear.example", testnet.Domain{MX: []string{h.Name}})
	o.Domain("enforced.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	o.Domain("broken.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("nonsense", h.Name)})
	o.Attempted(o.Send("anna@sender.example", "kurt@clear.example"))
	o.Attempted(o.Send("anna@sender.example", "kurt@enforced.example"))
	o.Attempted(o.Send("anna@sender.example", "kurt@broken.example"))
	o.Relay.Queue().SetPaused(true)
	text := o.metrics()
	o.lacks(text, "stsrelay_queue_waiting{why=\"tls-none\"} 1\n", "stsrelay_queue_waiting{why=\"dane\"} 0\n", "stsrelay_queue_waiting{why=\"other\"} 0\n", "stsrelay_troubles{kind=\"disk\"} 0\n")
	o.lacks(text, "stsrelay_delivering 0\n", "stsrelay_queue_messages 1\n",
		"stsrelay_attempts_total{protection=\"none\",verdict=\"deferred\"} ", "stsrelay_attempts_total{protection=\"none\",verdict=\"delivered\"} 2\n",
		"stsrelay_recipients_total{verdict=\"deferred\",why=\"tls-none\"} ",
		"stsrelay_policy_fetches_total{result=\"sts-policy-invalid\"} 1\n", "stsrelay_policies{mode=\"missing\"} 1\n",
		"stsrelay_sessions_out_total{tls=\"none\"} ")
	if age := regexp.MustCompile(`(?m)^stsrelay_queue_oldest_seconds (.*)$`).FindStringSubmatch(text); len(age) != 2 || age[1] == "0" {
		t.Errorf("the age of the oldest message: %q", age)
	}
}

func TestTheMetricsAreAsPrometheusWantsThem(t *testing.T) {
	o := newObserved(t, "")
	text := o.metrics()
	problems, err := promlint.New(strings.NewReader(text)).Lint() // as promtool check metrics
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	kinds := make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if typed, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(typed, " ")
			kinds[name] = kind
			if !strings.Contains(text, "# HELP "+name+" ") {
				t.Errorf("%s has no HELP", name)
			}
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		if kinds[name] == "" && kinds[family(name)] == "" {
			t.Errorf("%s has no TYPE before it", name)
		}
	}
	for name, kind := range kinds {
		if strings.HasPrefix(name, "stsrelay_") && (kind == "counter") != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s: only counters end in _total, and all do", name, kind)
		}
	}
}

// family is the name of the histogram or summary that a series belongs to.
func family(series string) string {
	return regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(series, "")
}

// monitoring is the folder of what is made for those who run a relay.
const monitoring = "../docs"

var metricName = regexp.MustCompile(`\b(stsrelay|process|go)_[a-z0-9_]+\b`)

// families are the metrics that a relay writes which has delivered and refused.
func families(t *testing.T) map[string]bool {
	t.Helper()
	o := newObserved(t, "")
	h := o.Host("mx1.metrics.example")
	o.Domain("metrics.example", testnet.Domain{MX: []string{h.Name}})
	if _, gone := o.Attempted(o.Send("anna@sender.example", "kurt@metrics.example")); !gone {
		t.Fatal("not delivered")
	}
	if _, err := e2e.SendMail(o.Addr, "no address", "x", "kurt@metrics.example"); err == nil {
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
