package main

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// idForm matches an ID or a prefix of one. Anything else names no message, and must not
// become another path of the API.
var idForm = regexp.MustCompile(`^[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{1,26}$`)

// messagePath returns the path of a message in the API.
func messagePath(id string) (string, error) {
	if !idForm.MatchString(id) {
		return "", fmt.Errorf("%q: %w", id, queue.ErrNotFound)
	}
	return "/v1/queue/" + id, nil
}

// policyPath returns the path of the policy of a domain in the API.
func policyPath(name string) (path, domain string, err error) {
	domain, err = mailbox.ParseName(name)
	if err != nil {
		return "", "", usageError{err}
	}
	return "/v1/policies/" + url.PathEscape(domain), domain, nil
}

// checkSelection brings the flags into the form of the API. What makes no sense is wrong
// usage, whether the relay runs or not.
func checkSelection(sel *operator.Selection) error {
	if states := []string{"", "queued", "active", "held"}; !slices.Contains(states, sel.State) {
		return usageError{fmt.Errorf("--state %s: must be queued, active or held", sel.State)}
	}
	if sel.Domain != "" {
		domain, err := mailbox.ParseName(sel.Domain)
		if err != nil {
			return usageError{fmt.Errorf("--domain: %w", err)}
		}
		sel.Domain = domain
	}
	if sel.OlderThan == "" {
		return nil
	}
	var d config.Duration
	if err := d.UnmarshalText([]byte(sel.OlderThan)); err != nil || d == 0 {
		return usageError{fmt.Errorf("--older-than %s: must be a time such as 30m, 2h or 5d", sel.OlderThan)}
	}
	sel.OlderThan = time.Duration(d).String()
	return nil
}
