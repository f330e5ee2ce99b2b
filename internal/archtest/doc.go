// Package archtest holds ARCHITECTURE.md to the code: its table of packages and their
// imports, and which package may never know which. It has tests only.
package archtest
