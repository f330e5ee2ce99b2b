package adminapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// refusal is an error with the HTTP status that it is answered by.
type refusal struct {
	status int
	error
}

func (r refusal) Unwrap() error { return r.error }

// statusOf is the HTTP status of an error.
func statusOf(err error) int {
	if r, ok := errors.AsType[refusal](err); ok {
		return r.status
	}
	return http.StatusInternalServerError
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone if it fails
}

// answerOr answers a value, or why there is none.
func answerOr(w http.ResponseWriter, v any, err error) {
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, v)
}

// refuse answers an error, with its status where it is a refusal.
func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(err))
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// array streams a JSON array, so that its length does not matter.
type array struct {
	w http.ResponseWriter
	n int
}

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

// end ends the array, or says what went wrong.
func (s *Server) end(a *array, err error) {
	switch {
	case err != nil && a.n > 0:
		s.o.Logger.Error("a list was cut short", "error", err)
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	case err != nil:
		refuse(a.w, err)
	case a.n == 0:
		answer(a.w, []struct{}{})
	default:
		_, _ = io.WriteString(a.w, "]\n")
	}
}
