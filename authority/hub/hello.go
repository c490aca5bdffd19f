package hub

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"machineid/shared/link"
)

// incoming is what an edge says. That a stream has ended is known before why: gRPC ends it, and its context, with the frame that it cannot read.
type incoming struct {
	frames chan *link.ToAuthority
	failed chan error // capacity 1; one comes behind the last frame
	over   context.Context
}

// listen reads a stream until it ends, or ctx does.
func listen(ctx context.Context, stream link.Link_SessionServer) incoming {
	in := incoming{frames: make(chan *link.ToAuthority), failed: make(chan error, 1), over: stream.Context()}
	go func() {
		for {
			f, err := stream.Recv()
			if err != nil {
				in.failed <- err
				return
			}
			select {
			case in.frames <- f:
			case <-ctx.Done():
				in.failed <- ctx.Err()
				return
			}
		}
	}()
	return in
}

// helloTime is how long a stream may take to bring its Hello.
const helloTime = 10 * time.Second

// begins waits for the Hello of a stream. Its errors are gRPC's.
func (h *Hub) begins(ctx context.Context, in incoming, address string) (*link.Hello, error) {
	late := time.NewTimer(helloTime)
	defer late.Stop()
	var first *link.ToAuthority
	select {
	case first = <-in.frames:
	case err := <-in.failed:
		if h.unread(err) {
			h.conns.cutSoon(address)
			h.voice.say(ctx, slog.LevelWarn, hostOf(address), "", "a session did not begin: its first frame was refused", slog.Any("error", err))
		}
		return nil, err
	case <-late.C:
		h.metrics.refused[refusedLate].Inc()
		h.conns.cutSoon(address)
		return nil, status.Errorf(codes.DeadlineExceeded, "no Hello has come in %v", helloTime)
	}
	hello := first.GetHello()
	switch {
	case hello == nil || len(hello.GetProcessId()) != 16 || hello.GetEdgeId() == "":
		return nil, status.Error(codes.InvalidArgument, "a session begins with a Hello that carries an edge id and a process id of 16 bytes")
	case hello.GetDecisionVersion() < 1:
		return nil, status.Error(codes.FailedPrecondition, "the edge knows no decision version: upgrade it")
	}
	return hello, nil
}

// unread counts a frame that was not read because it is beyond a bound, or is none (link.ErrFrame, which gRPC passes on as text).
func (h *Hub) unread(err error) bool {
	switch status.Code(err) { //nolint:exhaustive // gRPC uses others for what happens to a stream
	case codes.Internal, codes.ResourceExhausted:
		h.metrics.refused[refusedFrame].Inc()
		return true
	}
	return false
}
