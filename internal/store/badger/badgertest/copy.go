// Package badgertest copies the folder of an open Badger store, for tests of what a dying
// process leaves.
package badgertest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Copy returns a folder with the files of the store in dir, all as of one moment: it
// begins again if the store has made or removed a file meanwhile, or has written its
// manifest.
func Copy(t testing.TB, dir string) string {
	t.Helper()
	for {
		to, before := t.TempDir(), fingerprint(t, dir)
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			err = errors.Join(err, copySparse(filepath.Join(to, e.Name()), filepath.Join(dir, e.Name())))
		}
		if fingerprint(t, dir) != before {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
}

// fingerprint returns another text whenever Badger has replaced tables by others.
func fingerprint(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ") + string(manifest)
}

// copySparse copies a file, and leaves out what is zero.
func copySparse(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err != nil {
			return out.Truncate(at)
		}
	}
}
