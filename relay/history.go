package relay

import (
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay/history"
)

// historySettings returns the settings of the history.
func historySettings(c *config.Config) history.Settings {
	return history.Settings{Keep: time.Duration(c.History.Keep), Size: int64(c.History.Size), Addresses: history.Addresses(c.History.Addresses), Subject: c.History.Subject}
}
