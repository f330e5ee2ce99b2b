package queue

import "testing"

// A state that was stored before Status was a field of its own has it in LastError.
func TestAStateWithoutStatusHasThatOfItsError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		state RecipientState
		want  string
	}{
		{RecipientState{LastError: "4.2.2 mx.example.org said: 452 4.2.2 full"}, "4.2.2"},
		{RecipientState{LastError: "5.7.128 no"}, "5.7.128"},
		{RecipientState{LastError: "4.2.2 full", Status: "4.2.1"}, "4.2.1"},
		{RecipientState{LastError: "greylisted"}, ""},
		{RecipientState{LastError: "4.2 x"}, ""},
		{RecipientState{LastError: "192.0.2.1 is silent"}, ""},
		{RecipientState{LastError: "4.2.2222 x"}, ""},
		{RecipientState{LastError: "4..2 x"}, ""},
		{RecipientState{}, ""},
	} {
		var rec groupRecord
		if err := decode(encode(groupRecord{States: []RecipientState{tt.state}}), &rec); err != nil {
			t.Fatal(err)
		}
		got, want := rec.States[0], tt.state
		if want.Status = tt.want; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
