package web

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/stsrelay/stsrelay/relay/drain"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// takeTime is how long one part of another relay's drain may take to come in and to be
// written.
const takeTime = 5 * time.Minute

// drainRoutes are for another relay, which hands its mail over. It shows the token to act.
func drainRoutes(mux *http.ServeMux, a *access, o *operator.Operator) {
	handle := func(path string, fn func(r *http.Request, run string) (any, error)) {
		mux.Handle("POST "+path, a.program(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			_ = control.SetReadDeadline(time.Now().Add(takeTime))
			_ = control.SetWriteDeadline(time.Now().Add(takeTime))
			answer, err := fn(r, r.URL.Query().Get("run"))
			if err != nil {
				http.Error(w, err.Error(), operator.HTTPStatus(err))
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer) // the other relay has gone if it fails
		})))
	}
	actor := func(r *http.Request) operator.Actor { return operator.Actor{Via: "relay", User: clientOf(r).String()} }
	handle(drain.PathTake, func(r *http.Request, run string) (any, error) { return o.Take(r.Context(), actor(r), run, r.Body) })
	handle(drain.PathForget, func(r *http.Request, run string) (any, error) {
		return struct{}{}, o.ForgetTaken(r.Context(), run)
	})
}

// program lets programs in that show the token to act in the Authorization field, over TLS or
// from this machine.
func (a *access) program(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := givenToken(r)
		ok, wait := a.brake.try(r.Context(), clientOf(r), func() bool { return isPrivate(r) && sameToken(token, a.act) })
		switch {
		case a.act == "":
			http.Error(w, "this relay takes nothing over: set admin.act_token_file", http.StatusForbidden)
		case !isPrivate(r):
			http.Error(w, withoutTLS, http.StatusForbidden)
		case wait > 0:
			a.tooMany(w, r, wait)
		case !ok:
			a.log.Warn("a wrong token was shown by another relay", "client", clientOf(r).String())
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the token of admin.act_token_file is needed", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
