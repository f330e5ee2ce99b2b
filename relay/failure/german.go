package failure

// german is a row of the table for operators who read German.
type german struct{ says, remedy, shared string }

const (
	tellPostmaster = "Sagen Sie es dem Postmaster der Domain; stsrelay check DOMAIN sagt, was zu beheben ist."
	lookAtResolver = "Sehen Sie nach dem Resolver dieses Relays: stsrelay check --self fragt ihn zuerst. dns.servers nennt einen anderen."
	breaksTLS      = "Suchen Sie auf dem Weg hinaus nach einer Firewall, die SMTP mitliest und TLS zerbricht."
)

var inGerman = map[Reason]german{
	0:        {says: "Der letzte Versuch hat es nicht zugestellt.", remedy: "Lesen Sie den letzten Fehler; stsrelay check DOMAIN probiert die Hosts der Domain."},
	New:      {says: "Es wurde noch nicht versucht.", remedy: "Nichts; es geht, wenn es an der Reihe ist."},
	Held:     {says: "Der Administrator oder eine Sicherheitsregel der Queue hält es an.", remedy: "stsrelay queue release ID"},
	DNS:      {"Das DNS gibt über die Domain oder ihre Hosts keine brauchbare Auskunft.", "stsrelay check DOMAIN zeigt, welche Anfrage fehlschlägt.", lookAtResolver},
	NoHost:   {"Die Domain nennt keinen Host für Mail, der eine Adresse hat.", "stsrelay check DOMAIN zeigt ihre Records. Sollte die Domain Mail haben, sagen Sie es ihrem Inhaber auf anderem Weg.", lookAtResolver},
	NullMX:   {says: "Die Domain sagt, dass sie keine Mail annimmt (RFC 7505).", remedy: "Nichts; die Adresse ist falsch."},
	Loop:     {says: "Die MX-Records der Domain führen zu diesem Relay zurück.", remedy: "Soll dieses Relay die Mail der Domain weitergeben, nennen Sie ihm eine Route: [[domain]] route."},
	Connect:  {"Kein Host der Domain ist erreichbar, oder die Verbindung brach ab.", "stsrelay check DOMAIN zeigt, wer antwortet.", "Der ausgehende Port 25 ist gesperrt, oder der Weg ins Internet fehlt: Fragen Sie den Anbieter des Netzes oder der Cloud. stsrelay check --self probiert es."},
	Busy:     {says: "Der Host nimmt im Augenblick nicht mehr an (421, oder zu viele Verbindungen).", remedy: "Nichts; das Relay wird von selbst langsamer. Bleibt es so, setzen Sie concurrency in [[domain]] herab."},
	Greeting: {"Der Host lehnt jede Sitzung ab, noch vor der Mail.", "Lesen Sie seine Antwort: Oft lehnt er die Adresse dieses Relays ab. Prüfen Sie den PTR-Record der Adresse und Sperrlisten.", "Die Hosts lehnen die Adresse dieses Relays ab: Prüfen Sie ihren PTR-Record und Sperrlisten. stsrelay check --self prüft den Namen und den Weg zurück."},
	Blocked: {says: "Der Host lehnt die Adresse dieses Relays ab: wegen unerwünschter Mail von dort, einer Sperrliste oder ihres Namens im DNS.",
		remedy: "Lesen Sie die Antwort: Oft nennt sie die Liste. Suchen Sie nach einer Maschine oder einem Konto im eigenen Netz, das Spam sendet (stsrelay history --since 24h), dann prüfen Sie PTR-Record und Sperrlisten; stsrelay check --self prüft den Namen und den Weg zurück."},
	TLSNone:   {"Die Domain verlangt TLS, und ihr Host bietet es nicht an; oder jemand auf dem Weg nimmt das Angebot heraus.", tellPostmaster + " Sehen andere dort STARTTLS, suchen Sie auf dem Weg nach einer Firewall, die SMTP mitliest.", "Suchen Sie auf dem Weg hinaus nach einer Firewall, die SMTP mitliest: Sie nimmt STARTTLS aus dem, was die Hosts sagen."},
	Handshake: {"Der TLS-Handshake mit dem Host schlägt fehl.", tellPostmaster, breaksTLS},
	TLSCert:   {"Das Zertifikat des Hosts führt zu keiner Stelle, der vertraut wird.", tellPostmaster, "Prüfen Sie, welchen Stellen diese Maschine vertraut (delivery.ca_file oder die des Systems), und ob eine Firewall ihr eigenes Zertifikat an die Stelle derer der Hosts setzt."},
	TLSName:   {"Das Zertifikat des Hosts gilt für einen anderen Namen.", tellPostmaster, "Prüfen Sie, ob eine Firewall ihr eigenes Zertifikat an die Stelle derer der Hosts setzt."},
	CertExpired: {"Das Zertifikat des Hosts ist abgelaufen oder noch nicht gültig.", "Sagen Sie es dem Postmaster der Domain.",
		"Stellen Sie die Uhr dieser Maschine, und lassen Sie sie richtig halten (NTP): stsrelay check --self vergleicht sie."},
	STSMX: {says: "Die MTA-STS-Policy der Domain nennt keinen ihrer MX-Hosts.",
		remedy: "Sagen Sie es dem Postmaster der Domain. Ist es behoben: stsrelay policy refresh DOMAIN und stsrelay queue retry --domain DOMAIN."},
	STSFetch: {"Ob die Domain geprüftes TLS verlangt (MTA-STS), lässt sich jetzt nicht sagen.", "stsrelay check DOMAIN zeigt, was fehlschlägt.",
		"Sehen Sie nach dem Resolver dieses Relays (dns.servers) und nach Port 443 hinaus: stsrelay check --self fragt den Resolver zuerst."},
	DANE: {"Das Zertifikat des Hosts ist nicht das seiner TLSA-Records (DANE), oder sie lassen sich nicht nachschlagen.", "Sagen Sie es dem Postmaster des Hosts; stsrelay check DOMAIN sagt, was zu beheben ist.",
		"Sehen Sie nach dem Resolver dieses Relays: Seine Antworten auf Fragen nach TLSA-Records schlagen fehl. stsrelay check --self fragt ihn; dns.servers nennt einen anderen."},
	RequireTLS: {says: "Der Absender verlangt TLS auf dem ganzen Weg (REQUIRETLS), und der Host kann es nicht zusagen.", remedy: "Der Absender kann es ohne diese Forderung senden."},
	Rule:       {says: "Eine Regel dieses Relays verlangt mehr TLS, als der Host gibt.", remedy: "Lockern Sie die Regel in [[domain]] tls oder delivery.plaintext; oder sagen Sie es dem Postmaster der Domain."},
	RouteAuth:  {says: "Der Host der Route nimmt Name und Passwort dieses Relays nicht an, oder bietet kein AUTH.", remedy: "Prüfen Sie user und password_file der Route in [[domain]]."},
	Recipient:  {says: "Der Host lehnt den Empfänger ab oder stellt ihn zurück (wie beim Greylisting).", remedy: "Nichts, wenn es von selbst vorbeigeht; sonst lesen Sie die Antwort."},
	Content:    {says: "Der Host lehnt die Nachricht ab oder stellt sie zurück.", remedy: "Lesen Sie die Antwort: Es geht um Inhalt, Absender oder den Ruf dieses Relays."},
	Size:       {says: "Die Nachricht ist größer, als der Host zulässt.", remedy: "Der Absender kann große Dateien auf anderem Weg weitergeben."},
	Unknown: {says: "Der Host nahm die ganze Nachricht und bestätigte sie nicht; sie kann zweimal ankommen.",
		remedy: "Nichts, wenn es von selbst vorbeigeht; sonst suchen Sie nach einer Firewall oder einem Virenscanner, der die Verbindung zu lange hält."},
	Expired:  {says: "Es konnte innerhalb von delivery.expire nicht zugestellt werden.", remedy: "Der letzte Fehler davor sagt, warum."},
	Internal: {says: "Dieses Relay hat selbst eine Störung.", remedy: "Suchen Sie in seinem Log nach Zeilen der Stufe ERROR."},
}

// German returns Says, Remedy and Shared of the row in German.
func (r *Row) German() (says, remedy, shared string) {
	g := inGerman[r.Reason]
	return g.says, g.remedy, g.shared
}
