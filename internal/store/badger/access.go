package badger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// mayOpen returns an error where this user may not open a file of the store with flag. Such a
// file, which root has made by a command say, would be taken for damage.
func mayOpen(dir string, flag int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return openError(dir, err)
	}
	for _, e := range entries {
		name := e.Name()
		if !slices.Contains([]string{"MANIFEST", "DISCARD", "KEYREGISTRY", "LOCK"}, name) &&
			!slices.Contains([]string{".vlog", ".sst", ".mem"}, filepath.Ext(name)) {
			continue // nobody opens it
		}
		f, err := os.OpenFile(filepath.Join(dir, name), flag, 0)
		switch {
		case err == nil:
			_ = f.Close()
		case errors.Is(err, fs.ErrPermission):
			return openError(dir, err)
		}
	}
	return nil
}
