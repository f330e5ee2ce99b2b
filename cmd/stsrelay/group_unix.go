//go:build unix

package main

import (
	"os"
	"syscall"
)

// groupOf returns the group of a file.
func groupOf(file string) (int, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, nil
	}
	return int(st.Gid), nil
}
