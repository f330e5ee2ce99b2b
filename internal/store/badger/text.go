package badger

import "strings"

// This file has the texts of Badger's errors and log lines that have no error value. They
// are those of v4.9.6; check them when Badger is updated.

// lockedText is part of the error for a folder that another process has open.
const lockedText = "Cannot acquire directory lock"

// readingTexts are the beginnings of the lines that Badger logs about a value that it
// cannot read. They concern that value and not the store: the reader gets a ValueError.
var readingTexts = [...]string{"Unable to read:", "Key:", "Invalid read:"}

// aboutReading reports whether a log line is about a value that cannot be read.
func aboutReading(format string) bool {
	for _, t := range readingTexts {
		if strings.HasPrefix(format, t) {
			return true
		}
	}
	return false
}
