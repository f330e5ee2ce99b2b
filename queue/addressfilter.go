package queue

import (
	"hash/maphash"
	"strings"
)

// addressFilters makes a filter of the addresses of each message, so that a search by address
// among a million messages reads few envelopes: those whose filter has the address. A
// filter is a Bloom filter of 64 bits, with three for each address. It may have an address
// that the message does not have; of a message with many recipients it has nearly all.
type addressFilters struct{ seed maphash.Seed }

func newAddressFilters() addressFilters { return addressFilters{seed: maphash.MakeSeed()} }

// of is the filter of a message.
func (a addressFilters) of(env *Envelope) uint64 {
	filter := a.sender(env.From)
	for i := range env.Recipients {
		filter |= a.recipient(env.Recipients[i].Address)
	}
	return filter
}

// wanted has the bits that the filter of each message has that f selects.
func (a addressFilters) wanted(f Filter) (bits uint64) {
	switch f.From {
	case "":
	case "<>":
		bits = a.sender("")
	default:
		bits = a.sender(f.From)
	}
	if f.To != "" {
		bits |= a.recipient(f.To)
	}
	return bits
}

func (a addressFilters) sender(address string) uint64    { return a.bits('<', address) }
func (a addressFilters) recipient(address string) uint64 { return a.bits('>', address) }

// bits are equal for addresses that are the same for sameAddress.
func (a addressFilters) bits(kind byte, address string) (bits uint64) {
	at := strings.LastIndexByte(address, '@')
	var h maphash.Hash
	h.SetSeed(a.seed)
	_ = h.WriteByte(kind)
	_, _ = h.WriteString(address[:at+1])
	_, _ = h.WriteString(strings.ToLower(address[at+1:]))
	sum := h.Sum64()
	for range 3 {
		bits |= 1 << (sum % 64)
		sum /= 64
	}
	return bits
}
