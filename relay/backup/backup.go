// Package backup is the form of a backup: a file with everything that a relay needs to go on
// elsewhere, except its mail, which is in it when that is asked for. docs/backup.md describes
// the file. It is a compressed tar archive, so that a person gets at its parts without this
// program, and encrypted with age where that is asked for (crypt.go).
//
// Writer writes a file, Open reads one, and refuses one that is not whole before anything of
// it is used. Restore makes a data folder from it. Records are what a store holds that is no
// mail, as a stream (records.go).
package backup

import (
	"errors"
	"io/fs"
	"time"
)

// Format is the version of the form that this program writes. Every version before stays
// readable.
const Format = 1

// The names in the archive. A part that may be large is a sequence of entries whose names end
// with a number from 1, ".000001"; their contents belong together.
const (
	nameManifest = "stsrelay-backup.json" // the first entry
	nameStore    = "store.cbor"
	nameQueue    = "queue.export"
	nameFiles    = "files"        // the files that the configuration names, and itself
	nameData     = "data"         // what else is in data_dir
	nameSums     = "SHA256SUMS"   // the last entry: a file without it is not whole
	chunk        = 1 << 20        // of a large part, in octets
	maxText      = 16 << 20       // of the manifest and of the sums
	partFormat   = "%s.%06d"      // name and number
	restoring    = "restore-runs" // in data_dir, while a restore is under way
)

// ErrNoBackup is wrapped by the errors of a file that is no backup, or one of a newer version.
var ErrNoBackup = errors.New("not a backup that this version can read")

// ErrTorn is wrapped by the errors of a backup that is not as it was written.
var ErrTorn = errors.New("the backup is cut off or damaged")

// Manifest is the first entry of a backup, as JSON: what the backup is of.
type Manifest struct {
	Format    int       `json:"format"`
	WrittenBy string    `json:"written_by"` // the version of stsrelay
	CreatedAt time.Time `json:"created_at"`
	Hostname  string    `json:"hostname"`
	// DataDir and ConfigFile are absolute names; ConfigFile is "" where there was none.
	DataDir    string `json:"data_dir"`
	ConfigFile string `json:"config_file"`
	// Queue and History report whether they are in the backup.
	Queue   bool `json:"queue"`
	History bool `json:"history"`
	// Files are those outside data_dir, the configuration first.
	Files []File `json:"files"`
}

// File is a file outside data_dir.
type File struct {
	Entry string      `json:"entry"` // its name in the archive
	Path  string      `json:"path"`  // its absolute name on the machine
	Mode  fs.FileMode `json:"mode"`
}

// Restoring returns the name of the file that is in a data folder while a restore is under
// way. Where it is left, the restore was cut off.
func Restoring(dataDir string) string { return dataDir + "/" + restoring }
