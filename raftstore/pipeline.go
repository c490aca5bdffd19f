package raftstore

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transport is raft's own, with a pipeline that cannot wedge, and connections that are for one life of a member (R14): what raft calls a
// member goes with the address to where it is dialled.
type transport struct {
	*raft.NetworkTransport

	handOver time.Duration // how long a member may take to hear that it is to lead
}

func (t transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	return t.NetworkTransport.AppendEntries(id, dialled(id, to), q, a)
}

func (t transport) RequestVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, dialled(id, to), q, a)
}

func (t transport) RequestPreVote(
	id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse,
) error {
	return t.NetworkTransport.RequestPreVote(id, dialled(id, to), q, a)
}

func (t transport) InstallSnapshot(
	id raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader,
) error {
	return t.NetworkTransport.InstallSnapshot(id, dialled(id, to), q, a, data)
}

// TimeoutNow tells a member that it is to lead. Raft takes no command until it returns, so a member that hangs must not hold it up for as long as
// any message may take. Nothing but the header is in the answer, and nobody reads it.
func (t transport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, _ *raft.TimeoutNowResponse) error {
	told := make(chan error, 1)
	go func() { told <- t.NetworkTransport.TimeoutNow(id, dialled(id, to), q, new(raft.TimeoutNowResponse)) }()
	timer := time.NewTimer(t.handOver)
	defer timer.Stop()
	select {
	case err := <-told:
		return err
	case <-timer.C:
		return fmt.Errorf("%s has not heard in %s that it is to lead", id, t.handOver)
	}
}

// AppendEntriesPipeline opens a pipeline to a follower.
func (t transport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, dialled(id, to))
	if err != nil {
		return nil, fmt.Errorf("pipeline entries to %s: %w", id, err)
	}
	out := &pipeline{AppendPipeline: p, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go out.relay()
	return out, nil
}

// pipeline closes itself behind an answer that grants nothing. Raft reads no answer after it, but may be about to send: its send then
// waits for an answer that nobody reads, under a pipeline that is closed only after the send, and so for as long as the node runs.
// The follower gets heartbeats and no entries, and Shutdown does not return (raft v1.8.0, its issue 612).
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	once    sync.Once
	closed  chan struct{} // raft has closed it: nobody reads answers
}

func (p *pipeline) relay() {
	for {
		var f raft.AppendFuture
		select {
		case f = <-p.AppendPipeline.Consumer():
		case <-p.closed:
			return
		}
		// It has its outcome by now.
		last := f.Error() != nil || !f.Response().Success || f.Response().Term > f.Request().Term
		if last {
			_ = p.AppendPipeline.Close() // never fails
		}
		select {
		case p.answers <- f:
		case <-p.closed:
			return
		}
		if last {
			return
		}
	}
}

// Consumer is where the answers are read.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close ends what is under way. It may be called again.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.AppendPipeline.Close()
}
