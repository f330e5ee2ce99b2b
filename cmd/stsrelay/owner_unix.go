//go:build unix

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// owner is to whom a folder belonged before root wrote into it.
type owner struct {
	uid, gid int
	known    bool
}

// ownerOf returns the owner of a folder, if it is there and belongs to somebody other than
// root, who runs this.
func ownerOf(dir string) owner {
	st, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return owner{}
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || sys.Uid == 0 {
		return owner{}
	}
	return owner{int(sys.Uid), int(sys.Gid), true}
}

// give makes everything below a folder belong to the owner.
func (o owner) give(dir string) error {
	if !o.known {
		return nil
	}
	dir, err := filepath.EvalSymlinks(dir) // the folder may be a link, which WalkDir does not follow
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, o.uid, o.gid) //nolint:gosec // root has just made what is in the folder, and a link is not followed
	})
}
