package badger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A store with a file of another user, as after a command of root, is refused for that, and
// not as a damaged one.
func TestAFileOfAnotherUserIsNoDamage(t *testing.T) {
	home := t.TempDir()
	dir := filepath.Join(home, "queue")
	s, err := Open(Options{Dir: dir})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	becomeAnother(t, filepath.Dir(home), home, dir)
	for _, name := range []string{"MANIFEST", "000001.vlog", "DISCARD"} {
		file := filepath.Join(dir, name)
		before, err := os.Stat(file)
		if err == nil {
			err = os.Chmod(file, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, opened := Open(Options{Dir: dir})
		_, salvaged := OpenSalvage(dir, "dev")
		for _, err := range []error{opened, salvaged} {
			if _, damaged := errors.AsType[*DamageError](err); damaged || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), file) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := os.Chmod(file, before.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// becomeAnother takes the rights of root over files from the thread of a test, if it has them,
// and gives the names to the user that it is then.
func becomeAnother(t *testing.T, names ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	const user = 12345
	for _, name := range names {
		files, err := filepath.Glob(filepath.Join(name, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range append(files, name) {
			if err := os.Lchown(file, user, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.LockOSThread()
	if _, err := unix.SetfsuidRetUid(user); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = unix.SetfsuidRetUid(0)
		runtime.UnlockOSThread()
	})
}
