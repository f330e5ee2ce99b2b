package config

import "net/url"

// checkWebhook checks the URL that is told of trouble.
func (l *loader) checkWebhook() {
	n := &l.config.Notices
	if n.Webhook == "" {
		if n.WebhookSecretFile != "" {
			l.fail("notices.webhook", nil, "is missing: webhook_secret_file is for it")
		}
		return
	}
	u, err := url.Parse(n.Webhook)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		l.fail("notices.webhook", n.Webhook, "must be a URL such as https://alerts.example.com/stsrelay")
	} else if u.User != nil {
		l.fail("notices.webhook", u.Redacted(), "must have no password: put a secret into webhook_secret_file")
	}
	if f := n.WebhookSecretFile; f != "" {
		if _, err := ReadSecret(f); err != nil {
			l.fail("notices.webhook_secret_file", f, "%v: it must hold the secret", err)
		}
	}
}
