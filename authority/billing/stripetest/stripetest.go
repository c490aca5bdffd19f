// Package stripetest is a Stripe for tests: it keeps customers, checkouts and subscriptions, lets a test pay, fail to pay and
// cancel, and makes signed events, which the test sends when, how often and in which order it likes. It can be slow, down, and
// answer 429 or 500.
//
// It guarantees that its answers are as new as its state. It does not judge the shape of requests: stripe-mock does that, in
// authority/billing.
package stripetest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a Stripe of tests is set up with.
const (
	Key           = "sk_test_of_tests"
	WebhookSecret = "whsec_of_tests"
)

// Prices are those of each tier.
func Prices() map[string][]string {
	return map[string][]string{"pro": {"price_pro", "price_pro_old"}, "scale": {"price_scale"}, "max": {"price_max"}}
}

// Subscription is one as Stripe has it.
type Subscription struct {
	ID, Customer, Price, Status string
	Created, PeriodEnd          int64 // seconds
	CancelAtPeriodEnd           bool
	CancelAt                    int64
	Metadata                    map[string]string
	NewPlaces                   bool     // the period's end stands at the items, as later versions of the API have it
	More                        []string // prices of further items, which Stripe lists first
	Page                        int      // how many items are on a page; 0: all
	Paused                      string   // the behavior of its pause_collection, "" for none
}

type checkout struct {
	number                           int
	id, customer, price, org, status string
	metadata                         map[string]string
}

// Stripe is one. It is safe for concurrent use.
type Stripe struct {
	URL string

	mu            sync.Mutex
	number        int
	created       int64 // of the newest subscription
	customers     map[string]map[string]string
	mails         map[string]string      // by customer
	idempotent    map[string]*remembered // by name
	underWay      map[string]bool        // names
	broken        map[string]int         // statuses to answer once and remember, by path
	checkouts     map[string]*checkout
	subscriptions map[string]*Subscription
	events        [][]byte
	requests      []string
	fail          int
	before        func(*http.Request)
	sameTime      int64
	deleted       map[string]bool
	diverted      *Stripe
}

// New starts one, until the test ends.
func New(tb testing.TB) *Stripe {
	tb.Helper()
	s := Offline()
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	tb.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Offline is one that is reached by its Transport alone: for tests in virtual time.
func Offline() *Stripe {
	return &Stripe{
		URL:       "http://stripe.test",
		customers: map[string]map[string]string{}, mails: map[string]string{}, idempotent: map[string]*remembered{}, underWay: map[string]bool{}, broken: map[string]int{},
		checkouts: map[string]*checkout{}, subscriptions: map[string]*Subscription{}, created: 1_790_000_000, deleted: map[string]bool{},
	}
}

// Transport reaches it without a network.
func (s *Stripe) Transport() http.RoundTripper { return transport{s} }

type transport struct{ s *Stripe }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	w, served := httptest.NewRecorder(), make(chan struct{})
	if r.Body == nil {
		r.Body = http.NoBody
	}
	go func() {
		defer close(served)
		t.s.serve(w, r)
	}()
	select {
	case <-served:
		return w.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// Fail makes every answer one of this HTTP status; 0 ends it.
func (s *Stripe) Fail(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = status
}

// Break answers the next POST of a path with a status that Stripe remembers under its name, as it does with failures of its own.
func (s *Stripe) Break(path string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken[path] = status
}

// Before runs f ahead of every answer, outside of any lock: to wait, or to change something meanwhile. nil ends it.
func (s *Stripe) Before(f func(*http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// SameTime gives all events and subscriptions from now on one time.
func (s *Stripe) SameTime() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sameTime = s.created
}

// Requests lists what was asked: method and path.
func (s *Stripe) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Events takes the events that were made and not taken yet, oldest first.
func (s *Stripe) Events() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.events
	s.events = nil
	return list
}

// Subscriptions lists the live ones.
func (s *Stripe) Subscriptions() (live []Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subscriptions {
		if sub.Status != "canceled" && sub.Status != "incomplete_expired" {
			live = append(live, *sub)
		}
	}
	return live
}

// Sign is the header Stripe-Signature of a body, at a time, by each of the secrets.
func Sign(body []byte, at time.Time, secrets ...string) string {
	var header strings.Builder
	header.WriteString("t=" + strconv.FormatInt(at.Unix(), 10))
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
		header.WriteString(",v1=" + hex.EncodeToString(mac.Sum(nil)))
	}
	return header.String() + ",v0=" + strings.Repeat("0", 64)
}

// Mail gives a customer an address.
func (s *Stripe) Mail(customer, mail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails[customer] = mail
}

// Pay completes the open checkout at an address and returns the subscription's id.
func (s *Stripe) Pay(url string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.checkouts[url[strings.LastIndex(url, "/")+1:]]
	if c == nil || c.status != "open" {
		return "", fmt.Errorf("no open checkout at %s", url)
	}
	c.status = "complete"
	sub := s.subscribe(c.customer, c.price, c.metadata)
	s.event("checkout.session.completed", map[string]any{
		"id": c.id, "object": "checkout.session", "customer": c.customer, "subscription": sub.ID, "client_reference_id": c.org,
	})
	return sub.ID, nil
}

// Delete deletes a customer, which ends its subscriptions.
func (s *Stripe) Delete(customer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted[customer] = true
	for _, sub := range s.subscriptions {
		if sub.Customer == customer && sub.Status != "canceled" {
			sub.Status = "canceled"
			s.event("customer.subscription.deleted", sub.object())
		}
	}
}

// Subscribe makes a subscription without a checkout.
func (s *Stripe) Subscribe(customer, price, org string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscribe(customer, price, map[string]string{"orgId": org}).ID
}

func (s *Stripe) subscribe(customer, price string, metadata map[string]string) *Subscription {
	s.created++
	if s.sameTime != 0 {
		s.created = s.sameTime
	}
	sub := &Subscription{
		ID: s.id("sub"), Customer: customer, Price: price, Status: "active", Created: s.created, PeriodEnd: s.created + 30*24*3600, Metadata: metadata,
	}
	s.subscriptions[sub.ID] = sub
	s.event("customer.subscription.created", sub.object())
	return sub
}

// Change changes a subscription and makes the event of it.
func (s *Stripe) Change(id string, change func(*Subscription)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subscriptions[id]
	change(sub)
	name := "customer.subscription.updated"
	if sub.Status == "canceled" {
		name = "customer.subscription.deleted"
	}
	s.event(name, sub.object())
}

func (s *Stripe) id(prefix string) string {
	s.number++
	return prefix + "_" + strconv.Itoa(s.number)
}

func (s *Stripe) event(name string, object map[string]any) {
	body, err := json.Marshal(map[string]any{
		"id": s.id("evt"), "object": "event", "api_version": "2023-10-16", "created": s.created, "type": name, "data": map[string]any{"object": object},
	})
	if err != nil {
		panic(err)
	}
	s.events = append(s.events, body)
}

func (sub *Subscription) items() []map[string]any {
	items := make([]map[string]any, 0, 1+len(sub.More))
	for i, price := range append(slices.Clone(sub.More), sub.Price) {
		item := map[string]any{"id": "si_" + strconv.Itoa(i) + sub.ID, "object": "subscription_item", "price": map[string]any{"id": price, "object": "price"}}
		if sub.NewPlaces {
			item["current_period_end"] = sub.PeriodEnd
		}
		items = append(items, item)
	}
	return items
}

// page is the items that follow one, "" for the first page.
func (sub *Subscription) page(after string) map[string]any {
	items := sub.items()
	from := 1 + slices.IndexFunc(items, func(i map[string]any) bool { return i["id"] == after })
	to := len(items)
	if sub.Page > 0 {
		to = min(to, from+sub.Page)
	}
	return map[string]any{"object": "list", "data": items[from:to], "has_more": to < len(items)}
}

func (sub *Subscription) object() map[string]any {
	o := map[string]any{
		"id": sub.ID, "object": "subscription", "customer": sub.Customer, "status": sub.Status, "created": sub.Created, "metadata": sub.Metadata,
		"cancel_at_period_end": sub.CancelAtPeriodEnd, "cancel_at": nil,
		"items": sub.page(""), "pause_collection": nil,
	}
	if sub.Paused != "" {
		o["pause_collection"] = map[string]any{"behavior": sub.Paused, "resumes_at": nil}
	}
	if sub.CancelAt != 0 {
		o["cancel_at"] = sub.CancelAt
	}
	if !sub.NewPlaces {
		o["current_period_end"] = sub.PeriodEnd
	}
	return o
}

// Of lists the live subscriptions of a customer.
func (s *Stripe) Of(customer string) []Subscription {
	return slices.DeleteFunc(s.Subscriptions(), func(x Subscription) bool { return x.Customer != customer })
}

// Sample makes an event about a subscription, which tells nothing new.
func (s *Stripe) Sample(id string) []byte {
	s.Change(id, func(*Subscription) {})
	events := s.Events()
	return events[len(events)-1]
}

// Divert has another answer in its place, as where the key is another account's; nil ends it.
func (s *Stripe) Divert(to *Stripe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.diverted = to
}
