package relay_test

import (
	"errors"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// An authority inside a company, step-ca: its certificates last a day, and its directory has a
// certificate that only ca_file vouches for.
func TestCertificatesOfStepCA(t *testing.T) {
	w := e2e.NewStopped(t)
	a := &authority{http: freeTCPPort(t), https: freeTCPPort(t), roots: w.CA.Roots()}
	ca, err := w.StartStepCA(t.TempDir(), a.http)
	if errors.Is(err, testnet.ErrNoStepCA) {
		t.Skip("skipped: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ca.Close()
		if t.Failed() {
			t.Log(ca.Log())
		}
	})
	a.Pebble = &testnet.Pebble{Directory: ca.Directory, CAFile: ca.CAFile}
	w.Start(a.toml("challenge = \"http-01\"\n" + domains(t, w, "enforce", "a.example", "b.example")))
	for _, name := range []string{"a.example", "b.example"} {
		await.Until(t, name, func() bool {
			_, err := a.fetch(t.Context(), name)
			return err == nil
		})
	}
	if c := a.leaf("mta-sts.a.example"); c.Issuer.CommonName != "testnet intermediate" {
		t.Errorf("it was issued by %s", c.Issuer)
	}
}
