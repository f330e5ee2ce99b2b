package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/stsrelay/stsrelay/relay/operator"
)

func (s *Server) queueRoutes(mux *http.ServeMux) {
	o := s.operator
	mux.HandleFunc("GET /v1/queue", s.list)
	mux.HandleFunc("GET /v1/queue/{id}", func(w http.ResponseWriter, r *http.Request) { answer(w)(o.Message(r.PathValue("id"))) })
	mux.HandleFunc("GET /v1/queue/{id}/content", s.content)
	mux.HandleFunc("GET /v1/summary", func(w http.ResponseWriter, r *http.Request) { answer(w)(o.FleetSummary(r.Context())) })
	mux.HandleFunc("GET /v1/queue/export", s.exportQueue)
	mux.HandleFunc("POST /v1/queue/import", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.Import(r.Context(), actorOf(r.Context()), r.Body, r.URL.Query().Get("hold") == "true"))
	})
	mux.HandleFunc("POST /v1/queue/pause", func(w http.ResponseWriter, r *http.Request) {
		if order, ok := readPauseOrder(w, r); ok {
			answer(w)(o.Pause(r.Context(), actorOf(r.Context()), order))
		}
	})
	mux.HandleFunc("POST /v1/queue/resume", func(w http.ResponseWriter, r *http.Request) {
		if order, ok := readPauseOrder(w, r); ok {
			answer(w)(o.Resume(r.Context(), actorOf(r.Context()), order))
		}
	})
	mux.HandleFunc("POST /v1/queue/undo", s.undo)
	mux.HandleFunc("POST /v1/queue/{action}", func(w http.ResponseWriter, r *http.Request) {
		if sel, ok := readSelection(w, r); ok {
			answer(w)(o.Change(r.Context(), actorOf(r.Context()), operator.Action(r.PathValue("action")), sel))
		}
	})
}

// list streams an array, the oldest message first.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q, limit := r.URL.Query(), -1
	if l := q.Get("limit"); l != "" {
		var err error
		if limit, err = strconv.Atoi(l); err != nil || limit < 0 {
			refuse(w, http.StatusBadRequest, fmt.Errorf("limit %q is not a number", l))
			return
		}
	}
	sel := operator.Selection{Domain: q.Get("domain"), From: q.Get("from"), To: q.Get("to"), State: q.Get("state"), OlderThan: q.Get("older_than"), Why: q.Get("why"), All: true}
	a := &array{w: w}
	s.end(a, s.operator.Messages(r.Context(), sel, limit, func(m *operator.Message) bool { return a.add(m) }))
}

// readPauseOrder reads what is to be paused or resumed; no body is delivery as a whole. ok is
// false where it was refused.
func readPauseOrder(w http.ResponseWriter, r *http.Request) (order operator.PauseOrder, ok bool) {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&order)
	if err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, err)
		return order, false
	}
	return order, true
}

// undo takes {"within": "10m"}.
func (s *Server) undo(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Within string `json:"within"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&in); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	within, err := time.ParseDuration(in.Within)
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("within %q is not a time such as 10m", in.Within))
		return
	}
	answer(w)(s.operator.Undo(r.Context(), actorOf(r.Context()), within))
}

func (s *Server) content(w http.ResponseWriter, r *http.Request) {
	body, size, err := s.operator.Content(r.PathValue("id"))
	if err != nil {
		refuse(w, operator.HTTPStatus(err), err)
		return
	}
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
}

func (s *Server) exportQueue(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.operator.Export(r.Context(), actorOf(r.Context()), w); err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
}

// backupStore streams what the store holds that is no mail.
func (s *Server) backupStore(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/cbor-seq")
	if err := s.operator.StoreRecords(r.Context(), actorOf(r.Context()), w); err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
}

func (s *Server) trashRoutes(mux *http.ServeMux) {
	o := s.operator
	mux.HandleFunc("GET /v1/trash", func(w http.ResponseWriter, r *http.Request) {
		a := &array{w: w}
		s.end(a, o.Trash(r.Context(), func(t *operator.Trashed) bool { return a.add(t) }))
	})
	mux.HandleFunc("POST /v1/trash/restore", func(w http.ResponseWriter, r *http.Request) {
		if sel, ok := readSelection(w, r); ok {
			answer(w)(o.Restore(r.Context(), actorOf(r.Context()), sel))
		}
	})
	mux.HandleFunc("POST /v1/trash/empty", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.EmptyTrash(r.Context(), actorOf(r.Context())))
	})
}
