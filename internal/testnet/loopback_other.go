//go:build !linux

package testnet

import "errors"

// LoopbackUp switches the loopback interface of a new network namespace on, which
// only Linux has.
func LoopbackUp() error { return errors.ErrUnsupported }
