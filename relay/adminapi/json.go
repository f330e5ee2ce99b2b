package adminapi

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/stsrelay/stsrelay/relay/operator"
)

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone if it fails
}

// answer returns a function that answers the result of a method of the operator:
// the value, or the error.
func answer(w http.ResponseWriter) func(v any, err error) {
	return func(v any, err error) {
		if err != nil {
			refuse(w, operator.HTTPStatus(err), err)
			return
		}
		writeJSON(w, v)
	}
}

// refuse answers an error.
func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// array streams a JSON array, so that its length does not matter.
type array struct {
	w http.ResponseWriter
	n int
}

// add writes one value, and reports whether the client still reads.
func (a *array) add(v any) bool {
	if a.n == 0 {
		a.w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(a.w, "[")
	} else {
		_, _ = io.WriteString(a.w, ",")
	}
	a.n++
	return json.NewEncoder(a.w).Encode(v) == nil
}

// end ends the array, or answers the error.
func (s *Server) end(a *array, err error) {
	switch {
	case err != nil && a.n > 0:
		s.log.Error("a list was cut short", "error", err)
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	case err != nil:
		refuse(a.w, operator.HTTPStatus(err), err)
	case a.n == 0:
		writeJSON(a.w, []struct{}{})
	default:
		_, _ = io.WriteString(a.w, "]\n")
	}
}
