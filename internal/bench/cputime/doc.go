// Package cputime measures what tests and benchmarks use of the processors: on a machine
// that has other work, the time on the wall says little.
package cputime
