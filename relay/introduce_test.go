package relay_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
)

// The first lines of the log say what a new operator asks.
func TestTheFirstLinesOfTheLog(t *testing.T) {
	w := e2e.NewStopped(t)
	var log bytes.Buffer
	w.Logger = slog.New(slog.NewTextHandler(&log, nil))
	w.Listener = "allow = [\"127.0.0.0/8\", \"10.0.0.5\"]\nauth = true\nsender_domains = [\"example.com\"]\n"
	w.Start("[[user]]\nname = \"x\"\npassword_hash = \"$2a$10$x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e\"\n")
	w.Attempted(w.Send("anna@example.com", "kurt@nowhere.example"))
	w.Stop()
	for _, want := range []string{
		`may_send="127.0.0.0/8, 10.0.0.5/32, users with a password, over TLS" sender_domains=[example.com]`,
		`msg="certificate for incoming TLS" from="made by this relay`,
		`msg="TLS reports by mail are not sent" missing="a [[dkim]] key of`,
		`ad_believed=true because=`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log.String())
		}
	}
}
