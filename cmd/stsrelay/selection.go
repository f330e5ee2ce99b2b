package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay/admin"
)

// checkSelection brings what was written into the form of the API; what makes
// no sense is wrong usage, whether the relay runs or not.
func checkSelection(sel *admin.Selection) error {
	if states := []string{"", "queued", "active", "held"}; !slices.Contains(states, sel.State) {
		return usageError{fmt.Errorf("--state %s: must be queued, active or held", sel.State)}
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
