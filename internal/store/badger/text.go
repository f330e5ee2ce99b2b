package badger

import "strings"

// What Badger tells in words only. The texts are those of v4.9.6; with another version,
// look whether they are still so.

// lockedText is in the error of opening a folder that another process has open.
const lockedText = "Cannot acquire directory lock"

// readingTexts begin the lines that Badger logs about a value that it cannot read. They
// concern that value and not the store: the reader gets a ValueError.
var readingTexts = [...]string{"Unable to read:", "Key:", "Invalid read:"}

// aboutReading reports whether Badger logs a value that it cannot read.
func aboutReading(format string) bool {
	for _, t := range readingTexts {
		if strings.HasPrefix(format, t) {
			return true
		}
	}
	return false
}
