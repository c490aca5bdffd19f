package api_test

import (
	cmp2 "cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is what an org's devices are, in plain maps.
type model struct {
	created map[string]int64 // by id
	revoked map[string]int64
	ends    map[string]int64
	now     int64
}

const modelLimit = 4

// present tells whether a device stands: a revoked one does after its end too.
func (m *model) present(id string) bool {
	_, ok := m.created[id]
	return ok && (m.revoked[id] != 0 || !m.ended(id))
}

func (m *model) ended(id string) bool { return m.ends[id] != 0 && m.now >= m.ends[id] }

func (m *model) used() (used int) {
	for id := range m.created {
		if m.present(id) && m.revoked[id] == 0 {
			used++
		}
	}
	return used
}

func (m *model) forget(id string) {
	delete(m.created, id)
	delete(m.revoked, id)
	delete(m.ends, id)
}

// list is every device in the order of (createdAt, id).
func (m *model) list() []string {
	ids := []string{}
	for id := range m.created {
		if m.present(id) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		if m.created[a] != m.created[b] {
			return int(m.created[a] - m.created[b])
		}
		return compare(a, b)
	})
	return ids
}

// some is a batch: some devices, or all in the order in which they are to be turned.
func (m *model) some(rt *rapid.T, ids *rapid.Generator[string], on bool) (list []string, body map[string]any) {
	if rapid.Bool().Draw(rt, "named") {
		list = rapid.SliceOfNDistinct(ids, 1, 5, rapid.ID).Draw(rt, "ids")
		return list, map[string]any{"deviceIds": list}
	}
	list = m.list()
	if !on {
		return list, map[string]any{"scope": "all_active"}
	}
	slices.SortStableFunc(list, func(a, b string) int { return cmp2.Or(cmp2.Compare(m.revoked[b], m.revoked[a]), compare(a, b)) })
	return list, map[string]any{"scope": "all_revoked"}
}

// holdBatch compares a batch's answer.
func holdBatch(rt *rapid.T, a *answer, body map[string]any, want []string, name string, count int) {
	rt.Helper()
	if a.body[name] != float64(count) {
		rt.Fatalf("%v: %s, want %s %d", body, a.raw, name, count)
	}
	results, listed := a.body["results"].([]any)
	if _, named := body["deviceIds"]; named != listed {
		rt.Fatalf("%v: %s", body, a.raw)
	}
	for i, r := range results {
		item, _ := r.(map[string]any)
		if got := fmt.Sprint(item["deviceId"], " ", item["status"], " ", item["changed"]); got != want[i] {
			rt.Fatalf("%v: %q in %s, want %q", body, got, a.raw, want[i])
		}
	}
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// TestModel makes random calls and holds every answer to the model's.
func TestModel(t *testing.T) {
	n := start(t)
	rapid.Check(t, func(rt *rapid.T) {
		o := n.sized(modelLimit)
		m := &model{created: map[string]int64{}, revoked: map[string]int64{}, ends: map[string]int64{}, now: n.now.Load()}
		ids := rapid.SampledFrom([]string{"a", "b", "B", "ä", "b/c", "%", "deviceId"})
		post := func(rt *rapid.T, path string, body map[string]any, status int, want string) *answer {
			rt.Helper()
			raw, _ := json.Marshal(body)
			a := n.with(o.admin, "POST", path, string(raw))
			word := a.field("error")
			if word == "" {
				word = a.field("status")
			}
			if a.StatusCode != status || word != want {
				rt.Fatalf("%s %s: HTTP %d %s, want %d %s", path, raw, a.StatusCode, a.raw, status, want)
			}
			return a
		}
		changed := func(rt *rapid.T, a *answer, want bool) {
			rt.Helper()
			if a.body["changed"] != want {
				rt.Fatalf("changed is not %t in %s", want, a.raw)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"time": func(rt *rapid.T) {
				n.now.Add(rapid.Int64Range(0, 1500).Draw(rt, "ms"))
				m.now = n.now.Load()
			},
			"register": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				body := map[string]any{"deviceId": id}
				ttl := rapid.Int64Range(0, 3).Draw(rt, "ttl")
				if ttl > 0 {
					body["ttlSeconds"] = ttl
				}
				switch {
				case m.present(id) && m.revoked[id] != 0:
					post(rt, "devices/register", body, 403, "device_revoked")
					return
				case m.present(id):
					post(rt, "devices/register", body, 200, "exists")
				case m.used() >= modelLimit:
					post(rt, "devices/register", body, 403, "device_limit_reached")
					return
				default:
					post(rt, "devices/register", body, 200, "ok")
					m.forget(id)
					m.created[id] = m.now
				}
				if ttl > 0 {
					m.ends[id] = m.now + ttl*1000
				}
			},
			"revoke": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				if !m.present(id) {
					post(rt, "devices/revoke", map[string]any{"deviceId": id}, 404, "device_not_found")
					return
				}
				changed(rt, post(rt, "devices/revoke", map[string]any{"deviceId": id}, 200, "ok"), m.revoked[id] == 0)
				if m.revoked[id] == 0 {
					m.revoked[id] = m.now
				}
			},
			"unrevoke": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				switch {
				case !m.present(id), m.ended(id):
					post(rt, "devices/unrevoke", map[string]any{"deviceId": id}, 404, "device_not_found")
				case m.revoked[id] != 0 && m.used() >= modelLimit:
					post(rt, "devices/unrevoke", map[string]any{"deviceId": id}, 403, "device_limit_reached")
				default:
					changed(rt, post(rt, "devices/unrevoke", map[string]any{"deviceId": id}, 200, "ok"), m.revoked[id] != 0)
					delete(m.revoked, id)
				}
			},
			"revoke batch": func(rt *rapid.T) {
				list, body := m.some(rt, ids, false)
				a := post(rt, "devices/revoke_batch", body, 200, "ok")
				want := []string{}
				for _, id := range list {
					switch {
					case !m.present(id):
						want = append(want, id+" not_found false")
					default:
						want = append(want, fmt.Sprint(id, " ok ", m.revoked[id] == 0))
					}
				}
				count := 0
				for _, id := range list {
					if m.present(id) && m.revoked[id] == 0 {
						m.revoked[id] = m.now
						count++
					}
				}
				holdBatch(rt, a, body, want, "revokedCount", count)
			},
			"unrevoke batch": func(rt *rapid.T) {
				list, body := m.some(rt, ids, true)
				a := post(rt, "devices/unrevoke_batch", body, 200, "ok")
				want, count, blocked := []string{}, 0, false
				for _, id := range list {
					switch {
					case !m.present(id), m.ended(id):
						want = append(want, id+" not_found false")
					case m.revoked[id] == 0:
						want = append(want, id+" ok false")
					case m.used() >= modelLimit:
						blocked = true
						want = append(want, id+" blocked false")
					default:
						want = append(want, id+" ok true")
						delete(m.revoked, id)
						count++
					}
				}
				holdBatch(rt, a, body, want, "unrevokedCount", count)
				reason := ""
				switch {
				case count > 0:
				case blocked:
					reason = "at_cap"
				default:
					reason = "none_revoked"
				}
				if sample, _ := a.body["unrevokedSample"].([]any); a.field("reason") != reason || len(sample) != count {
					rt.Fatalf("%s, want reason %q", a.raw, reason)
				}
			},
			"remove": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				if !m.present(id) {
					post(rt, "devices/remove", map[string]any{"deviceId": id}, 404, "device_not_found")
					return
				}
				post(rt, "devices/remove", map[string]any{"deviceId": id}, 200, "ok")
				m.forget(id)
			},
			"validate": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				want := "ALLOW"
				switch {
				case !m.present(id), m.ended(id):
					want = "DEVICE_NOT_FOUND"
				case m.revoked[id] != 0:
					want = "DEVICE_REVOKED"
				}
				raw, _ := json.Marshal(map[string]any{"deviceId": id})
				if a := n.with(o.agent, "POST", "devices/validate", string(raw)); a.field("code") != want {
					rt.Fatalf("validate %s: %s, want %s", raw, a.raw, want)
				}
			},
			"list": func(rt *rapid.T) {
				limit := rapid.IntRange(0, 3).Draw(rt, "limit")
				if diff := cmp.Diff(m.list(), append([]string{}, n.walk(o, limit, nil)...)); diff != "" {
					rt.Fatalf("list (-want +got):\n%s", diff)
				}
			},
			"": func(*rapid.T) {
				used, left := strconv.Itoa(m.used()), strconv.Itoa(modelLimit-m.used())
				n.with(o.admin, "GET", "usage", "").want(200, `"devicesUsed":`+used+`,"remaining":`+left+`,"overLimit":false`)
			},
		})
	})
}
