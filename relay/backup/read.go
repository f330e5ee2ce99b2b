package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"filippo.io/age"
)

// Backup is a backup whose every octet was read and found as it was written.
type Backup struct {
	Manifest Manifest
	// Octets is the size of all that is in it.
	Octets     int64
	src        io.ReadSeeker
	identities []age.Identity
}

// Open reads a backup from its beginning to its end, and checks it. The error wraps
// ErrNoBackup, ErrTorn, ErrEncrypted or ErrWrongKey, or is one of reading.
func Open(src io.ReadSeeker, identities []age.Identity) (*Backup, error) {
	b := &Backup{src: src, identities: identities}
	var sums bytes.Buffer
	n, whole := 0, false
	err := b.walk(func(name string, r io.Reader) error {
		n++
		switch {
		case whole:
			return fmt.Errorf("%w: there is something behind its end", ErrTorn)
		case n == 1:
			return b.readManifest(name, r, &sums)
		case name == nameSums:
			text, err := io.ReadAll(io.LimitReader(r, int64(sums.Len())+1))
			if err == nil && !bytes.Equal(text, sums.Bytes()) {
				err = fmt.Errorf("%w: its sums do not match", ErrTorn)
			}
			whole = err == nil
			return err
		case !ours(name):
			return fmt.Errorf("%w: it has an entry %q", ErrNoBackup, name)
		}
		sum := sha256.New()
		size, err := io.Copy(sum, r)
		b.Octets += size
		fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), name)
		return err
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: it is empty", ErrNoBackup)
	}
	if err == nil && !whole {
		err = fmt.Errorf("%w: its end is missing", ErrTorn)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Backup) readManifest(name string, r io.Reader, sums io.Writer) error {
	if name != nameManifest {
		return fmt.Errorf("%w: it begins with an entry %q", ErrNoBackup, name)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxText))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &b.Manifest); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNoBackup, nameManifest, err)
	}
	if m := b.Manifest; m.Format > Format {
		return fmt.Errorf("%w: it was written by stsrelay %s (format %d), and this program reads up to %d", ErrNoBackup, m.WrittenBy, m.Format, Format)
	}
	fmt.Fprintf(sums, "%x  %s\n", sha256.Sum256(text), name)
	return nil
}

// ours reports whether a name may be that of an entry: below one of the known parts, and not
// outside of the folder where it is unpacked.
func ours(name string) bool {
	if !filepath.IsLocal(name) || path.Clean(name) != name || strings.Contains(name, "\\") {
		return false
	}
	first, rest, below := strings.Cut(name, "/")
	switch first {
	case nameFiles, nameData:
		return below && rest != ""
	}
	base, _, numbered := splitPart(name)
	return numbered && (base == nameStore || base == nameQueue)
}

// splitPart splits the number from the name of an entry that is one of several.
func splitPart(name string) (base string, number int, ok bool) {
	base, digits, ok := cutLast(name, ".")
	if !ok || len(digits) < 6 {
		return name, 0, false
	}
	number, err := strconv.Atoi(digits)
	return base, number, err == nil && number > 0
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// walk calls fn for each entry of the archive, from the beginning.
func (b *Backup) walk(fn func(name string, r io.Reader) error) error {
	if _, err := b.src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	plain, err := decrypt(b.src, b.identities)
	if err != nil {
		return err
	}
	z, err := gzip.NewReader(plain)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			if _, err := io.Copy(io.Discard, z); err != nil { //nolint:gosec // its checksum is at its end; nothing is kept
				return fmt.Errorf("%w: %w", ErrTorn, err)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrTorn, err)
		}
		if h.Typeflag != tar.TypeReg {
			return fmt.Errorf("%w: %q in it is no file", ErrNoBackup, h.Name)
		}
		if err := fn(h.Name, &tornReader{t}); err != nil {
			return err
		}
	}
}

// tornReader tells errors of reading the archive from others.
type tornReader struct{ r io.Reader }

func (t *tornReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", ErrTorn, err)
	}
	return n, err
}
