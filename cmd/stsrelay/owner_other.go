//go:build !unix

package main

// owner has no meaning here; see owner_unix.go.
type owner struct{}

func ownerOf(string) owner      { return owner{} }
func (owner) give(string) error { return nil }
