//go:build !unix

package badger

import (
	"errors"
	"runtime"
)

var errSystem = errors.New("stsrelay does not run on " + runtime.GOOS + ": its queue needs memory maps, msync and locks as Linux has them; " +
	"run it on Linux, in a container, or in WSL 2 with data_dir inside of WSL")

func probe(string) error { return errSystem }

func statfs(string) (int64, error) { return 0, errSystem }

func taken(string) (int64, error) { return 0, errSystem }

func isLocked(error) bool { return false }

func lockShared(string) (unlock func(), err error) { return nil, errSystem }
