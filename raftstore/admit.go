package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// ErrOtherStore is what AddNonvoter refuses a node with whose name is that of a member with another store: the disk of that member was lost
// or replaced. Replace exchanges the one for the other.
var ErrOtherStore = errors.New("it is a member with another store")

// AddNonvoter adds the node id, which answers at addr, to those that receive the log; it has no vote until Promote. The node
// must be running: opened without Bootstrap on an empty folder, it waits for this. Adding a member again does nothing. An
// address belongs to one member: to replace a node at its address, Remove the old id first. A node whose folder was lost is another member
// of the same name (Life): it is refused with ErrOtherStore until the one that it was is removed.
//
// Changes of the membership have four outcomes: done (nil); refused (ErrRefused); not done, because this node does not lead
// (ErrNotLeader); and unknown (Unknown reports it): look at Members, and repeat. One is under way at a time.
func (s *Store) AddNonvoter(ctx context.Context, id, addr string) error {
	s.admitting.Lock()
	defer s.admitting.Unlock()
	if err := s.admit(ctx, id, addr); err != nil {
		return fmt.Errorf("add %s: %w", id, err)
	}
	return nil
}

// admit is AddNonvoter, under the lock admitting.
func (s *Store) admit(ctx context.Context, id, addr string) error {
	return s.change(ctx, func(m membership, _ uint64) (step, error) {
		status, err := s.waiting(ctx, id, addr)
		if err != nil {
			return nil, err
		}
		member := status.Life().server()
		for _, server := range m.servers {
			switch now := lifeOf(server.ID); {
			case server.ID == member && server.Address == raft.ServerAddress(addr):
				return nil, nil
			case server.ID == member:
				return nil, fmt.Errorf("%w: it is a member at %s: 'machineid cluster readdress %s %s'", ErrRefused, server.Address, id, addr)
			case now.ID == id:
				return nil, s.otherStore(ctx, server, status)
			case server.Address == raft.ServerAddress(addr):
				return nil, fmt.Errorf("%w: %s is the address of %s; remove that one first", ErrRefused, addr, now.ID)
			}
		}
		if err := s.decided(ctx, status); err != nil {
			return nil, err
		}
		if now := s.Format(); status.newestFormat() < now {
			return nil, fmt.Errorf("%w: its program (version %s) knows formats up to %d, the cluster is at %d: install a newer one there",
				ErrRefused, status.Version, status.newestFormat(), now)
		}
		return func(prev uint64, timeout time.Duration) raft.IndexFuture {
			return s.raft.AddNonvoter(member, raft.ServerAddress(addr), prev, timeout)
		}, nil
	})
}

// decided waits until no raise of the format is open that the program of a joiner would not know. A raise whose caller was told "unknown"
// may still be committed; an entry behind it that was applied proves that it was, or never will be.
func (s *Store) decided(ctx context.Context, joiner NodeStatus) error {
	if joiner.newestFormat() >= s.cfg.newestFormat() {
		return nil // nobody proposes what this program does not know
	}
	err := s.await(ctx, func() raft.Future { return s.raft.Apply(emptyPack, s.cfg.RPCTimeout) })
	if err == nil || errors.Is(err, ErrNotLeader) {
		return err
	}
	return fmt.Errorf("%w: its program (version %s) knows formats up to %d, and it is not known yet whether a newer one was raised: nothing was begun, try again: %s",
		ErrRefused, joiner.Version, joiner.newestFormat(), err.Error()) // not wrapped: the outcome of this change is known
}

// otherStore tells what is to be done about a node whose name is that of a member with another store.
func (s *Store) otherStore(ctx context.Context, member raft.Server, waits NodeStatus) error {
	now := lifeOf(member.ID)
	if _, err := s.statusOf(ctx, member); err == nil {
		return fmt.Errorf("%w: %w, which answers at %s (%s; it has %s here): two nodes have one name; give one of them another, or stop the one that is too much",
			ErrRefused, ErrOtherStore, member.Address, short(now.Store), short(waits.Store))
	}
	return fmt.Errorf("%w: %w (%s; it has %s now), so its disk was lost or its folder replaced: if it is lost for good, 'machineid cluster remove %s', or start the node "+
		"with --replace-lost; if not, give the node its own folder back", ErrRefused, ErrOtherStore, short(now.Store), short(waits.Store), now.ID)
}

// waiting asks the node id, which is to be taken in, who it is.
func (s *Store) waiting(ctx context.Context, id, addr string) (NodeStatus, error) {
	status, err := s.asking.ask(ctx, target{life: Life{ID: id}, addr: addr})
	switch {
	case err != nil:
		if who := s.mux.whoIsAt(ctx, addr); who != "" {
			return status, fmt.Errorf("%w: %s %s, and is not the --raft of %s: name that one", ErrRefused, addr, who, id)
		}
		return status, fmt.Errorf("%w: it must be running: ask it at %s: %w", ErrRefused, addr, err)
	case status.ID != id || CheckID(id) != nil || status.Store == "":
		return status, fmt.Errorf("%w: at %s is node %q", ErrRefused, addr, status.ID)
	case status.Cluster != "" && status.Cluster != s.clusterName():
		return status, fmt.Errorf("%w: it is of cluster %q, this one is %q; wipe its data folder", ErrRefused, status.Cluster, s.clusterName())
	}
	return status, nil
}

// Replace takes the node id, which answers at addr with another store than the member of that name has, in the place of that member: the
// disk of the one before is lost. It is refused if the member still answers, and if the others are no working quorum without it. The new one
// has no vote until Promote. It is two changes: if only the first was made, AddNonvoter or Replace makes the other. Where there is nothing
// to exchange it is AddNonvoter. For the outcomes see there.
func (s *Store) Replace(ctx context.Context, id, addr string) error {
	s.admitting.Lock()
	defer s.admitting.Unlock()
	err := s.takeOutLost(ctx, id, addr)
	if err == nil {
		err = s.admit(ctx, id, addr)
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", id, err)
	}
	return nil
}

// takeOutLost removes the member id if a node of its name and with another store waits at addr. It does nothing if there is no such member.
func (s *Store) takeOutLost(ctx context.Context, id, addr string) error {
	member, ok := s.memberNow(id)
	if !ok {
		return nil
	}
	status, err := s.waiting(ctx, id, addr)
	if err != nil || status.Life() == lifeOf(member.ID) {
		return err
	}
	if err := s.isLost(ctx, member); err != nil {
		return err
	}
	err = s.leave(ctx, id, func(now raft.Server) bool { return now.ID != member.ID }, s.removeServer)
	if err == nil {
		s.cfg.Logger.Warn("a member whose disk was lost is removed; the node of its name is taken in as another", slog.String("member", lifeOf(member.ID).String()))
	}
	return err
}

// lostLooks is how often in a row, a second apart, a member must not answer to count as lost: one that is paused for a moment is not.
const lostLooks = 4

// isLost refuses a member that may only be slow. Another life at its address is proof enough.
func (s *Store) isLost(ctx context.Context, member raft.Server) error {
	for look := 1; ; look++ {
		_, err := s.statusOf(ctx, member)
		var r *refusal
		switch {
		case err == nil:
			return fmt.Errorf("%w: %s answers at %s: its disk is not lost; stop the other node, or give it another name", ErrRefused, lifeOf(member.ID), member.Address)
		case errors.As(err, &r) && r.reason == OtherLife, look == lostLooks:
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%w: whether %s is lost is not known yet: %w", ErrRefused, lifeOf(member.ID), context.Cause(ctx))
		}
	}
}

// Readdress makes addr the address of the member id. The node must answer there already, with the store that it has always had. Raft cannot
// change the address of a member that is sent to (v1.8.0 has a data race there), so a member other than the leader is removed and taken in
// again, in the same life, and gets its vote back when it has caught up: others must be a working quorum meanwhile. If it ends in between,
// AddNonvoter and Promote do the rest. The leader readdresses itself in one step. For the outcomes see AddNonvoter.
func (s *Store) Readdress(ctx context.Context, id, addr string) error {
	if err := s.readdress(ctx, id, addr); err != nil {
		return fmt.Errorf("readdress %s: %w", id, err)
	}
	return nil
}

func (s *Store) readdress(ctx context.Context, id, addr string) error {
	s.admitting.Lock()
	defer s.admitting.Unlock()
	conf, err := s.fsm.configuration().decode()
	if err != nil {
		return err
	}
	m := membership{servers: conf.Servers}
	member, ok := m.find(id)
	if !ok {
		return fmt.Errorf("%w: 'machineid cluster add %s %s' takes it in", m.missing(), id, addr)
	}
	if string(member.Address) == addr {
		if id == s.cfg.ID {
			return nil
		}
		status, err := s.waiting(ctx, id, addr)
		if err == nil && status.Life() != lifeOf(member.ID) {
			err = fmt.Errorf("%w: there is %s, and the member is %s", ErrRefused, status.Life(), lifeOf(member.ID))
		}
		return err
	}
	for _, server := range m.servers {
		if string(server.Address) == addr {
			return fmt.Errorf("%w: %s is the address of %s", ErrRefused, addr, lifeOf(server.ID).ID)
		}
	}
	if id == s.cfg.ID {
		if own := string(s.advertised()); own != addr {
			return fmt.Errorf("%w: this node is reached at %s, as it was started", ErrRefused, own)
		}
		return s.change(ctx, func(membership, uint64) (step, error) {
			return func(prev uint64, timeout time.Duration) raft.IndexFuture {
				return s.raft.AddVoter(member.ID, raft.ServerAddress(addr), prev, timeout)
			}, nil
		})
	}
	switch status, err := s.waiting(ctx, id, addr); {
	case err != nil:
		return err
	case status.Life() != lifeOf(member.ID):
		return fmt.Errorf("%w: there is %s, and the member is %s", ErrRefused, status.Life(), lifeOf(member.ID))
	}
	if err := s.leave(ctx, id, func(now raft.Server) bool { return now != member }, s.removeServer); err != nil {
		return err
	}
	if err := s.admit(ctx, id, addr); err != nil {
		return fmt.Errorf("it is removed, and not taken in again yet ('machineid cluster add %s %s'): %w", id, addr, err)
	}
	if member.Suffrage != raft.Voter {
		return nil
	}
	if err := s.promote(ctx, id); err != nil {
		return fmt.Errorf("it is taken in again, and has no vote yet ('machineid cluster promote %s'): %w", id, err)
	}
	return nil
}

// turnstile is a lock that is held while others are asked: a channel, so that virtual time passes for who waits for it.
type turnstile chan struct{}

func newTurnstile() turnstile { return make(turnstile, 1) }

// Lock waits until nobody else holds it.
func (t turnstile) Lock() { t <- struct{}{} }

// Unlock lets the next one in.
func (t turnstile) Unlock() { <-t }
