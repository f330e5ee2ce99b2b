package adminapi_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/stsrelay/stsrelay/docs"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/live"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/received"
	"github.com/stsrelay/stsrelay/relay/trace"
	"github.com/stsrelay/stsrelay/tlsrpt"
	"github.com/stsrelay/stsrelay/tlsrpt/inbound"
)

// document is docs/openapi.yaml, as JSON is read.
func document(t *testing.T) map[string]any {
	t.Helper()
	var d map[string]any
	if err := yaml.Unmarshal([]byte(docs.OpenAPI), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// operations are the operations of the document: "GET /v1/status".
func operations(t *testing.T, d map[string]any) map[string]map[string]any {
	t.Helper()
	all := make(map[string]map[string]any)
	for path, methods := range d["paths"].(map[string]any) {
		for method, op := range methods.(map[string]any) {
			all[strings.ToUpper(method)+" "+path] = op.(map[string]any)
		}
	}
	return all
}

var pattern = regexp.MustCompile(`mux\.Handle(?:Func)?\("([A-Z]+ /v1/[^"]+)"`)

// Every route of the API is in the document, and nothing else is.
func TestTheOpenAPIDocumentHasTheRoutes(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	routes := make(map[string]bool)
	registered := 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			routes[m[1]] = true
		}
		registered += strings.Count(string(text), "mux.Handle")
	}
	if registered != len(routes) {
		t.Errorf("%d routes are registered, but %d have a path that can be read in the source", registered, len(routes))
	}
	described := operations(t, document(t))
	for r := range routes {
		if described[r] == nil {
			t.Errorf("docs/openapi.yaml has no %s", r)
		}
	}
	for r := range described {
		if !routes[r] {
			t.Errorf("docs/openapi.yaml has %s, which no handler has", r)
		}
	}
	ids := make(map[string]string)
	for r, op := range described {
		id, _ := op["operationId"].(string)
		if id == "" || ids[id] != "" {
			t.Errorf("%s: operationId %q is missing, or that of %s too", r, id, ids[id])
		}
		ids[id] = r
		for _, name := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(r, -1) {
			if !slices.ContainsFunc(parametersOf(op), func(p map[string]any) bool { return p["name"] == name[1] && p["in"] == "path" && p["required"] == true }) {
				t.Errorf("%s: the parameter %s is not described", r, name[1])
			}
		}
	}
}

func parametersOf(op map[string]any) (out []map[string]any) {
	list, _ := op["parameters"].([]any)
	for _, p := range list {
		out = append(out, p.(map[string]any))
	}
	return out
}

// schemaTypes are the types whose JSON the schemas of the document describe.
func schemaTypes() map[string]reflect.Type {
	return map[string]reflect.Type{
		"Affected":             reflect.TypeFor[operator.Affected](),
		"Awaited":              reflect.TypeFor[operator.Awaited](),
		"Certificate":          reflect.TypeFor[history.Certificate](),
		"DateRange":            reflect.TypeFor[tlsrpt.DateRange](),
		"DayChain":             reflect.TypeFor[history.DayChain](),
		"Delivery":             reflect.TypeFor[history.Delivery](),
		"DestinationStatus":    reflect.TypeFor[tlsrpt.DestinationStatus](),
		"DomainSummary":        reflect.TypeFor[operator.DomainSummary](),
		"DrainProgress":        reflect.TypeFor[operator.DrainProgress](),
		"DrainRequest":         reflect.TypeFor[operator.DrainRequest](),
		"Evidence":             reflect.TypeFor[history.Evidence](),
		"FailureDetail":        reflect.TypeFor[tlsrpt.FailureDetail](),
		"Fleet":                reflect.TypeFor[operator.FleetStatus](),
		"FleetRelay":           reflect.TypeFor[operator.FleetRelay](),
		"FleetStandby":         reflect.TypeFor[operator.FleetStandby](),
		"HistoryRecord":        reflect.TypeFor[history.Record](),
		"HistorySummary":       reflect.TypeFor[history.Summary](),
		"HistoryTLS":           reflect.TypeFor[history.TLS](),
		"ImportResult":         reflect.TypeFor[received.Result](),
		"LastResults":          reflect.TypeFor[alert.Counts](),
		"Live":                 reflect.TypeFor[operator.Live](),
		"LiveDomain":           reflect.TypeFor[operator.LiveDomain](),
		"LiveRate":             reflect.TypeFor[live.Rate](),
		"LiveResult":           reflect.TypeFor[live.Result](),
		"Message":              reflect.TypeFor[operator.Message](),
		"Outage":               reflect.TypeFor[alert.Outage](),
		"Policy":               reflect.TypeFor[operator.Policy](),
		"Published":            reflect.TypeFor[operator.Published](),
		"PublishedCertificate": reflect.TypeFor[operator.PublishedCertificate](),
		"QueueStatus":          reflect.TypeFor[operator.QueueStatus](),
		"ReadDetail":           reflect.TypeFor[inbound.Detail](),
		"ReadOmitted":          reflect.TypeFor[inbound.Omitted](),
		"ReadPolicy":           reflect.TypeFor[inbound.Policy](),
		"ReadReport":           reflect.TypeFor[inbound.Report](),
		"Reason":               reflect.TypeFor[operator.Reason](),
		"ReceivedDay":          reflect.TypeFor[received.Day](),
		"ReceivedFailure":      reflect.TypeFor[received.Failure](),
		"ReceivedMail":         reflect.TypeFor[received.Mail](),
		"ReceivedReport":       reflect.TypeFor[received.Record](),
		"ReceivedSender":       reflect.TypeFor[received.Sender](),
		"ReceivedShown":        reflect.TypeFor[received.Shown](),
		"ReceivedSummary":      reflect.TypeFor[received.Summary](),
		"ReceivedVerdict":      reflect.TypeFor[received.Verdict](),
		"Recipient":            reflect.TypeFor[operator.Recipient](),
		"Reloaded":             reflect.TypeFor[operator.Reloaded](),
		"Report":               reflect.TypeFor[tlsrpt.Report](),
		"ReportPolicy":         reflect.TypeFor[tlsrpt.ReportPolicy](),
		"ReportStatus":         reflect.TypeFor[tlsrpt.Status](),
		"ReportSummary":        reflect.TypeFor[tlsrpt.Summary](),
		"ReportedPolicy":       reflect.TypeFor[tlsrpt.ReportedPolicy](),
		"Resumed":              reflect.TypeFor[operator.Resumed](),
		"Pause":                reflect.TypeFor[operator.Pause](),
		"PauseOrder":           reflect.TypeFor[operator.PauseOrder](),
		"Restored":             reflect.TypeFor[operator.Restored](),
		"SeenPolicy":           reflect.TypeFor[received.SeenPolicy](),
		"Selection":            reflect.TypeFor[operator.Selection](),
		"SessionStatus":        reflect.TypeFor[operator.SessionStatus](),
		"Sighting":             reflect.TypeFor[received.Sighting](),
		"SinceStart":           reflect.TypeFor[operator.SinceStart](),
		"Status":               reflect.TypeFor[operator.Status](),
		"TraceEvent":           reflect.TypeFor[trace.Event](),
		"Transcript":           reflect.TypeFor[trace.Transcript](),
		"Transfer":             reflect.TypeFor[operator.Transfer](),
		"Trashed":              reflect.TypeFor[operator.Trashed](),
		"Trouble":              reflect.TypeFor[alert.Alert](),
		"Undone":               reflect.TypeFor[operator.Undone](),
	}
}

// Each schema has the fields of its type, and no others; what is always there is required.
func TestTheSchemasAreThoseOfTheTypes(t *testing.T) {
	schemas := document(t)["components"].(map[string]any)["schemas"].(map[string]any)
	types := schemaTypes()
	for name := range schemas {
		if types[name] == nil && name != "Error" {
			t.Errorf("the schema %s describes no type: add it to schemaTypes, or remove it", name)
		}
	}
	for name, typ := range types {
		schema, _ := schemas[name].(map[string]any)
		if schema == nil {
			t.Errorf("docs/openapi.yaml has no schema %s", name)
			continue
		}
		always, sometimes := fields(typ)
		var required []string
		list, _ := schema["required"].([]any)
		for _, r := range list {
			required = append(required, r.(string))
		}
		properties := slices.Sorted(maps.Keys(schema["properties"].(map[string]any)))
		if want := slices.Sorted(slices.Values(slices.Concat(always, sometimes))); !slices.Equal(properties, want) {
			t.Errorf("the schema %s has %q, %s has %q", name, properties, typ, want)
		}
		if slices.Sort(required); !slices.Equal(required, slices.Sorted(slices.Values(always))) {
			t.Errorf("the schema %s requires %q, %s always has %q", name, required, typ, always)
		}
	}
}

// fields returns the names of a type's fields in JSON: those that are always there, and the
// others.
func fields(typ reflect.Type) (always, sometimes []string) {
	for f := range typ.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			a, s := fields(f.Type)
			always, sometimes = append(always, a...), append(sometimes, s...)
		case !f.IsExported() || name == "-":
		case strings.Contains(options, "omit"): // omitempty, omitzero
			sometimes = append(sometimes, name)
		default:
			always = append(always, name)
		}
	}
	return always, sometimes
}
