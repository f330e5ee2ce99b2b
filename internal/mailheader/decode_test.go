package mailheader

import "testing"

func TestDecoded(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		"plain":                                  "plain",
		"=?utf-8?q?gr=C3=BC=C3=9Fe?=":            "grüße",
		"=?utf-8*de?q?gr=C3=BC=C3=9Fe?=":         "grüße",
		"=?iso-8859-1?q?gr=FC=DFe?= x":           "grüße x",
		"=?Windows-1252?Q?Angebot_=96_5_=80?=":   "Angebot – 5 €",
		"=?iso-8859-15?Q?5_=A4?=":                "5 €",
		"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=":     "日本",
		"=?gb2312?B?1tC5+g==?=":                  "中国",
		"=?koi8-r?B?8NLJ18XU?=":                  "Привет",
		"=?x-unheard-of?q?=FF?= =?utf-8?q?x?=":   "=?x-unheard-of?q?=FF?= =?utf-8?q?x?=",
		"=?Windows-1252?Q?a?=\t=?utf-8?b?w7w=?=": "aü",
	} {
		if got := Decoded(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
