package backup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// ageMagic begins a file that is encrypted with age.
const ageMagic = "age-encryption.org/v1\n"

// ErrEncrypted is the error of Open for an encrypted backup without what decrypts it.
var ErrEncrypted = errors.New("the backup is encrypted: name the file with its key (--identity), or give its passphrase (--passphrase)")

// ErrWrongKey is the error of Open for a key or a passphrase that does not decrypt the backup.
var ErrWrongKey = errors.New("the backup is encrypted for another key, or with another passphrase")

// Encrypt returns a writer that encrypts for recipients; Close ends the encryption and not w.
// Without recipients nothing is encrypted.
func Encrypt(w io.Writer, recipients []age.Recipient) (io.WriteCloser, error) {
	if len(recipients) == 0 {
		return unclosed{w}, nil
	}
	return age.Encrypt(w, recipients...)
}

// unclosed is a writer that stays open.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// decrypt returns the content of a backup that may be encrypted.
func decrypt(r io.Reader, identities []age.Identity) (io.Reader, error) {
	b := bufio.NewReader(r)
	head, _ := b.Peek(len(ageMagic)) // a shorter file is no archive either
	if !bytes.Equal(head, []byte(ageMagic)) {
		return b, nil
	}
	if len(identities) == 0 {
		return nil, ErrEncrypted
	}
	plain, err := age.Decrypt(b, identities...)
	if _, no := errors.AsType[*age.NoIdentityMatchError](err); no {
		return nil, ErrWrongKey
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTorn, err)
	}
	return plain, nil
}
