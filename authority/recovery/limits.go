package recovery

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"time"

	"machineid/shared/budget"
	"machineid/shared/clock"
)

// limits are what is asked for in an hour. They are this node's alone: another leader begins anew. Who fills them shuts nobody out (shared/budget).
type limits struct {
	began time.Time
	seed  maphash.Seed

	clients budget.Addresses
	mails   *budget.Table
}

func newLimits(now time.Time) *limits {
	return &limits{began: now, seed: maphash.MakeSeed(), clients: budget.ByAddress(perHour, time.Hour), mails: budget.New(perHour, time.Hour, budget.Sets)}
}

func (l *limits) at(now time.Time) clock.Time { return clock.Time(now.Sub(l.began)) }

// client counts one more of a client's address and reports whether it may be.
func (l *limits) client(address string, now time.Time) bool {
	ip, _ := netip.ParseAddr(address) // what is no address is one client
	return l.clients.Take(ip.Unmap().WithZone(""), l.at(now)) == 0
}

func (l *limits) tag(mail string) uint64 {
	return maphash.String(l.seed, strings.ToLower(mail)) | 1
}

// mail holds one more to a mail address, to be settled, and reports whether it may be.
func (l *limits) mail(address string, now time.Time) bool {
	wait, _ := l.mails.Hold(l.tag(address), l.at(now))
	return wait == 0
}

// settle ends a hold: it was spent if there was a mail, or nobody to be mailed.
func (l *limits) settle(address string, now time.Time, spend bool) {
	l.mails.Settle(l.tag(address), l.at(now), spend)
}
