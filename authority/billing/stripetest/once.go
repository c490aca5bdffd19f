package stripetest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
)

// remembered is what a request with an Idempotency-Key was answered.
type remembered struct {
	form   string
	answer *httptest.ResponseRecorder
}

// nameOf is the name by which Stripe knows a request that is sent again.
func nameOf(r *http.Request) string {
	if r.Method != http.MethodPost {
		return ""
	}
	return r.Header.Get("Idempotency-Key")
}

// enter refuses a request while another of its name is under way.
func (s *Stripe) enter(w http.ResponseWriter, r *http.Request) (refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := nameOf(r)
	if name == "" {
		return false
	}
	if s.underWay[name] {
		fault(w, http.StatusConflict, "idempotency_error", "idempotency_key_in_use")
		return true
	}
	s.underWay[name] = true
	return false
}

func (s *Stripe) leave(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.underWay, nameOf(r))
}

// once answers a request; one with a name that was answered before gets the same answer, if it asks the same.
func (s *Stripe) once(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, form := nameOf(r), r.URL.Path+"?"+r.PostForm.Encode()
	was := s.idempotent[name]
	switch {
	case name == "":
		s.call(w, r)
		return
	case was == nil:
		was = &remembered{form, httptest.NewRecorder()}
		if status := s.broken[r.URL.Path]; status != 0 {
			delete(s.broken, r.URL.Path)
			fault(was.answer, status, "api_error", "")
		} else {
			s.call(was.answer, r)
		}
		if was.answer.Code/100 != 4 { // what never began is not remembered
			s.idempotent[name] = was
		}
	case was.form != form:
		fault(w, http.StatusBadRequest, "idempotency_error", "")
		return
	default:
		w.Header().Set("Idempotent-Replayed", "true")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(was.answer.Code)
	_, _ = w.Write(was.answer.Body.Bytes())
}

func fault(w http.ResponseWriter, status int, kind, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"type": kind, "message": "as the test wants it", "code": code}})
}
