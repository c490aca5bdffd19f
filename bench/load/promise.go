package load

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// right is what is known of the right of one device or org to run: a version, and whether a call that took it away has returned success
// with no call that gives it back made since. Changes of one right are made one at a time; it is read by anybody.
//
// A validate that was sent while the right was surely gone, and was answered before anybody began to give it back, must not be ALLOW.
type right struct {
	word  atomic.Uint64 // version<<1 | gone
	since atomic.Int64  // when it was gone, by the run's clock
	doubt atomic.Int64  // until when a call that gives it back, and whose outcome is not known, may still be carried out
}

// lateCalls is more than the 8 s for which a call may be carried out after it was sent (docs/api.md, Time).
const lateCalls = 12 * time.Second

// doubtful notes that what became of a call that gives the right back is not known. Until it can no longer be carried out, a call that
// takes the right away proves nothing.
func (r *right) doubtful(now time.Duration) { r.doubt.Store(int64(now + lateCalls)) }

// gone notes that a call that takes the right away has returned success.
func (r *right) gone(now time.Duration) {
	if int64(now) < r.doubt.Load() {
		return
	}
	r.since.Store(int64(now))
	r.word.Store((r.word.Load()>>1+1)<<1 | 1)
}

// unsure notes that a call that gives the right back is about to be sent.
func (r *right) unsure() { r.word.Store((r.word.Load()>>1 + 1) << 1) }

// before is read before a validate is sent.
type before struct {
	device, org uint64
}

func (d *Device) before() before { return before{d.right.word.Load(), d.org.right.word.Load()} }

// stillGone reports whether the right was gone when b was read and has been ever since.
func stillGone(r *right, b uint64) bool { return b&1 == 1 && r.word.Load() == b }

// promise counts what breaks it.
type promise struct {
	checked, broken atomic.Int64

	mu      sync.Mutex
	samples []string
}

const maxSamples = 20

// check judges one answer to a validate. sent is when it was sent, at the earliest.
func (p *promise) check(d *Device, b before, a answer, at *Target, sent time.Duration) (violated bool) {
	gone, why := &d.right, "was revoked"
	if !stillGone(gone, b.device) {
		if gone, why = &d.org.right, "had its org switched off"; !stillGone(gone, b.org) {
			return false
		}
	}
	p.checked.Add(1)
	if !a.allowed && a.code != allow {
		return false
	}
	if p.broken.Add(1) <= maxSamples {
		p.mu.Lock()
		p.samples = append(p.samples, fmt.Sprintf("%s allowed %s (org %s), sent %v after it %s for certain", at.URL, d.id, d.org.ID,
			(sent-time.Duration(gone.since.Load())).Round(time.Microsecond), why))
		p.mu.Unlock()
	}
	return true
}
