// Package browser has a test that drives the relay's web page in a real browser,
// Debian's chromium, as people do: with the keyboard and the mouse, without scripts of
// the page. It looks for what assistive technology stumbles over (axe-core), and takes
// pictures. It needs the build tag browser; .ci/browser runs it.
package browser
