package alert

import (
	"fmt"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/compose"
)

// Ready is a domain in mode testing whose reports show that enforce would stop no mail.
type Ready struct {
	Domain        string
	Days, Senders int
	Sessions      int64
	// Enforced is the id of the policy with mode enforce.
	Enforced string
}

// readyText has the words of the mail that domains are ready.
type readyText struct{ one, many, domain, end string }

var readyTexts = map[string]readyText{
	"en": {
		one: "%s is ready for mode enforce", many: "%d domains are ready for mode enforce",
		domain: "* %s: %d days, %d sessions of %d senders in their reports, no failure of its own.\r\n  Set mode = \"enforce\", stsrelay reload, then the record _mta-sts.%[1]s to \"v=STSv1; id=%[5]s;\"\r\n\r\n",
		end: "The relay does not make this step itself: it can stop mail, and the record must change in the same hour. Nobody is told of\r\n" +
			"these domains again; stsrelay publish status says what is left.\r\n",
	},
	"de": {
		one: "%s ist bereit für den Modus enforce", many: "%d Domains sind bereit für den Modus enforce",
		domain: "* %s: %d Tage, %d Sitzungen von %d Absendern in deren Berichten, kein eigener Fehler.\r\n  Setzen Sie mode = \"enforce\", stsrelay reload, dann den Record _mta-sts.%[1]s auf \"v=STSv1; id=%[5]s;\"\r\n\r\n",
		end: "Das Relay geht diesen Schritt nicht selbst: Er kann Mail aufhalten, und der Record muss sich in derselben Stunde ändern. Zu\r\n" +
			"diesen Domains kommt keine Mail mehr; stsrelay publish status sagt, was noch fehlt.\r\n",
	},
}

// ReadyMail returns the mail to the operator that domains are ready for mode enforce, header
// and body. language is "en" or "de".
func ReadyMail(hostname, to, language string, at time.Time, list []Ready) []byte {
	words, ok := readyTexts[language]
	if !ok {
		words, language = readyTexts["en"], "en"
	}
	subject := fmt.Sprintf(words.many, len(list))
	if len(list) == 1 {
		subject = fmt.Sprintf(words.one, list[0].Domain)
	}
	var text strings.Builder
	for _, r := range list {
		fmt.Fprintf(&text, words.domain, r.Domain, r.Days, r.Sessions, r.Senders, r.Enforced)
	}
	text.WriteString(words.end)
	m := compose.Message{
		From: letters[language].from + " <MAILER-DAEMON@" + hostname + ">", To: to, Subject: hostname + ": " + subject, Date: at, ID: fmt.Sprintf("ready.%d@%s", at.UnixNano(), hostname),
		AutoSubmitted: "auto-generated",
		Parts:         []compose.Part{{Type: compose.Text, Encoding: compose.QuotedPrintable, Content: []byte(text.String())}},
	}
	return m.Bytes()
}
