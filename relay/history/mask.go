package history

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Addresses says how much of a mail address is kept.
type Addresses string

// How addresses are kept. Domains are kept always.
const (
	AddressesFull   Addresses = "full"
	AddressesDomain Addresses = "domain" // the local part is left out
	AddressesHashed Addresses = "hashed" // the local part is an HMAC of the address, which finds it
)

// anyAddress is what may be a mail address in a reply of a host.
var anyAddress = regexp.MustCompile(`[^\s<>()\[\],;:"']+@[^\s<>()\[\],;:"'@]+`)

// mask returns r as it is to be kept.
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
	out.Reply, out.Error, out.What = hide(r.Reply), hide(r.Error), hide(r.What)
	return out
}

// address returns an address as it is to be kept.
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

// hashed stands in the place of a local part. It is the same for all ways to
// write an address that mail systems mostly take for one.
func hashed(address string, key []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(strings.ToLower(address)))
	return "hmac-" + hex.EncodeToString(h.Sum(nil)[:10])
}
