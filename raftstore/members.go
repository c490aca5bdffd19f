package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrRefused is what a change of the membership fails with that would do harm, or that came too early. Nothing was changed; the
// message says what is in the way.
var ErrRefused = errors.New("refused")

// ErrNotMember is an ErrRefused: the node that a change of the membership is about is no member. The message names those that are.
var ErrNotMember = fmt.Errorf("%w: it is not a member", ErrRefused)

// Member is one node of the cluster, as this node sees it.
type Member struct {
	Life
	Address string
	Voter   bool // else it only receives
	Leader  bool // this node believes so
	// Status is what it answered just now, zero if Err is set. Its LastIndex is how far it has the log.
	Status NodeStatus
	Err    error
	// Contact is when it last answered this node, zero if it never did.
	Contact time.Time
}

// Members returns the latest configuration, and asks each member how it is, all at once, for at most a heartbeat time-out. Any
// node answers; the leader's answer is the newest.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	conf := s.raft.GetConfiguration()
	if err := conf.Error(); err != nil {
		return nil, fmt.Errorf("read the members: %w", err)
	}
	_, leader := s.raft.LeaderWithID()
	servers := conf.Configuration().Servers
	members := make([]Member, len(servers))
	var asked sync.WaitGroup
	for i, server := range servers {
		m := &members[i]
		*m = Member{
			Life: lifeOf(server.ID), Address: string(server.Address), Voter: server.Suffrage == raft.Voter, Leader: server.ID == leader,
		}
		asked.Go(func() {
			m.Status, m.Err = s.statusOf(ctx, server)
			m.Contact = s.asking.contact(targetOf(server))
		})
	}
	asked.Wait()
	return members, nil
}

// Configured returns the newest committed configuration that this node has applied, by which entry of the log it came to be, and its members in the order of
// their names. It asks nobody: of a Member it tells the life, the address and the vote.
func (s *Store) Configured() (index uint64, members []Member, err error) {
	now := s.fsm.configuration()
	conf, err := now.decode()
	if err != nil {
		return 0, nil, err
	}
	for _, server := range conf.Servers {
		members = append(members, Member{Life: lifeOf(server.ID), Address: string(server.Address), Voter: server.Suffrage == raft.Voter})
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return now.index, members, nil
}

// statusOf asks one member, and checks that it is the one that answers. A status that comes with an error is of no use.
func (s *Store) statusOf(ctx context.Context, server raft.Server) (NodeStatus, error) {
	if server.ID == s.life().server() {
		return s.Status(), nil
	}
	status, err := s.asking.ask(ctx, targetOf(server))
	if err == nil {
		err = status.isOf(lifeOf(server.ID), s.clusterName())
	}
	if err != nil {
		return NodeStatus{}, fmt.Errorf("ask %s at %s: %w", lifeOf(server.ID), server.Address, err)
	}
	return status, nil
}

// membership is the newest committed configuration. A change is based on it and fails if another came before (R13).
type membership struct {
	index   uint64
	servers []raft.Server
}

// find returns the member with a name: there is one at most, since a name is taken in again only when its life before is out.
func (m membership) find(id string) (raft.Server, bool) {
	for _, server := range m.servers {
		if lifeOf(server.ID).ID == id {
			return server, true
		}
	}
	return raft.Server{}, false
}

// missing is ErrNotMember with the members' names.
func (m membership) missing() error {
	names := make([]string, len(m.servers))
	for i, server := range m.servers {
		names[i] = lifeOf(server.ID).ID
	}
	slices.Sort(names)
	return fmt.Errorf("%w; the members are %s", ErrNotMember, strings.Join(names, ", "))
}

func (m membership) voters() []raft.Server { return votersOf(raft.Configuration{Servers: m.servers}) }

// step is one change, based on the configuration of index prev. nil: there is nothing to do.
type step func(prev uint64, timeout time.Duration) raft.IndexFuture

// change plans one step from the configuration as it is, and takes it. Only the leader can.
func (s *Store) change(ctx context.Context, plan func(m membership, term uint64) (step, error)) error {
	term, ok := s.Leading()
	if !ok {
		return ErrNotLeader
	}
	now := s.fsm.configuration()
	conf, err := now.decode()
	if err != nil {
		return err
	}
	take, err := plan(membership{index: now.index, servers: conf.Servers}, term)
	if err != nil || take == nil {
		return err
	}
	timeout := s.cfg.RPCTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Millisecond) // 0 would be for ever
	}
	return s.await(ctx, func() raft.Future { return take(now.index, timeout) })
}

// await answers with what becomes of a future. raft forgets some at shutdown: what waits for them stays behind.
func (s *Store) await(ctx context.Context, begin func() raft.Future) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: nothing was begun: %w", ErrRefused, context.Cause(ctx))
	}
	done := make(chan error, 1)
	go func() { done <- classifyChange(begin().Error()) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return outcomeUnknown(context.Cause(ctx))
	case <-s.gone:
		return outcomeUnknown(ErrClosed)
	case <-s.fault.tripped():
		return outcomeUnknown(fmt.Errorf("%w: %w", ErrClosed, s.fault.err()))
	}
}

// classifyChange gives the outcome of a change of membership, or of a hand-over, its class. What is not known to come from before
// anything was begun is unknown.
func classifyChange(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		strings.HasPrefix(err.Error(), "configuration changed since"): // raft has no sentinel for it
		return fmt.Errorf("%w: another change is under way, or came first: %w", ErrRefused, err)
	default:
		return outcomeUnknown(err)
	}
}

// Promote gives a member its vote once it has caught up, for which it waits until ctx ends. It is refused if the voters that
// answer would then be no quorum. An even number of voters tolerates no more failures than one voter less: callers should
// promote in pairs. For the outcomes see AddNonvoter.
func (s *Store) Promote(ctx context.Context, id string) error {
	if err := s.promote(ctx, id); err != nil {
		return fmt.Errorf("promote %s: %w", id, err)
	}
	return nil
}

func (s *Store) promote(ctx context.Context, id string) error {
	server, ok := s.memberNow(id)
	if ok && server.Suffrage != raft.Voter {
		if err := s.caughtUp(ctx, server); err != nil {
			return err
		}
	}
	return s.change(ctx, func(m membership, term uint64) (step, error) {
		now, ok := m.find(id)
		switch {
		case !ok:
			return nil, m.missing()
		case now.Suffrage == raft.Voter:
			return nil, nil
		case now != server:
			return nil, fmt.Errorf("%w: another change came first", ErrRefused)
		}
		if err := s.working(ctx, append(m.voters(), now), term); err != nil {
			return nil, err
		}
		return func(prev uint64, timeout time.Duration) raft.IndexFuture {
			future := s.raft.AddVoter(now.ID, now.Address, prev, timeout)
			// raft sends the entry before it counts the new voter, and forgets what that one acknowledged meanwhile: if its
			// voice is needed nothing is committed any more, until there is another entry (raft v1.8.0, appendConfigurationEntry).
			s.raft.Apply(emptyPack, barrierRetry)
			return future
		}, nil
	})
}

// Votes reports whether this node has a vote in the newest membership that was applied here.
func (s *Store) Votes() bool {
	member, ok := s.memberNow(s.cfg.ID)
	return ok && member.ID == s.life().server() && member.Suffrage == raft.Voter
}

func (s *Store) memberNow(id string) (raft.Server, bool) {
	conf, err := s.fsm.configuration().decode()
	if err != nil {
		return raft.Server{}, false
	}
	return membership{servers: conf.Servers}.find(id)
}

// Demote takes a member's vote; it goes on receiving. One that has none is done already. It is refused for the leader (hand over first) and if the voters that
// would be left are no working quorum. For the outcomes see AddNonvoter.
func (s *Store) Demote(ctx context.Context, id string) error {
	err := s.leave(ctx, id, func(m raft.Server) bool { return m.Suffrage != raft.Voter }, s.demoteVoter)
	if err != nil {
		return fmt.Errorf("demote %s: %w", id, err)
	}
	return nil
}

func (s *Store) demoteVoter(id raft.ServerID, prev uint64, timeout time.Duration) raft.IndexFuture {
	return s.raft.DemoteVoter(id, prev, timeout)
}

// Remove takes a member out of the cluster, dead or alive. It is refused for what is no member (ErrNotMember), for the leader
// (hand over first) and if the voters that would be left are no working quorum. A removed node is not told: it hears of no leader
// any more, cannot be elected, and its Health says so; stop it. For the outcomes see AddNonvoter.
func (s *Store) Remove(ctx context.Context, id string) error {
	err := s.leave(ctx, id, func(raft.Server) bool { return false }, s.removeServer)
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}

// removeLife is Remove of one life of a member: another one that has its name by now stays.
func (s *Store) removeLife(ctx context.Context, id raft.ServerID) error {
	s.admitting.Lock()
	defer s.admitting.Unlock()
	return s.leave(ctx, lifeOf(id).ID, func(now raft.Server) bool { return now.ID != id }, s.removeServer)
}

func (s *Store) removeServer(id raft.ServerID, prev uint64, timeout time.Duration) raft.IndexFuture {
	return s.raft.RemoveServer(id, prev, timeout)
}

func (s *Store) leave(
	ctx context.Context, id string, already func(raft.Server) bool,
	take func(id raft.ServerID, prev uint64, timeout time.Duration) raft.IndexFuture,
) error {
	return s.change(ctx, func(m membership, term uint64) (step, error) {
		server, ok := m.find(id)
		if !ok {
			return nil, m.missing()
		}
		if already(server) {
			return nil, nil
		}
		if id == s.cfg.ID {
			return nil, fmt.Errorf("%w: it leads: 'machineid cluster transfer' hands over to another, then do it again", ErrRefused)
		}
		if server.Suffrage == raft.Voter {
			left := slices.DeleteFunc(m.voters(), func(v raft.Server) bool { return v.ID == server.ID })
			if err := s.working(ctx, left, term); err != nil {
				return nil, err
			}
		}
		return func(prev uint64, timeout time.Duration) raft.IndexFuture { return take(server.ID, prev, timeout) }, nil
	})
}

// TransferLeadership hands over to the voter id, or to the one that is furthest if id is empty. While it is under way this node
// refuses commands. The target must answer: raft refuses commands until a dead one's time-out is over. nil means that this node
// no longer leads; who does, Leader tells in a moment. For the other outcomes see AddNonvoter.
func (s *Store) TransferLeadership(ctx context.Context, id string) error {
	to, err := s.Successor(ctx, id)
	if err != nil {
		return fmt.Errorf("hand over the leadership: %w", err)
	}
	return s.HandTo(ctx, to)
}

// HandTo is TransferLeadership to a member that Successor returned a moment ago.
func (s *Store) HandTo(ctx context.Context, to Member) error {
	if to.ID == s.cfg.ID {
		return nil
	}
	if err := s.level(ctx, to); err != nil {
		return fmt.Errorf("hand over the leadership: %w", err)
	}
	err := s.await(ctx, func() raft.Future {
		return s.raft.LeadershipTransferToServer(to.server(), raft.ServerAddress(to.Address))
	})
	if err != nil {
		return fmt.Errorf("hand over the leadership: %w", err)
	}
	return nil
}

// level waits until a member has all that this node's log has now, for a heartbeat time-out at most. Where entries do not get through raft gives up after
// as long, and at the next try never: it waits for a replication that ended, and refuses every command from then on (v1.8.0, leadershipTransfer).
func (s *Store) level(ctx context.Context, m Member) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HeartbeatTimeout)
	defer cancel()
	last := s.raft.LastIndex()
	for {
		status, err := s.statusOf(ctx, raft.Server{ID: m.server(), Address: raft.ServerAddress(m.Address)})
		if err == nil && status.LastIndex >= last {
			return nil
		}
		select {
		case <-time.After(catchUpPoll):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w: %s has not caught up (%d of %d)", ErrRefused, m.ID, status.LastIndex, last), err)
		}
	}
}

// Successor is the member that TransferLeadership would hand over to now: the voter id, or if id is empty one whose disk has room, and of those the one that
// is furthest. It is this node itself if that is asked for. A successor must be fit to lead. One whose disk is nearly full is fit for a leader that is not:
// it can at least take essential commands. The errors are ErrNotLeader, and ErrRefused if there is none.
func (s *Store) Successor(ctx context.Context, id string) (Member, error) {
	term, ok := s.Leading()
	if !ok {
		return Member{}, ErrNotLeader
	}
	members, err := s.Members(ctx)
	if err != nil {
		return Member{}, err
	}
	own := slices.IndexFunc(members, func(m Member) bool { return m.ID == s.cfg.ID })
	if id == s.cfg.ID && own >= 0 {
		return members[own], nil
	}
	full := own >= 0 && (members[own].Status.DiskFull || members[own].Status.Unfit != "") // may lead
	members = slices.DeleteFunc(members, func(m Member) bool {
		return !m.Voter || m.ID == s.cfg.ID || (id != "" && m.ID != id) || m.Err != nil || m.Status.Term != term
	})
	if len(members) == 0 && id != "" {
		return Member{}, fmt.Errorf("%w: %s is not another voter that answers", ErrRefused, id)
	}
	if len(members) == 0 {
		return Member{}, fmt.Errorf("%w: no other voter answers", ErrRefused)
	}
	var against []error
	members = slices.DeleteFunc(members, func(m Member) bool {
		why := m.Status.Unfit
		if why == "" && m.Status.DiskFull && !full {
			why = "its disk is nearly full"
		}
		if why != "" {
			against = append(against, fmt.Errorf("%s should not lead: %s", m.ID, why))
		}
		return why != ""
	})
	if len(members) == 0 {
		return Member{}, fmt.Errorf("%w: %w", ErrRefused, errors.Join(against...))
	}
	if slices.ContainsFunc(members, func(m Member) bool { return !m.Status.DiskFull }) {
		members = slices.DeleteFunc(members, func(m Member) bool { return m.Status.DiskFull })
	}
	return slices.MaxFunc(members, func(a, b Member) int { return cmp.Compare(a.Status.LastIndex, b.Status.LastIndex) }), nil
}
