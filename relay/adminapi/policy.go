package adminapi

import "net/http"

// policyDomain is the domain of the path, where the cache is on.
func (s *Server) policyDomain(w http.ResponseWriter, r *http.Request) (string, bool) {
	domain, err := s.cachedDomain(r.PathValue("domain"))
	if err != nil {
		refuse(w, err)
	}
	return domain, err == nil
}

// storedPolicy is what the cache knows of a domain in the form of the store; it
// is empty where that is nothing.
func (s *Server) storedPolicy(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.policyDomain(w, r)
	if !ok {
		return
	}
	value, _ := s.o.Policies.Stored(domain)
	w.Header().Set("Content-Type", "application/cbor")
	_, _ = w.Write(value) // the client has gone if it fails
}

func (s *Server) refresh(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.policyDomain(w, r)
	if !ok {
		return
	}
	e, err := s.o.Policies.Refresh(r.Context(), domain)
	if err != nil {
		refuse(w, refusal{http.StatusBadGateway, err})
		return
	}
	answer(w, newPolicy(e))
}

func (s *Server) removePolicy(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.policyDomain(w, r)
	if !ok {
		return
	}
	found, err := s.o.Policies.Remove(r.Context(), domain)
	switch {
	case err != nil:
		refuse(w, err)
	case !found:
		refuse(w, errNotCached(domain))
	default:
		answer(w, Touched{Touched: 1})
	}
}
