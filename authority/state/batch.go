package state

import (
	"machineid/authority/state/statepb"
)

const (
	// BatchMax is how many devices one command may change.
	BatchMax = 500
	// SampleMax is how many of those that a batch changed are named.
	SampleMax = 25
)

// Batch is what a batch came to.
type Batch struct {
	// Items has one for each id that was named, in the order of the command; none if
	// it named none.
	Items []Item
	// Count is how many devices changed, and Sample names the first of them.
	Count  uint32
	Sample []string
	// AtCap says that at least one was not restored for want of a seat.
	AtCap bool
	// Next is the stretch that comes after this one, nil at the end.
	Next *statepb.Stretch
}

// Item is what became of one device of a batch: Granted, DeviceNotFound, or
// LimitReached.
type Item struct {
	ID      string
	Refusal Refusal
	Changed bool
}

// batchCommand is what both batches have.
type batchCommand interface {
	GetOrgId() []byte
	GetDeviceIds() []string
	GetAll() *statepb.Stretch
}

// batchKind is how a batch goes about it.
type batchKind struct {
	action, scope string
	order         byte // the index that a stretch is of
	change        deviceChange
}

var (
	revokeBatch   = batchKind{"devices.revoked", "all_active", prefixByAge, switchOff}
	unrevokeBatch = batchKind{"devices.restored", "all_revoked", prefixRevoked, switchOn}
)

// batch changes many devices as one. A frozen or ended org refuses all of it, a
// full one only what finds no seat any more.
func (t *tx) batch(c batchCommand, kind batchKind) Outcome {
	h := t.holder(c.GetOrgId())
	out := Outcome{Org: h.org}
	var changed []string
	ids, all, target := namedIn(c), c.GetAll(), ""
	if all != nil {
		target = kind.scope
		ids, out.Batch.Next = t.stretch(kind.order, h.id, all)
	}
	for _, id := range ids {
		one := t.changeDevice(h, id, kind.change)
		switch one.Refusal {
		case OrgNotFound, PlanFrozen, EntitlementExpired:
			out.Refusal = one.Refusal // then it is that of all, and nothing has changed
		case LimitReached:
			out.Batch.AtCap = true
		default:
		}
		if one.Changed {
			out.Batch.Count++
			changed = append(changed, id)
			if len(out.Batch.Sample) < SampleMax {
				out.Batch.Sample = append(out.Batch.Sample, id)
			}
		}
		if all == nil {
			out.Batch.Items = append(out.Batch.Items, Item{id, one.Refusal, one.Changed})
		} else if out.Batch.AtCap || out.Refusal != Granted {
			out.Batch.Next = nil // what comes after finds no seat either
			break
		}
	}
	switch {
	case h.org == nil:
		return Outcome{Refusal: OrgNotFound}
	case out.Refusal != Granted:
		out.Batch = Batch{}
	case out.Batch.Count > 0:
		out.Changed = true
		t.auditMany(h.id, kind.action, target, changed)
	}
	out.Plan = t.plan(h)
	return out
}

// auditMany records a batch. Its target is what it was asked for, or the one device that it came to, else the org; it names the first of those that changed.
func (t *tx) auditMany(org OrgID, action, scope string, changed []string) {
	e := &statepb.AuditEntry{Action: action, Target: scope, Count: uint32(len(changed))}
	switch {
	case scope != "":
	case len(changed) == 1:
		e.Target = t.named(changed[0])
	default:
		e.Target = t.named(org.String())
	}
	size := 0
	for _, id := range changed {
		if size += len(id); len(e.GetTargets()) == targetsMax || size > targetsBytes {
			break
		}
		e.Targets = append(e.Targets, id)
	}
	t.write(org, e)
}

// namedIn are the ids that a batch names; what is beyond the bound is left alone.
func namedIn(c batchCommand) []string {
	if c.GetAll() != nil {
		return nil
	}
	return c.GetDeviceIds()[:min(len(c.GetDeviceIds()), BatchMax)]
}

// stretch lists the occupants of one, in the order of an index, and the stretch
// that comes next. What is listed may not stand any more.
func (t *tx) stretch(order byte, holder OrgID, s *statepb.Stretch) (ids []string, next *statepb.Stretch) {
	from, end := timedKey(order, holder, max(s.GetAfterMs(), 0), s.GetAfterId()), after(holderKey(order, holder, ""))
	if s.GetAfterId() != "" {
		from = append(from, 0) // behind the one before
	}
	until := s.GetUntilMs()
	if until <= 0 {
		until = t.now
	}
	var last int64
	t.must(t.r.scan(from, end, func(k, _ []byte) (bool, error) {
		if order == prefixByAge && timeOf(k) > until {
			return false, nil
		}
		if len(ids) == BatchMax {
			next = &statepb.Stretch{AfterMs: last, AfterId: ids[len(ids)-1], UntilMs: until}
			return false, nil
		}
		ids, last = append(ids, timedID(k)), timeOf(k)
		return true, nil
	}))
	return ids, next
}

// echoBatch concerns the devices that a batch names. For one that names none
// whoever asks again waits for all changes of the org.
func (t *tx) echoBatch(c batchCommand) {
	h := t.holder(c.GetOrgId())
	for _, id := range namedIn(c) {
		t.changeDevice(h, id, func(_ *tx, _ *holder, d *statepb.Occupant) (*statepb.Occupant, Refusal) { return d, DeviceNotFound })
	}
}

// remember writes a batch into a record. The ids are those of the command.
func (b *Batch) remember(m *statepb.Remembered) {
	m.Count, m.Sample, m.AtCap, m.Next = b.Count, b.Sample, b.AtCap, b.Next
	for _, item := range b.Items {
		said := byte(item.Refusal) << 1
		if item.Changed {
			said |= 1
		}
		m.Items = append(m.Items, said)
	}
}

// recallBatch reads it again, for a command that asks for the same.
func recallBatch(m *statepb.Remembered, cmd *statepb.Command) Batch {
	b := Batch{Count: m.GetCount(), Sample: m.GetSample(), AtCap: m.GetAtCap(), Next: m.GetNext()}
	var ids []string
	switch c := cmd.GetChange().(type) {
	case *statepb.Command_RevokeBatch:
		ids = namedIn(c.RevokeBatch)
	case *statepb.Command_UnrevokeBatch:
		ids = namedIn(c.UnrevokeBatch)
	}
	for i, said := range m.GetItems()[:min(len(m.GetItems()), len(ids))] {
		b.Items = append(b.Items, Item{ids[i], Refusal(said >> 1), said&1 == 1})
	}
	for _, item := range b.Items { // the sample follows from them, and is not kept
		if item.Changed && len(b.Sample) < SampleMax && len(m.GetSample()) == 0 {
			b.Sample = append(b.Sample, item.ID)
		}
	}
	return b
}
