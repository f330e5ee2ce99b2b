package admin

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
)

func TestTheLogNamesWhatIsSetOfASelection(t *testing.T) {
	for _, row := range []struct {
		name string
		sel  Selection
		want string
	}{
		{"nothing", Selection{}, "level=INFO msg=x\n"},
		{"all", Selection{All: true}, "level=INFO msg=x all=true\n"},
		{"IDs and a reason", Selection{IDs: []string{"01A", "01B"}, Reason: "no such company"}, `level=INFO msg=x ids="[01A 01B]" reason="no such company"` + "\n"},
		{"a filter", Selection{Domain: "a.example", From: "<>", To: "x@a.example", State: "held", OlderThan: "2h"},
			`level=INFO msg=x domain=a.example from=<> to=x@a.example state=held older_than=2h` + "\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
			log.LogAttrs(context.Background(), slog.LevelInfo, "x", row.sel.attrs()...)
			if out.String() != row.want {
				t.Errorf("got %swant %s", out.String(), row.want)
			}
		})
	}
}
