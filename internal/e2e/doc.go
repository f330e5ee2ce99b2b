// Package e2e is a relay in a fake Internet (package testnet), for tests of behaviour
// that several packages have part in. It is a package of its own so that such a
// test stands beside the code whose behaviour it is about, whichever package that is.
package e2e
