//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What root restores into a folder of another user belongs to that user, also where the folder
// is reached by a link.
func TestRestoredFilesBelongToTheOwnerOfTheFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const user = 12345
	dir := t.TempDir()
	disk, link := filepath.Join(dir, "disk"), filepath.Join(dir, "data")
	if err := errors.Join(os.Mkdir(disk, 0o700), os.Chown(disk, user, user), os.Symlink(disk, link)); err != nil {
		t.Fatal(err)
	}
	o, file := ownerOf(link), filepath.Join(disk, "key.pem")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), o.give(link)); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || sys.Uid != user {
		t.Errorf("the file belongs to %+v", st.Sys())
	}
}
