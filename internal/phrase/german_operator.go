package phrase

// germanOperator are the texts of what an operator asks a running relay: why it could not be
// done, what is found in TLS reports and in a fleet, and what attempts wait for.
var germanOperator = map[string]string{
	// Messages of the queue.
	"no such message in the queue":                                                         "keine solche Nachricht in der Queue",
	"several messages have an ID that begins so":                                           "die IDs mehrerer Nachrichten beginnen so",
	"say which messages: ids, or all":                                                      "sagen Sie, welche Nachrichten: ids, oder all",
	"there is no action %q":                                                                "es gibt keine Aktion %q",
	"dry_run is for remove and bounce, not for %s":                                         "dry_run ist für remove und bounce da, nicht für %s",
	"why %q is no code of a reason; docs/reasons.md lists them":                            "why %q ist kein Code eines Grundes; docs/reasons.md nennt sie",
	"the time must be more than 0, such as 10m":                                            "die Zeit muss mehr als 0 sein, etwa 10m",
	"message %s cannot be read from the disk of the relay: %w":                             "die Nachricht %s lässt sich nicht von der Platte des Relays lesen: %w",
	"say what to trace: a message, a domain or a host":                                     "sagen Sie, was verfolgt werden soll: eine Nachricht, eine Domain oder ein Host",
	"4 traces run already; end one of them":                                                "schon vier Traces laufen; beenden Sie einen davon",
	"a drain has the name of its run":                                                      "eine Übergabe hat den Namen ihres Laufs",
	"%d domains are paused, and no more can be: resume some, or pause delivery as a whole": "%d Domains ruhen, und mehr können es nicht sein: Setzen Sie einige fort, oder halten Sie die Zustellung als Ganzes an",
	"is not in the trash":                                                                  "ist nicht im Papierkorb",
	"another drain is running":                                                             "eine andere Übergabe läuft schon",
	"another import is running":                                                            "ein anderer Import läuft schon",
	"not a queue export that this version can read":                                        "kein Export einer Queue, den diese Version lesen kann",
	"%w: its version is %q, this program reads 1":                                          "%w: Seine Version ist %q, dieses Programm liest 1",
	"%w: it does not begin with %q":                                                        "%w: Er beginnt nicht mit %q",

	"by the operator":  "durch den Administrator",
	"imported on hold": "angehalten importiert",

	// Forms of the web page.
	"the form cannot be read: %w":    "das Formular lässt sich nicht lesen: %w",
	"a day is written as 2026-11-28": "ein Tag wird geschrieben wie 2026-11-28",
	"these are more messages than a page can count: narrow the filter, or use the command line": "das sind mehr Nachrichten, als eine Seite zählen kann: Filtern Sie enger, oder nehmen Sie die Kommandozeile",

	// The history.
	"there is no history":                           "es gibt keinen Verlauf",
	"%s: the history has nothing of such a message": "%s: Von einer solchen Nachricht steht nichts im Verlauf",
	"the history has no delivery of this message":   "von dieser Nachricht steht keine Zustellung im Verlauf",
	"these are too many messages for one document":  "das sind zu viele Nachrichten für ein Dokument",
	"%w: more than %d; narrow the search":           "%w: mehr als %d; suchen Sie enger",
	"%s %q is not %s or %s":                         "%s %q ist nicht %s oder %s",
	"limit %d is negative":                          "limit %d ist negativ",
	"since must be before until":                    "since muss vor until liegen",
	"%q is not a mail address":                      "%q ist keine Mailadresse",

	// Policies, and their certificates.
	"MTA-STS is switched off (sts.enabled)":       "MTA-STS ist ausgeschaltet (sts.enabled)",
	"no policy of %s is cached":                   "keine Policy von %s ist im Cache",
	"it has expired, and is not applied any more": "sie ist abgelaufen und wird nicht mehr angewendet",
	"this relay orders no certificates for policy hosts: [publisher] is off, or its tls is not \"acme\"": "dieses Relay bestellt keine Zertifikate für Policy-Hosts: [publisher] ist aus, oder sein tls ist nicht \"acme\"",
	"no certificate is wanted for %s":              "für %s wird kein Zertifikat gebraucht",
	"it was renewed by hand less than an hour ago": "es wurde vor weniger als einer Stunde von Hand erneuert",
	"%s: %w; again after %s UTC":                   "%s: %w; wieder nach %s UTC",
	"the certificate of %s is not renewed: %s":     "das Zertifikat von %s wird nicht erneuert: %s",
	"acme.agree is not true: no certificate is ordered without your agreement to the authority's terms": "acme.agree ist nicht true: Ohne Ihre Zustimmung zu den Bedingungen der Zertifizierungsstelle wird kein Zertifikat bestellt",

	// TLS reports of this relay.
	"TLS reports are switched off (tlsrpt.enabled)": "TLS-Berichte sind ausgeschaltet (tlsrpt.enabled)",
	"%q is not a date such as 2026-11-23":           "%q ist kein Datum wie 2026-11-23",
	"nothing was counted for %s on %s":              "für %s wurde am %s nichts gezählt",
	"nothing was sent: %w":                          "nichts wurde gesendet: %w",
	"its mail is in the queue as %s":                "seine Mail ist in der Queue als %s",

	// TLS reports about own domains.
	"since %q is not a day such as 2026-11-23": "since %q ist kein Tag wie 2026-11-23",
	"no report and no mail has this ID":        "kein Bericht und keine Mail hat diese ID",
	"%w: %s is the beginning of %d":            "%w: %s ist der Anfang von %d",
	"serve the policy at exactly https://mta-sts.%s/.well-known/mta-sts.txt with status 200, or take the _mta-sts record away; stsrelay check %s fetches it": "bieten Sie die Policy unter genau https://mta-sts.%s/.well-known/mta-sts.txt mit Status 200 an, oder nehmen Sie den Record _mta-sts weg; stsrelay check %s holt sie",
	"mend the text of the policy; stsrelay check %s says which line is wrong":                                                                                "bringen Sie den Text der Policy in Ordnung; stsrelay check %s sagt, welche Zeile falsch ist",
	"give the web server a certificate for mta-sts.%s from a public authority, and let it send the whole chain":                                              "geben Sie dem Webserver ein Zertifikat einer öffentlichen Stelle für mta-sts.%s, und lassen Sie ihn die ganze Kette senden",
	"nothing, unless several senders say so: the sender asks for DANE, and the host has no TLSA records that can be used":                                    "nichts, solange es nicht mehrere Absender sagen: Der Absender verlangt DANE, und der Host hat keine verwendbaren TLSA-Records",
	"ask the sender what the failure was: the report does not say; stsrelay check %s tries the hosts from here":                                              "fragen Sie den Absender, was fehlschlug: Der Bericht sagt es nicht; stsrelay check %s probiert die Hosts von hier",
	"%s. Or the policy does not name the host: senders have no other result type for that. * stands for one label only (RFC 8461, 4.1)":                      "%s. Oder die Policy nennt den Host nicht: Dafür haben Absender keinen anderen Ergebnistyp. * steht nur für ein Label (RFC 8461, 4.1)",
	"%s is ready for enforce: %d days, %d sessions of %d senders in their reports, no failure of its own in the last %d days":                                "%s ist bereit für enforce: %d Tage, %d Sitzungen von %d Absendern in deren Berichten, kein eigener Fehler in den letzten %d Tagen",
	"%s is not ready for enforce; missing: %s":   "%s ist nicht bereit für enforce; es fehlt: %s",
	"reports of %d more days (%d of %d)":         "weitere Tage mit Berichten: %d (%d von %d)",
	"reports of %s (%d of %d)":                   "Berichte von %s (%d von %d)",
	"1 session failed":                           "eine Sitzung schlug fehl",
	"%d sessions failed":                         "%d Sitzungen schlugen fehl",
	"1 more sender":                              "einem weiteren Absender",
	"%d more senders":                            "%d weiteren Absendern",
	"%d more sessions that went well (%d of %d)": "weitere gelungene Sitzungen: %d (%d von %d)",
	"%d days without a failure of the domain's own: %s, the last on %s; stsrelay received summary %s says what to mend": "%d Tage ohne einen eigenen Fehler der Domain: %s, zuletzt am %s; stsrelay received summary %s sagt, was zu beheben ist",

	// A fleet.
	"queue.engine is not \"postgres\": this relay is alone":                                                                "queue.engine ist nicht \"postgres\": Dieses Relay ist allein",
	"PostgreSQL does not answer":                                                                                           "PostgreSQL antwortet nicht",
	"the queues of the other relays: %w":                                                                                   "die Queues der anderen Relays: %w",
	"done here, and not at other relays: %s":                                                                               "hier ist es getan, und bei anderen Relays nicht: %s",
	"another relay of the fleet makes the TLS reports":                                                                     "ein anderes Relay der Flotte macht die TLS-Berichte",
	"the relay that makes the TLS reports: %w":                                                                             "das Relay, das die TLS-Berichte macht: %w",
	"the answer of the relay that makes the TLS reports: %w":                                                               "die Antwort des Relays, das die TLS-Berichte macht: %w",
	"the order of another relay cannot be read: %w":                                                                        "der Auftrag eines anderen Relays lässt sich nicht lesen: %w",
	"this relay does not know the order %q: update it":                                                                     "dieses Relay kennt den Auftrag %q nicht: Bringen Sie es auf den neuen Stand",
	"nobody holds the messages of %s: %d wait; start it, or another relay, which takes them over":                          "niemand arbeitet an den Nachrichten von %s: %d warten; starten Sie es oder ein anderes Relay, das sie übernimmt",
	"no standby is in step: no mail is accepted until one is (standbys: %s)":                                               "kein Standby hält Schritt: Bis einer es tut, wird keine Mail angenommen (Standbys: %s)",
	"none that this user can see":                                                                                          "keine, die dieser Benutzer sieht",
	"the clock of PostgreSQL differs from this machine's by %s; set both by NTP":                                           "die Uhr von PostgreSQL weicht von der dieser Maschine um %s ab; stellen Sie beide mit NTP",
	"a transaction of PostgreSQL is open for %s: deleted messages are not cleaned up meanwhile; pg_stat_activity names it": "eine Transaktion in PostgreSQL ist seit %s offen: Solange wird nicht aufgeräumt, was gelöscht ist; pg_stat_activity nennt sie",
	"the table of entries has %d dead rows and %d live ones: is autovacuum on?":                                            "die Tabelle entries hat %d tote Zeilen und %d lebende: Läuft autovacuum?",

	// Why no mail is taken in.
	"the queue is full":      "die Queue ist voll",
	"%w: %d messages":        "%w: %d Nachrichten",
	"disk full":              "die Platte ist voll",
	"%w: that of PostgreSQL": "%w: die von PostgreSQL",
	"%w: %s has %s free, at least %s must stay free": "%w: %s hat %s frei, mindestens %s müssen frei bleiben",
	"store failed": "der Speicher versagt",
	"%w: %w; the relay takes no more mail until it is started anew": "%w: %w; das Relay nimmt keine Mail mehr an, bis es neu gestartet wird",
	"store closed":                 "der Speicher ist geschlossen",
	"the engine cannot be reached": "die Engine ist nicht zu erreichen",

	// What an attempt waits for, after "waits for".
	"the addresses of":                 "die Adressen von",
	"a connection to":                  "eine Verbindung zu",
	"a free session with":              "eine freie Sitzung mit",
	"the greeting of":                  "die Begrüßung von",
	"the mail hosts of":                "die Mailhosts von",
	"the MTA-STS policy of":            "die MTA-STS-Policy von",
	"the TLSA records of":              "die TLSA-Records von",
	"the TLS handshake with":           "den TLS-Handshake mit",
	"the content to go to":             "das Senden des Inhalts an",
	"the reply to %s from %s":          "die Antwort auf %s von %s",
	"the reply to the content from %s": "die Antwort auf den Inhalt von %s",
}
