package api_test

import (
	"encoding/json"
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
