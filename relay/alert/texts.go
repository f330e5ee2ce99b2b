package alert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// text says what is wrong and what the operator can do, "" where nothing is known to help.
// Both are formats of package fmt for the same arguments.
type text struct{ what, helps string }

// english and german have the texts of alerts by name.
var english = map[string]text{
	"log": {"%[1]d lines of the log were dropped, the last one at %[2]s UTC: whoever reads standard error does not keep up. Mail goes on",
		"look at the log driver or the program behind the pipe, and at the disk that it writes to"},
	"history":      {"the history of mail cannot be written: %[1]s. Mail goes on", "free space on its disk"},
	"history size": {"the history of mail before %[1]s was deleted early: it is larger than history.size", "set a larger history.size, or a shorter history.keep"},
	"full":         {"no mail is taken in: %[1]s", "free space there, give it a larger disk, or lower limits.free_space"},
	"accepting":    {"no mail is taken in: %[1]s", "look into the log for lines of level ERROR"},
	"disk":         {"the disk of %[1]s has %[2]d MiB free; below %[3]d MiB no mail is taken in", "free space there, give it a larger disk, or lower limits.free_space"},
	"unreadable": {"%[1]s cannot be read from the disk of %[2]s; nobody was told, and they are held (stsrelay queue list --state held)",
		"look at the disk; stop the relay, and take out what is sound with stsrelay queue rescue --data-dir %[2]s FILE"},
	"store": {"the store is not as it should be: %[1]s", "look at the disk; stop the relay, and take out what is sound with stsrelay queue rescue --data-dir %[2]s FILE"},
	"certificate-file": {"the relay's certificate has changed and cannot be used, the old one stays: %[1]s",
		"renew tls.certificate; the relay reads it again by itself"},
	"certificate": {"the relay's certificate (%[1]s) ends on %[2]s; servers that verify it will not hand over mail then",
		"renew tls.certificate; the relay reads it again by itself"},
	"certificate-acme": {"the relay's certificate of the authority ends on %[1]s UTC and is not renewed: %[2]s; servers that verify it will not hand over mail then",
		"mend what is said there, for one the way of the authority to this relay ([acme] challenge); it is tried again by itself, and docs/tls.md says how to give a certificate by files meanwhile"},
	"certificate-acme none": {"the relay gets no certificate of the authority, and shows one that it has signed itself: %[1]s",
		"mend what is said there, for one the way of the authority to this relay ([acme] challenge); it is tried again by itself"},
	"publish":        {"%[1]s", "stsrelay publish status %[2]s"},
	"fleet":          {"the fleet: %[1]s", "stsrelay fleet status"},
	"dkim":           {"what is signed with the DKIM key %[1]s is not believed: %[2]s", "stsrelay report setup prints the record to publish"},
	"dkim somewhere": {"what is signed with the DKIM key %[1]s is not believed everywhere: %[2]s", "stsrelay report setup prints the record to publish"},
	"domain":         {"mail for %[1]s waits, %[2]s, the oldest since %[3]s UTC (%[4]s: %[5]s)", "%[6]s"},
	"domains":        {"mail for %[1]d more domains waits", "stsrelay queue summary"},
	"held":           {"%[1]s held", "stsrelay queue list --state held, and queue release or remove"},
	"resolver": {"no resolver answers, so mail can go nowhere: %[1]s",
		"start the resolver, or name one that works in dns.servers (stsrelay reload); stsrelay check --self asks it"},
	"received mails":   {"%[1]d mails to reports.address since yesterday have no TLS report in them; they are kept for 30 days", "read them: stsrelay received list --mails"},
	"received dropped": {"%[1]d reports or mails to reports.address since yesterday were not kept: more came than are kept on one day", "see who sends them: stsrelay received list, and let the mail server before the relay refuse them"},
	"received failure": {"senders report failures of TLS that are new: %[1]s: %[2]s, %[3]d sessions", "%[4]s"},
	"outage":           {"nothing was delivered for %[1]s; %[2]d attempts to %[3]d domains failed, most: %[4]s", "%[5]s"},
}

var german = map[string]text{
	"log": {"%[1]d Zeilen des Logs gingen verloren, die letzte um %[2]s UTC: Wer Standard Error liest, kommt nicht nach. Die Zustellung läuft weiter",
		"sehen Sie nach dem Log-Treiber oder dem Programm hinter der Pipe und nach der Platte, auf die es schreibt"},
	"history":      {"Die Historie kann nicht geschrieben werden: %[1]s. Die Zustellung läuft weiter", "schaffen Sie Platz auf der Platte"},
	"history size": {"Die Historie vor dem %[1]s wurde vorzeitig gelöscht: Sie ist größer als history.size", "setzen Sie history.size höher oder history.keep kürzer"},
	"full":         {"Es wird keine Mail angenommen: %[1]s", "schaffen Sie dort Platz, geben Sie eine größere Platte, oder setzen Sie limits.free_space herab"},
	"accepting":    {"Es wird keine Mail angenommen: %[1]s", "suchen Sie im Log nach Zeilen der Stufe ERROR"},
	"disk":         {"Die Platte von %[1]s hat %[2]d MiB frei; unter %[3]d MiB wird keine Mail angenommen", "schaffen Sie dort Platz, geben Sie eine größere Platte, oder setzen Sie limits.free_space herab"},
	"unreadable": {"%[1]s nicht lesbar auf der Platte von %[2]s; niemand wurde benachrichtigt, sie sind angehalten (stsrelay queue list --state held)",
		"prüfen Sie die Platte; halten Sie das Relay an und retten Sie mit stsrelay queue rescue --data-dir %[2]s DATEI, was heil ist"},
	"store": {"Der Speicher ist nicht, wie er sein soll: %[1]s", "prüfen Sie die Platte; halten Sie das Relay an und retten Sie mit stsrelay queue rescue --data-dir %[2]s DATEI, was heil ist"},
	"certificate-file": {"Das Zertifikat des Relays hat sich geändert und ist nicht brauchbar, das alte bleibt: %[1]s",
		"erneuern Sie tls.certificate; das Relay liest es von selbst wieder"},
	"certificate": {"Das Zertifikat des Relays (%[1]s) endet am %[2]s; Server, die es prüfen, geben dann keine Mail mehr ab",
		"erneuern Sie tls.certificate; das Relay liest es von selbst wieder"},
	"certificate-acme": {"Das Zertifikat des Relays von der Zertifizierungsstelle endet am %[1]s UTC und wird nicht erneuert: %[2]s; Server, die es prüfen, geben dann keine Mail mehr ab",
		"beheben Sie, was dort steht, etwa den Weg der Zertifizierungsstelle zu diesem Relay ([acme] challenge); es wird von selbst wieder versucht, und docs/tls.md sagt, wie Sie solange ein Zertifikat als Datei angeben"},
	"certificate-acme none": {"Das Relay bekommt kein Zertifikat von der Zertifizierungsstelle und zeigt ein selbst unterschriebenes: %[1]s",
		"beheben Sie, was dort steht, etwa den Weg der Zertifizierungsstelle zu diesem Relay ([acme] challenge); es wird von selbst wieder versucht"},
	"publish":        {"%[1]s", "stsrelay publish status %[2]s"},
	"fleet":          {"Die Flotte: %[1]s", "stsrelay fleet status"},
	"dkim":           {"Was mit dem DKIM-Schlüssel %[1]s signiert ist, wird nicht geglaubt: %[2]s", "stsrelay report setup zeigt den Record, den Sie veröffentlichen müssen"},
	"dkim somewhere": {"Was mit dem DKIM-Schlüssel %[1]s signiert ist, wird nicht überall geglaubt: %[2]s", "stsrelay report setup zeigt den Record, den Sie veröffentlichen müssen"},
	"domain":         {"Mail an %[1]s wartet, %[2]s, die älteste seit %[3]s UTC (%[4]s: %[5]s)", "%[6]s"},
	"domains":        {"Mail an %[1]d weitere Domains wartet", "stsrelay queue summary"},
	"held":           {"%[1]s angehalten", "stsrelay queue list --state held, dann queue release oder remove"},
	"resolver": {"Kein Resolver antwortet, also kann keine Mail hinaus: %[1]s",
		"starten Sie den Resolver, oder nennen Sie in dns.servers einen, der arbeitet (stsrelay reload); stsrelay check --self fragt ihn"},
	"received mails":   {"%[1]d Mails an reports.address seit gestern enthalten keinen TLS-Bericht; sie bleiben 30 Tage", "lesen Sie sie: stsrelay received list --mails"},
	"received dropped": {"%[1]d Berichte oder Mails an reports.address seit gestern wurden nicht behalten: Es kamen mehr, als an einem Tag behalten werden", "sehen Sie nach, wer sie schickt: stsrelay received list, und lassen Sie den Mailserver vor dem Relay sie ablehnen"},
	"received failure": {"Absender melden neue TLS-Fehler: %[1]s: %[2]s, %[3]d Sitzungen", "%[4]s"},
	"outage":           {"Seit %[1]s wurde nichts zugestellt; %[2]d Versuche zu %[3]d Domains schlugen fehl, meistens: %[4]s", "%[5]s"},
}

// letterText has the words of a mail to the operator around its alerts.
type letterText struct {
	fresh, still, over, helps, end             string
	well, oneStill, manyFresh, manyStill, from string
}

var letters = map[string]letterText{
	"en": {
		fresh: "New", still: "Still so", over: "Over since the last mail", helps: "What helps: ",
		end: "stsrelay status, stsrelay queue summary and stsrelay check DOMAIN say more. The relay writes at most once an hour, and of the same\r\n" +
			"trouble once a day; what stops all mail is told at once. notices.operator in its configuration says to whom.\r\n",
		well: "all is well again", oneStill: "still: ", manyFresh: "%d new troubles", manyStill: "%d troubles are still there", from: "Mail relay",
	},
	"de": {
		fresh: "Neu", still: "Noch immer", over: "Vorbei seit der letzten Mail", helps: "Was hilft: ",
		end: "stsrelay status, stsrelay queue summary und stsrelay check DOMAIN sagen mehr. Das Relay schreibt höchstens einmal in der Stunde und über\r\n" +
			"dieselbe Störung einmal am Tag; was alle Mail aufhält, meldet es sofort. notices.operator sagt, an wen.\r\n",
		well: "alles ist wieder gut", oneStill: "noch immer: ", manyFresh: "%d neue Störungen", manyStill: "%d Störungen bestehen noch", from: "Mail-Relay",
	},
}

// words is an argument of a text that differs by language.
type words struct{ english, german string }

// wordsOf returns a phrase as an argument.
func wordsOf(p phrase.Phrase) words { return words{p.String(), p.German()} }

// messages is a number of messages.
func messages(n int) words {
	if n == 1 {
		return words{"1 message", "1 Nachricht"}
	}
	return words{fmt.Sprintf("%d messages", n), fmt.Sprintf("%d Nachrichten", n)}
}

// say makes an alert of the text with a name.
func say(key, name string, args ...any) Alert {
	en, de := english[name].with(args, func(w words) string { return w.english }), german[name].with(args, func(w words) string { return w.german })
	return Alert{Key: key, What: en.what, Remedy: en.helps, german: de}
}

// with fills in the arguments.
func (t text) with(args []any, in func(words) string) text {
	args = slices.Clone(args)
	for i, a := range args {
		if w, ok := a.(words); ok {
			args[i] = in(w)
		}
	}
	fill := func(format string) string {
		if !strings.Contains(format, "%") {
			return format
		}
		return fmt.Sprintf(format, args...)
	}
	return text{fill(t.what), fill(t.helps)}
}

// helpWith returns what helps against a reason.
func helpWith(row *failure.Row, shared bool) words {
	_, remedy, ours := row.German()
	if shared && row.Shared != "" {
		return words{row.Shared, ours}
	}
	return words{row.Remedy, remedy}
}
