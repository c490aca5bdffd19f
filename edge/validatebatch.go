package edge

import (
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
	"machineid/shared/wire"
)

// validateBatch answers for several devices: from memory what it holds, and the rest after asking the authority for all of it at once. Each
// decision keeps the rules of one by itself (recall, ask); they share what is fetched for their key and their org, and time runs
// for all of them together.
func (e *Edge) validateBatch(ctx *fasthttp.RequestCtx, r *wire.Request) {
	if r.Operated() {
		e.proxy.pass(ctx, r)
		return
	}
	sum, list, fault := wire.ParseValidateBatch(ctx)
	if fault != nil {
		r.Error(ctx, fault)
		return
	}
	missed := map[string][]int{} // what must be asked, once for each id
	for i := range list {
		q := &list[i]
		if q.ID == nil {
			continue
		}
		if q.Code = e.recall(&question{sum: sum, device: q.ID}, r.Whole); q.Code == 0 {
			missed[string(q.ID)] = append(missed[string(q.ID)], i)
		} else {
			e.metrics.answered(q.Code, true)
		}
	}
	from := e.clientAddress(ctx)
	var all sync.WaitGroup
	for id, places := range missed {
		all.Go(func() {
			// A panic of a goroutine would end the process: here it is no permission.
			code := decision.SystemUnavailable
			defer func() {
				if p := recover(); p != nil {
					e.log.Error("panic in a decision", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				}
				for _, i := range places {
					list[i].Code = code
					e.metrics.answered(code, false)
				}
			}()
			code = e.ask(&question{sum: sum, device: []byte(id), from: from})
		})
	}
	all.Wait()
	wire.WriteDecisions(ctx, r, list)
	ctx.Response.Header.SetCanonical(headerXCache, pick(len(missed) == 0, cacheHit, cacheMiss))
}
