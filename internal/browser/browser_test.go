//go:build browser

package browser

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/go-json-experiment/json/jsontext"
)

// axeFile is axe-core's axe.min.js, and pictures a folder for screenshots; "": none are taken.
var axeFile, pictures = os.Getenv("AXE"), os.Getenv("PICTURES")

// browser is a chromium, and the relay whose page it shows.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string
	// clicks counts click, tick and save.
	clicks int
}

// start starts a chromium in a language, "de" or "en".
func start(t *testing.T, base, language string) *browser {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // it lives as long as the test, not as the first action
		t.Fatal(err)
	}
	b := &browser{t: t, ctx: ctx, base: base}
	call(b, network.Enable, network.EnableParams{})
	call(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": jsontext.Value(strconv.Quote(language))}})
	return b
}

// call gives the browser a command of its protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	out, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// run does an action within a time.
func run[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	out, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// open goes to a page of the relay.
func (b *browser) open(path string) {
	b.t.Helper()
	run(b, chromedp.Navigate(b.base+path))
}

// click clicks on what a CSS selector names, and waits for the page that follows.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.clicks++
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.t.Fatalf("click on %s: %v", selector, err)
	}
}

// tick ticks a box; nothing follows.
func (b *browser) tick(selector string) {
	b.t.Helper()
	b.clicks++
	run(b, chromedp.Click(chromedp.CSS(selector)))
}

// save returns the file that the link of a CSS selector leads to, as a click on it saves it.
func (b *browser) save(selector string) string {
	b.t.Helper()
	b.clicks++
	href := run(b, chromedp.Evaluate[string](`document.querySelector(`+strconv.Quote(selector)+`).href`))
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, href, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Disposition"), "attachment") {
		b.t.Errorf("%s: %d %v %v", href, res.StatusCode, res.Header, err)
	}
	return string(text)
}

// fill types a text into a field.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	run(b, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// wants fails where the page that is shown does not show texts.
func (b *browser) wants(texts ...string) {
	b.t.Helper()
	shown := run(b, chromedp.Text(chromedp.CSS("body")))
	for _, want := range texts {
		if !strings.Contains(shown, want) {
			b.t.Errorf("%s does not show %q:\n%s", run(b, chromedp.Location()), want, shown)
		}
	}
}

// lacks fails where the page that is shown shows a text.
func (b *browser) lacks(text string) {
	b.t.Helper()
	if shown := run(b, chromedp.Text(chromedp.CSS("body"))); strings.Contains(shown, text) {
		b.t.Errorf("%s shows %q:\n%s", run(b, chromedp.Location()), text, shown)
	}
}

// login logs in from the page that is shown.
func (b *browser) login(token string) {
	b.t.Helper()
	b.click(`a[href^="/login"]`)
	b.fill(`input[name=token]`, token)
	b.click("form.login button")
}

// size sets the width of the window and the colour scheme.
func (b *browser) size(width int64, scheme string) {
	b.t.Helper()
	run(b, chromedp.EmulateViewport(width, 800))
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// picture takes a picture of the whole page.
func (b *browser) picture(name string) {
	b.t.Helper()
	if pictures == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(pictures, name+".png"), run(b, chromedp.FullScreenshot(100)), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// axe returns what axe-core finds on the page that is shown.
func (b *browser) axe() (faults []string) {
	b.t.Helper()
	script, err := os.ReadFile(axeFile)
	if err != nil {
		b.t.Fatal("AXE must name axe.min.js of axe-core: ", err)
	}
	run(b, chromedp.Evaluate[any](string(script)+"; null"))
	return run(b, chromedp.Evaluate[[]string](`axe.run().then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.html + " " + n.failureSummary)))`,
		chromedp.EvalAwaitPromise))
}

// measure returns the height of the page that is shown, and how much wider than the window it is.
func (b *browser) measure() (height, over int) {
	b.t.Helper()
	return run(b, chromedp.Evaluate[int](`document.documentElement.scrollHeight`)),
		run(b, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
}
