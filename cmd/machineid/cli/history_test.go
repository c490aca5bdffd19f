//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// This file is the model and the judge of crash_test.go: what a device may be after calls whose outcome may be unknown, and
// which answers that allows. It does no I/O, so that history_test's mutants can be fed to it.

// condition is what a device is.
type condition string

const (
	absent  condition = "absent"
	active  condition = "active"
	revoked condition = "revoked"
)

// record is all that the model knows of a device. version is what its last registration wrote into both its name and its
// metadata, 0 if it is absent.
type record struct {
	condition condition
	version   int
}

// action is a change that a writer calls, of one device or of its org.
type action string

const (
	register action = "devices/register"
	revoke   action = "devices/revoke"
	unrevoke action = "devices/unrevoke"
	remove   action = "devices/remove"
	execute  action = "org/execution"
)

// after is what a change makes of a record when it is granted.
func (a action) after(r record, version int) record {
	switch {
	case a == register && r.condition != revoked:
		return record{active, version}
	case a == revoke && r.condition == active:
		return record{revoked, r.version}
	case a == unrevoke && r.condition == revoked:
		return record{active, r.version}
	case a == remove:
		return record{absent, 0}
	}
	return r
}

// records is a set: what a device may be.
type records []record

func (rs records) has(c condition) bool {
	return slices.ContainsFunc(rs, func(r record) bool { return r.condition == c })
}

func (rs records) only(c condition) records {
	return slices.DeleteFunc(slices.Clone(rs), func(r record) bool { return r.condition != c })
}

// unknown is the set after a change that may or may not have been made.
func (rs records) unknown(a action, version int) records {
	out := slices.Clone(rs)
	for _, r := range rs {
		if next := a.after(r, version); !slices.Contains(out, next) {
			out = append(out, next)
		}
	}
	return out
}

// granted is the set after a change that was answered with success. before is what the answer says the device was, "" if it
// does not; a fault is an answer that no possible state of the device gives.
func (rs records) granted(a action, version int, before condition) (records, error) {
	was := rs
	if before != "" {
		was = rs.only(before)
	} else if a != register {
		was = slices.Concat(rs.only(active), rs.only(revoked)) // it was found
	}
	if len(was) == 0 {
		return rs, fmt.Errorf("%s was granted to a device that was %q, it can only be %v", a, before, rs)
	}
	var out records
	for _, r := range was {
		if next := a.after(r, version); !slices.Contains(out, next) {
			out = append(out, next)
		}
	}
	return out, nil
}

// refused is the set after a change that was refused because the device is as said.
func (rs records) refused(a action, is condition) (records, error) {
	if out := rs.only(is); len(out) > 0 {
		return out, nil
	}
	return rs, fmt.Errorf("%s was refused because the device is %s, it can only be %v", a, is, rs)
}

// seen is an org as list, get and usage show it.
type seen struct {
	devices          []seenDevice
	used, limit      int // of list
	usageUsed        int
	executionEnabled bool
}

// seenDevice is a device in a list.
type seenDevice struct {
	DeviceID  string          `json:"deviceId"`
	Status    string          `json:"status"`
	Revoked   bool            `json:"revoked"`
	CreatedAt *string         `json:"createdAt"`
	RevokedAt *string         `json:"revokedAt"`
	Name      string          `json:"name"`
	Metadata  json.RawMessage `json:"metadata"`
}

// whole returns the record that was seen, or says which half of it is missing.
func (d seenDevice) whole() (record, error) {
	r := record{condition: condition(d.Status)}
	if (d.Status == string(revoked)) != d.Revoked || d.Revoked != (d.RevokedAt != nil) || d.CreatedAt == nil {
		return r, fmt.Errorf("%s is half there: status %s, revoked %v, createdAt %v, revokedAt %v", d.DeviceID, d.Status, d.Revoked, d.CreatedAt, d.RevokedAt)
	}
	var inName, inMetadata int
	if _, err := fmt.Sscanf(d.Name, "v%d", &inName); err != nil {
		return r, fmt.Errorf("%s is half there: name %q", d.DeviceID, d.Name)
	}
	if _, err := fmt.Sscanf(string(d.Metadata), `{"v":%d}`, &inMetadata); err != nil || inName != inMetadata {
		return r, fmt.Errorf("%s is half there: name %q, metadata %s", d.DeviceID, d.Name, d.Metadata)
	}
	r.version = inName
	return r, nil
}

// compare judges what was seen of an org by what its devices and its execution may be, and returns what they are now known to be.
func compare(may map[string]records, execution []bool, got seen) (now map[string]record, faults []error) {
	now = map[string]record{}
	activeCount := 0
	for _, d := range got.devices {
		r, err := d.whole()
		if err != nil {
			faults = append(faults, err)
		}
		if _, twice := now[d.DeviceID]; twice {
			faults = append(faults, fmt.Errorf("%s is listed twice", d.DeviceID))
		}
		now[d.DeviceID] = r
		if r.condition == active {
			activeCount++
		}
		if !slices.Contains(may[d.DeviceID], r) {
			faults = append(faults, fmt.Errorf("%s is %v, it can only be %v", d.DeviceID, r, may[d.DeviceID]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(may)) {
		if _, listed := now[id]; !listed {
			now[id] = record{condition: absent}
			if !may[id].has(absent) {
				faults = append(faults, fmt.Errorf("%s is gone, it can only be %v", id, may[id]))
			}
		}
	}
	if got.used != activeCount || got.usageUsed != activeCount || activeCount > got.limit {
		faults = append(faults, fmt.Errorf("%d devices are active, list counts %d and usage %d of %d", activeCount, got.used, got.usageUsed, got.limit))
	}
	if !slices.Contains(execution, got.executionEnabled) {
		faults = append(faults, fmt.Errorf("execution is enabled: %v, it can only be %v", got.executionEnabled, execution))
	}
	return now, faults
}

// step is one entry of the history of a device or of an org's execution: a change or a look at it, and what validate may say of
// it afterwards. The steps of one subject follow each other in time.
type step struct {
	called, returned time.Duration
	codes            []string
}

// sighting is an answer of validate.
type sighting struct {
	org, device string
	sent, got   time.Duration
	code        string
}

// Codes of the model. enabled is none of validate's: it says that the org's execution does not decide.
const (
	codeAllow    = "ALLOW"
	codeRevoked  = "DEVICE_REVOKED"
	codeNotFound = "DEVICE_NOT_FOUND"
	codeDisabled = "ORG_DISABLED"
	codeUnsure   = "SYSTEM_UNAVAILABLE"

	codeUnknownKey = "ORG_NOT_FOUND"
	enabled        = "enabled"
)

// codes lists what validate may say of a device.
func (rs records) codes() []string {
	var out []string
	for c, code := range map[condition]string{absent: codeNotFound, active: codeAllow, revoked: codeRevoked} {
		if rs.has(c) {
			out = append(out, code)
		}
	}
	return out
}

// possible lists the codes of every state from the last step that had returned when a request was sent to the last that was
// called before it was answered: the promise (docs/guarantee.md, The promise).
func possible(initially string, steps []step, sent, got time.Duration) []string {
	// They are in order: the first that had not returned yet.
	first, _ := slices.BinarySearchFunc(steps, sent, func(s step, at time.Duration) int {
		if s.returned < at {
			return -1
		}
		return 1
	})
	codes := []string{initially}
	if first > 0 {
		codes = slices.Clone(steps[first-1].codes)
	}
	for _, s := range steps[first:] {
		if s.called >= got {
			break
		}
		codes = append(codes, s.codes...)
	}
	return codes
}

// judge returns a fault for every answer of validate that breaks the promise. history is by org and device; that of an org's
// execution has the device "".
func judge(history map[[2]string][]step, sightings []sighting) (faults []error) {
	for _, s := range sightings {
		if s.code == codeUnsure {
			continue // always allowed
		}
		org := possible(enabled, history[[2]string{s.org, ""}], s.sent, s.got)
		device := possible(codeNotFound, history[[2]string{s.org, s.device}], s.sent, s.got)
		if s.code == codeDisabled && slices.Contains(org, codeDisabled) || slices.Contains(org, enabled) && slices.Contains(device, s.code) {
			continue
		}
		faults = append(faults, fmt.Errorf("%s of %.12s: %s to a request sent at %v and answered at %v, when the org was %v and the device %v",
			s.device, s.org, s.code, s.sent, s.got, org, device))
	}
	return faults
}
