package history

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Addresses is how mail addresses are stored.
type Addresses string

// How addresses are stored. Domains are always stored.
const (
	AddressesFull   Addresses = "full"
	AddressesDomain Addresses = "domain" // the local part is removed
	AddressesHashed Addresses = "hashed" // the local part is replaced by an HMAC of the address, by which it can be found
)

// anyAddress matches a possible mail address in a host's reply.
var anyAddress = regexp.MustCompile(`[^\s<>()\[\],;:"']+@[^\s<>()\[\],;:"'@]+`)

// mask returns r with its addresses in the form to store.
func (a Addresses) mask(r *Record, key []byte) Record {
	out := *r
	if a == AddressesFull || a == "" {
		return out
	}
	out.From = a.address(r.From, key)
	out.To = make([]string, len(r.To))
	for i, to := range r.To {
		out.To[i] = a.address(to, key)
	}
	hide := func(s string) string {
		return anyAddress.ReplaceAllStringFunc(s, func(s string) string { return a.address(s, key) })
	}
	out.Reply, out.Error, out.What, out.Subject = hide(r.Reply), hide(r.Error), hide(r.What), hide(r.Subject)
	return out
}

// address returns an address in the form to store.
func (a Addresses) address(s string, key []byte) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	if a == AddressesHashed {
		return hashed(s, key) + s[at:]
	}
	return "…" + s[at:]
}

// hashed returns the replacement for the local part of an address. It is the same
// whatever the case of the address, because most mail systems ignore case.
func hashed(address string, key []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.ToLower(address)))
	return "hmac-" + hex.EncodeToString(h.Sum(nil)[:10])
}
