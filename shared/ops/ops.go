// Package ops serves what operators read of a process of either tier: /healthz,
// /readyz, /metrics and profiles, on a listener of its own that agents never see.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"machineid/shared/wire"
)

// NewRegistry returns a registry with the metrics of every process.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// stopTime bounds how long a request under way may take at the end.
const stopTime = time.Second

// Bounds of one connection (I14). A profile may be asked for two minutes of the program's life.
const (
	readTime  = 5 * time.Second
	idleTime  = 75 * time.Second
	writeTime = 3 * time.Minute
	maxHead   = 16 << 10
)

// Serve serves on l, which it owns, until ctx ends. ready says why the process
// is not ready, nothing if it is: /readyz then answers 503 with the reasons.
// notes are what an operator should know beside that; they do not make it unready.
func Serve(ctx context.Context, l net.Listener, reg prometheus.Gatherer, ready, notes func() []string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		status, body := http.StatusOK, map[string]any{"status": "ready"}
		if why := ready(); len(why) > 0 {
			status, body = http.StatusServiceUnavailable, map[string]any{"status": "not_ready", "reasons": why}
		}
		if list := notes(); len(list) > 0 {
			body["notes"] = list
		}
		answer(w, status, body)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)

	s := &http.Server{
		Handler: named(mux), ReadTimeout: readTime, IdleTimeout: idleTime, WriteTimeout: writeTime, MaxHeaderBytes: maxHead,
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve operators on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := s.Shutdown(stop); err != nil {
		_ = s.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operators on %s: %w", l.Addr(), err)
	}
	return nil
}

// named gives each answer an X-Request-Id, the request's own if it is a good one, as those of the API have it: who asks through something that keeps
// answers can tell an old one by it.
func named(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var own []byte
		if ids := r.Header.Values("X-Request-Id"); len(ids) == 1 {
			own = []byte(ids[0])
		}
		w.Header().Set("X-Request-Id", string(wire.RequestID(nil, own)))
		h.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the reader may be gone
}
