package link

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// codec is gRPC's own for protobuf, which decodes no frame that is beyond a bound.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protocodec.Name)} }

// Unmarshal decodes a frame. Fields that this program does not know are passed over.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%w: %T is no frame", ErrFrame, v)
	}
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	if err := check(m.ProtoReflect().Descriptor().FullName(), b.ReadOnlyData()); err != nil {
		return err
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b.ReadOnlyData(), m); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return nil
}

// Bounds of what a connection may take before it has said anything, or behind what it has said.
const (
	// streamsMax is how many streams a connection may have. An edge has one; one that it has given up may still be there.
	streamsMax = 4
	// windowBytes is how much of a connection waits here to be read. If it is not set, gRPC lets it grow, up to 16 MiB.
	windowBytes = 256 << 10
	headerBytes = 16 << 10
	// beginTime is how long a connection may take until it speaks HTTP/2.
	beginTime = 5 * time.Second
	// A connection on which nothing comes is asked after aliveEvery, and ends if it does not answer within aliveTime.
	aliveEvery, aliveTime = 10 * time.Second, 5 * time.Second
)

// ServerOptions are those of the authority's end of the link.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(MaxToAuthority),
		grpc.MaxConcurrentStreams(streamsMax),
		grpc.InitialWindowSize(windowBytes),
		grpc.InitialConnWindowSize(windowBytes),
		grpc.MaxHeaderListSize(headerBytes),
		grpc.ConnectionTimeout(beginTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: aliveEvery, Timeout: aliveTime}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}

// DialOptions are those of an edge's end.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec()), grpc.MaxCallRecvMsgSize(MaxToEdge)),
		grpc.WithMaxHeaderListSize(headerBytes),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveEvery, Timeout: aliveTime}),
	}
}
