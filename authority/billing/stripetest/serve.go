package stripetest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// serve is the API, as far as machineid calls it.
func (s *Stripe) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fail, before, diverted := s.fail, s.before, s.diverted
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if diverted != nil {
		diverted.serve(w, r)
		return
	}
	if s.enter(w, r) {
		return
	}
	defer s.leave(r)
	if before != nil {
		before(r)
	}
	switch {
	case fail != 0:
		refuse(w, fail, "as the test wants it")
		return
	case r.Header.Get("Authorization") != "Bearer "+Key:
		refuse(w, http.StatusUnauthorized, "Invalid API Key provided")
		return
	case r.Header.Get("Stripe-Version") != "2023-10-16":
		refuse(w, http.StatusBadRequest, "another version of the API: "+r.Header.Get("Stripe-Version"))
		return
	}
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	s.once(w, r)
}

// call runs one call. The caller holds the lock.
func (s *Stripe) call(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	switch call := r.Method + " " + path[0]; {
	case call == "POST customers":
		s.makeCustomer(w, r)
	case call == "GET customers":
		s.findCustomers(w, r)
	case call == "POST checkout" && len(path) == 2:
		s.makeCheckout(w, r)
	case call == "GET checkout":
		s.listCheckouts(w, r)
	case call == "POST checkout":
		s.expireCheckout(w, path[2])
	case call == "DELETE subscriptions" && len(path) == 2:
		s.cancel(w, path[1])
	case call == "POST billing_portal":
		s.makePortal(w, r)
	case call == "GET subscriptions":
		s.showSubscriptions(w, r, path[1:])
	case call == "GET subscription_items" && s.subscriptions[r.Form.Get("subscription")] != nil:
		answer(w, s.subscriptions[r.Form.Get("subscription")].page(r.Form.Get("starting_after")))
	case call == "GET prices":
		s.showPrice(w, path[1])
	default:
		refuse(w, http.StatusNotFound, "no such call: "+r.URL.Path)
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"type": "invalid_request_error", "message": message, "code": codeOf(message)}})
}

func codeOf(message string) string {
	if strings.HasPrefix(message, "No such ") {
		return "resource_missing"
	}
	return ""
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func list(w http.ResponseWriter, items []any) {
	if items == nil {
		items = []any{}
	}
	answer(w, map[string]any{"object": "list", "has_more": false, "data": items})
}

func (s *Stripe) makeCustomer(w http.ResponseWriter, r *http.Request) {
	id := s.id("cus")
	s.customers[id] = map[string]string{"orgId": r.PostForm.Get("metadata[orgId]")}
	answer(w, map[string]any{"id": id, "object": "customer"})
}

func (s *Stripe) findCustomers(w http.ResponseWriter, r *http.Request) {
	var found []any
	for id, mail := range s.mails {
		if mail == r.Form.Get("email") {
			found = append(found, map[string]any{"id": id, "object": "customer", "email": mail})
		}
	}
	list(w, found)
}

func (s *Stripe) makeCheckout(w http.ResponseWriter, r *http.Request) {
	f := r.PostForm
	if s.customers[f.Get("customer")] == nil || f.Get("mode") != "subscription" || f.Get("line_items[0][price]") == "" {
		refuse(w, http.StatusBadRequest, "no such customer, mode or price")
		return
	}
	c := &checkout{
		id: s.id("cs"), number: s.number, customer: f.Get("customer"), price: f.Get("line_items[0][price]"), org: f.Get("client_reference_id"), status: "open",
		metadata: map[string]string{"orgId": f.Get("subscription_data[metadata][orgId]")},
	}
	s.checkouts[c.id] = c
	answer(w, map[string]any{"id": c.id, "object": "checkout.session", "url": s.URL + "/checkout/" + c.id})
}

func (s *Stripe) listCheckouts(w http.ResponseWriter, r *http.Request) {
	var found []*checkout
	for _, c := range s.checkouts {
		if c.customer == r.Form.Get("customer") && (r.Form.Get("status") == "" || c.status == r.Form.Get("status")) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *checkout) int { return b.number - a.number }) // the newest first
	items := make([]any, 0, len(found))
	for _, c := range found {
		items = append(items, map[string]any{"id": c.id, "object": "checkout.session", "status": c.status})
	}
	list(w, items)
}

func (s *Stripe) expireCheckout(w http.ResponseWriter, id string) {
	c := s.checkouts[id]
	if c == nil || c.status != "open" {
		refuse(w, http.StatusBadRequest, "no open checkout")
		return
	}
	c.status = "expired"
	answer(w, map[string]any{"id": c.id, "object": "checkout.session", "status": c.status})
}

func (s *Stripe) makePortal(w http.ResponseWriter, r *http.Request) {
	sub := r.PostForm.Get("flow_data[subscription_update][subscription]")
	if sub != "" && (s.subscriptions[sub] == nil || s.subscriptions[sub].Status == "unpaid") {
		refuse(w, http.StatusBadRequest, "this subscription cannot be updated")
		return
	}
	url := s.URL + "/portal/" + r.PostForm.Get("customer")
	if sub != "" {
		url += "/update/" + sub
	}
	answer(w, map[string]any{"id": s.id("bps"), "object": "billing_portal.session", "url": url})
}

func (s *Stripe) showSubscriptions(w http.ResponseWriter, r *http.Request, path []string) {
	if len(path) > 0 {
		sub := s.subscriptions[path[0]]
		if sub == nil {
			refuse(w, http.StatusNotFound, "No such subscription")
			return
		}
		answer(w, sub.object())
		return
	}
	if customer := r.Form.Get("customer"); s.deleted[customer] || !s.known(customer) {
		refuse(w, http.StatusBadRequest, "No such customer")
		return
	}
	var found []*Subscription
	for _, sub := range s.subscriptions {
		if sub.Customer == r.Form.Get("customer") && r.Form.Get("status") == "all" {
			found = append(found, sub)
		}
	}
	slices.SortFunc(found, func(a, b *Subscription) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(b.ID, a.ID))
	})
	var items []any
	for _, sub := range found {
		items = append(items, sub.object())
	}
	list(w, items)
}

func (s *Stripe) cancel(w http.ResponseWriter, id string) {
	sub := s.subscriptions[id]
	if sub == nil || sub.Status == "canceled" {
		refuse(w, http.StatusNotFound, "No such subscription")
		return
	}
	sub.Status = "canceled"
	s.event("customer.subscription.deleted", sub.object())
	answer(w, sub.object())
}

// known reports whether there is such a customer: one that was made, or that a test has named.
func (s *Stripe) known(customer string) bool {
	for _, sub := range s.subscriptions {
		if sub.Customer == customer {
			return true
		}
	}
	return s.customers[customer] != nil
}

func (s *Stripe) showPrice(w http.ResponseWriter, id string) {
	for _, prices := range Prices() {
		if i := slices.Index(prices, id); i >= 0 {
			answer(w, map[string]any{
				"id": id, "object": "price", "active": i == 0, "unit_amount": 2900, "currency": "usd",
				"recurring": map[string]any{"interval": "month", "interval_count": 1},
			})
			return
		}
	}
	refuse(w, http.StatusNotFound, "No such price")
}
