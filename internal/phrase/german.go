package phrase

// German returns the text in German. What has no translation stays as it is.
func (p Phrase) German() string {
	return p.In(func(english string) string {
		if own, ok := German(english); ok {
			return own
		}
		return english
	})
}

// germanTexts are the tables of formats with their translations.
var germanTexts = []map[string]string{germanCheck, germanPolicy, germanPublish, germanHost, germanOperator}

// German returns the German of a format, or of the text of an error of Go or of the system. ok
// is false where there is none.
func German(english string) (text string, ok bool) {
	for _, table := range germanTexts {
		if text, ok := table[english]; ok {
			return text, true
		}
	}
	text, ok = germanErrors[english]
	return text, ok
}
