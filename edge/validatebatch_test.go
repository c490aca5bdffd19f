package edge

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/shared/link"
)

// batch asks about several devices and tells the codes, and whether memory had them all.
func (w *world) batch(ids ...string) (codes []string, hit bool) {
	w.t.Helper()
	synctest.Wait()
	body, err := json.Marshal(map[string]any{"deviceIds": ids})
	if err != nil {
		w.t.Fatal(err)
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://edge/api/v1/devices/validate_batch")
	req.Header.SetMethod("POST")
	req.Header.Set("X-Org-Key", w.key.Reveal())
	req.SetBody(body)
	if err := w.client.Do(req, resp); err != nil {
		w.t.Fatal(err)
	}
	var a struct {
		Decisions []struct {
			Code    string
			Allowed bool
		}
	}
	if err := json.Unmarshal(resp.Body(), &a); err != nil || len(a.Decisions) != len(ids) {
		w.t.Fatalf("%v: %s", err, resp.Body())
	}
	for _, d := range a.Decisions {
		if d.Allowed != (d.Code == "ALLOW") {
			w.t.Errorf("allowed %t with %s", d.Allowed, d.Code)
		}
		codes = append(codes, d.Code)
	}
	return codes, string(resp.Header.Peek("X-Cache")) == "hit"
}

// all tells whether every code is this one.
func all(codes []string, code string) bool {
	for _, c := range codes {
		if c != code {
			return false
		}
	}
	return true
}

// TestBatchFetchesOnce: what is missing is fetched once, however often it is named, all at once, and is held then.
func TestBatchFetchesOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		ids := make([]string, 0, 500)
		w.a.set(func() {
			for i := range 250 {
				id := fmt.Sprintf("d%03d", i)
				w.a.devices[id] = &link.DeviceRecord{Known: true}
				ids = append(ids, id, id)
			}
		})
		began := time.Now()
		if codes, hit := w.batch(ids...); !all(codes, "ALLOW") || hit {
			t.Errorf("hit %t, %q", hit, codes)
		}
		if n := w.a.fetches(); n < 250 || n > 251 { // the first brings the key, the org and a device
			t.Errorf("%d fetches", n)
		}
		w.a.set(func() {
			if w.a.largest < 2 { // how many gather is the scheduler's
				t.Errorf("at most %d fetches in a frame", w.a.largest)
			}
		})
		if took := time.Since(began); took > retryFetch {
			t.Errorf("it took %v: one after the other", took)
		}
		before := w.a.fetches()
		if codes, hit := w.batch(ids...); !all(codes, "ALLOW") || !hit || w.a.fetches() != before {
			t.Errorf("again: hit %t, %d fetches more, %q", hit, w.a.fetches()-before, codes)
		}
		w.a.change(t, func() { w.a.devices["d007"] = revoked() }, w.a.device("d007"))
		codes, hit := w.batch("d006", "d007", "d008")
		if fmt.Sprint(codes) != "[ALLOW DEVICE_REVOKED ALLOW]" || hit || w.a.fetches() != before+1 {
			t.Errorf("after a revoke: %q, %d fetches more", codes, w.a.fetches()-before)
		}
	})
}

// TestBatchIsBounded: an authority that does not answer costs one MaxWait for all of it, and what memory holds is answered all the same;
// without a lease nothing is.
func TestBatchIsBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		w.a.set(func() { w.a.answer = func(*link.Fetch) *link.Answer { return nil } })
		ids := []string{"d"}
		for i := range 499 {
			ids = append(ids, fmt.Sprint("x", i))
		}
		began := time.Now()
		codes, _ := w.batch(ids...)
		if took := time.Since(began); took != DefaultMaxWait {
			t.Errorf("it took %v", took)
		}
		if codes[0] != "ALLOW" || !all(codes[1:], "SYSTEM_UNAVAILABLE") {
			t.Errorf("%q", codes)
		}
		w.a.set(func() { w.a.grant = func(*link.Renew) *link.Grant { return nil } })
		time.Sleep(testLease)
		if codes, _ := w.batch("d", "d"); !all(codes, "SYSTEM_UNAVAILABLE") {
			t.Errorf("without a lease: %q", codes)
		}
	})
}

// TestBatchOutlivesAPanic: a decision that ends in a panic is no permission, and no end of the process; the others are made all the same.
func TestBatchOutlivesAPanic(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		w.a.set(func() {
			for _, id := range []string{"x1", "x2"} {
				w.a.devices[id] = active()
			}
			w.a.devices["gone"] = revoked()
		})
		w.want("gone", "DEVICE_REVOKED", false)
		m := w.e.memory.Load()
		flights := m.flights.Swap(nil) // who misses meets a pointer to nothing
		codes, hit := w.batch("x1", "d", "x2", "gone", "x1")
		if fmt.Sprint(codes) != "[SYSTEM_UNAVAILABLE ALLOW SYSTEM_UNAVAILABLE DEVICE_REVOKED SYSTEM_UNAVAILABLE]" || hit {
			t.Errorf("hit %t, %q", hit, codes)
		}
		if n := strings.Count(w.log.String(), "panic in a decision"); n != 2 {
			t.Errorf("%d panics are logged: %s", n, w.log.String())
		}
		if got := w.validate("x1"); got.Code != "SYSTEM_UNAVAILABLE" || got.Allowed { // alone it is the same
			t.Errorf("alone: %+v", got)
		}
		if n := w.e.waiting.Load(); n != 0 {
			t.Errorf("%d wait still", n)
		}
		m.flights.Store(flights)
		if codes, _ := w.batch("x1", "d", "x2", "gone", "x1"); fmt.Sprint(codes) != "[ALLOW ALLOW ALLOW DEVICE_REVOKED ALLOW]" {
			t.Errorf("afterwards: %q", codes)
		}
	})
}
