package raftstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/errors/oserror"
	"github.com/hashicorp/raft"
)

// Open opens a node, brings machine to the state on disk, and starts Raft. It does not wait for a leader: a cluster of one
// leads within milliseconds, and Config.Lead, Leading and Health tell. What a run before left half done is completed or removed
// here.
func Open(cfg Config, machine Machine) (_ *Store, err error) {
	cfg = cfg.withDefaults()
	s := &Store{cfg: cfg, gone: make(chan struct{}), admitting: newTurnstile(), backups: make(chan struct{}, backupsAtOnce)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open raftstore in %s: %w", cfg.Dir, err), s.giveBack())
		}
	}()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s.fault = newFault(cfg.Fatal, cfg.Logger)
	s.metrics = newStoreMetrics(cfg.Registerer)
	s.lead = newLeadership(s)
	s.confirmer.do, s.confirmer.knobs = s.confirmRound, cfg.knobs
	pointer, err := s.openFolder()
	if err != nil {
		return nil, err
	}
	if err := checkWAL(s.fs, s.layout.path(nameLog)); err != nil {
		return nil, err
	}
	if err := s.openStorage(pointer, machine); err != nil {
		return nil, err
	}
	if err := s.startRaft(); err != nil {
		return nil, err
	}
	return s, nil
}

// openFolder takes the data folder for this process and settles which state counts.
func (s *Store) openFolder() (pointer, error) {
	s.space = newSpace(&s.cfg, &s.aside)
	s.watchFS()
	s.layout = layout{fs: s.fs, root: s.cfg.Dir}
	if err := newSite(s.fs, s.cfg.Dir).refuseCut(s.cfg.Logger); err != nil {
		return pointer{}, err
	}
	if err := s.layout.create(); err != nil {
		return pointer{}, err
	}
	lock, err := s.fs.Lock(s.layout.path(nameLock))
	if err != nil {
		return pointer{}, fmt.Errorf("lock the data folder (is another process using it?): %w", err)
	}
	s.lock = lock
	if err := s.movedAside(); err != nil {
		return pointer{}, err
	}
	s.space.begin()
	if s.ident, err = s.layout.readIdent(s.cfg.ID); err != nil {
		return pointer{}, err
	}
	if s.ident.Damaged != "" {
		return pointer{}, fmt.Errorf("a recovery began to read past what is damaged here, and what it cut off is lost: %s; run 'machineid recover' again", s.ident.Damaged)
	}
	s.storeID = s.ident.Store
	s.findBackup()
	return s.layout.readPointer()
}

// movedAside refuses a folder that was made in the place of one which a recovery is moving aside, between the look for that and the lock.
func (s *Store) movedAside() error {
	if _, err := s.fs.Stat(s.layout.path(nameIdent)); err == nil {
		return nil
	}
	o, found, err := newSite(s.fs, s.cfg.Dir).leftover()
	if err == nil && found && o.Operation != "" {
		err = fmt.Errorf("a %s for node %s is putting a folder here, or was cut: start the node when it is done", o.Operation, o.Node)
	}
	return err
}

// openStorage opens both databases, checks that they belong together (R1, R2, R8), and completes an install that a crash cut.
func (s *Store) openStorage(p pointer, machine Machine) error {
	s.caches = newCaches(&s.cfg)
	dbs := &databases{fs: s.fs, caches: s.caches, fault: s.fault, cfg: &s.cfg, metrics: s.metrics, aside: &s.aside, lowSpace: s.space.lookNow}
	var err error
	if _, serr := s.fs.Stat(s.layout.path(nameLog)); oserror.IsNotExist(serr) {
		if err := s.layout.refuseOrphans(nameLog, stateName(p.Generation)); err != nil {
			return err
		}
	}
	if s.logDB, err = dbs.openLog(s.layout.path(nameLog)); err != nil {
		return err
	}
	if s.log, err = openLogStore(s.logDB, s.fault, s.cfg.LogCacheBytes, s.metrics, s.cfg.knobs); err != nil {
		return err
	}
	s.watch = newWatch(&s.cfg, &s.aside, s.fault)
	s.log.watch = s.watch
	s.fsm = &fsm{
		machine: machine, fault: s.fault, states: &s.states, metrics: s.metrics, knobs: s.cfg.knobs, watch: s.watch,
		termSeen: make(chan struct{}),
	}
	s.snaps = &snapshotStore{
		layout: s.layout, dbs: dbs, fsm: s.fsm, log: s.log, states: &s.states, logger: s.cfg.Logger,
		cluster: s.clusterName, staged: make(map[string]stateMeta),
	}
	s.fsm.install, s.fsm.raise = s.snaps.install, s.snaps.raiseAll
	db, err := dbs.openState(s.layout.stateDir(p.Generation), false)
	if err != nil {
		return err
	}
	s.states.swap(s.snaps.newState(db, p.Generation))
	meta, err := readStateMeta(db)
	if err != nil {
		return err
	}
	if err := s.snaps.raiseAll(meta.format); err != nil {
		return err
	}
	if err := s.checkIdent(meta); err != nil {
		return err
	}
	if err := s.matchLog(p, meta); err != nil {
		return err
	}
	if err := s.layout.reap(p.Generation); err != nil { // only now is it sure which state counts
		return err
	}
	if s.cfg.Bootstrap || s.ident.Began {
		if err := s.beginAtOpen(meta); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	s.fsm.begin(meta, nil)
	s.log.limit = s.cfg.MaxLogBytes
	s.log.durable = func() uint64 { return s.fsm.durable.Load().applied.Index }
	if err := s.fsm.restored(db, meta.applied); err != nil {
		return err
	}
	return s.fault.err()
}

// checkIdent refuses folders whose parts are of different nodes or clusters (R8), and learns the cluster's name from the state.
func (s *Store) checkIdent(meta stateMeta) error {
	if meta.cluster != "" && s.ident.Cluster == "" {
		if err := s.nameCluster(meta.cluster, s.ident.Began); err != nil {
			return err
		}
	}
	now := s.ident
	s.pinned.Store(&now)
	if meta.cluster != "" && meta.cluster != s.ident.Cluster {
		return fmt.Errorf("the state is of cluster %q and the folder of %q", meta.cluster, s.ident.Cluster)
	}
	raw, err := s.log.read([]byte(keyLogIdent))
	if err != nil {
		return fmt.Errorf("read the identity of the log: %w", err)
	}
	if raw == nil {
		if started, err := s.log.started(); err != nil || started {
			return errors.Join(errors.New("the log does not say whose it is"), err)
		}
		return s.writeLogIdent()
	}
	var id ident
	if err := json.Unmarshal(raw, &id); err != nil {
		return fmt.Errorf("read the identity of the log: %w", err)
	}
	switch {
	case id.Node != s.ident.Node:
		return fmt.Errorf("the log is of node %q and the folder of %q", id.Node, s.ident.Node)
	case id.Store != s.ident.Store:
		return fmt.Errorf("the log is of store %q and the folder of %q", id.Store, s.ident.Store)
	case id.Cluster == s.ident.Cluster:
		return nil
	case id.Cluster != "":
		return fmt.Errorf("the log is of cluster %q and the folder of %q", id.Cluster, s.ident.Cluster)
	}
	return s.writeLogIdent()
}

// nameCluster writes the cluster's name to the folder, and whether it began here. The log's copy follows (writeLogIdent); a start makes up for
// one that is missing.
func (s *Store) nameCluster(name string, began bool) error {
	next := s.ident
	next.Cluster, next.Began = name, began
	if err := s.layout.writeFile(nameIdent, next); err != nil {
		return err
	}
	s.ident = next
	s.pinned.Store(&next)
	return nil
}

// pin makes this store one of a cluster, for good (door): of one that took it in, or of one that it begins.
func (s *Store) pin(cluster string, began bool) error {
	s.fault.halt()
	if err := s.nameCluster(cluster, began); err != nil {
		return err
	}
	return s.writeLogIdent()
}

func (s *Store) writeLogIdent() error {
	raw, err := json.Marshal(s.ident)
	if err != nil {
		return fmt.Errorf("encode the identity of the log: %w", err)
	}
	return s.log.setIdent(raw)
}

// matchLog brings the log to the state that STATE names and then requires that the two fit.
func (s *Store) matchLog(p pointer, meta stateMeta) error {
	switch {
	case s.log.installed > p.Generation:
		return fmt.Errorf("the log belongs to state %d and STATE names %d: STATE was replaced", s.log.installed, p.Generation)
	case p.Index > 0 && s.log.installed < p.Generation:
		s.cfg.Logger.Warn("completing the install of a snapshot that a crash cut", slog.Uint64("index", p.Index))
		if err := s.log.reconcile(p.Generation, Position{Index: p.Index, Term: p.Term}); err != nil {
			return err
		}
	}
	return s.log.checkState(meta.applied)
}

// startRaft starts everything that runs.
func (s *Store) startRaft() error {
	s.trans, s.asking.peers, s.asking.timeout = s.cfg.Transport, s.cfg.Peers, s.cfg.HeartbeatTimeout
	s.asking.met, s.door.anyLife = &s.door.met, s.cfg.knobs.anyLife
	s.door.life, s.door.logger, s.door.status = s.life(), s.cfg.Logger, s.answer
	s.door.cluster, s.door.pin, s.door.applied, s.door.reach = s.clusterName, s.pin, s.fsm.configuration, s.reach
	s.door.logged = s.log.members.Load
	replaces := s.ident.Replaces
	s.door.replaces = func() string { return replaces }
	switch {
	case s.trans == nil:
		s.mux = newMux(s.cfg.Listener, &s.door, s.cfg.Advertise, s.cfg.Dial, newPace(&s.cfg, s.lastContact), s.cfg.Logger)
		s.mux.speaks = s.cfg.Speaks
		s.trans, s.asking.peers = newTransport(s.mux, &s.cfg), newOwnPeers(s.mux, s.cfg.Logger)
	case s.asking.peers == nil:
		s.asking.peers = noPeers{}
	}
	s.fsm.members = s.membersChanged
	var logs raft.LogStore = s.log
	if s.cfg.wrapLog != nil {
		logs = s.cfg.wrapLog(logs)
	}
	s.asking.peers.Serve(&s.door) // before raft: nobody is to find a node without a door
	s.tidings = newTidings(s)
	logger := newRaftLogger(s.cfg.Logger)
	logger.peer = s.tidings.failed
	r, err := raft.NewRaft(s.cfg.raftConfig(s.life(), s.lead.notify, logger), s.fsm, logs, s.log, s.snaps, s.trans)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	s.raft = r
	s.packer = newPacker(r, s.cfg.MaxPendingBytes, s.fault, s.metrics)
	s.space.pending = s.packer.pending
	s.door.raft.Store(r)
	go s.packer.run()
	s.lead.start()
	if err := s.metrics.register(s); err != nil {
		return errors.Join(err, s.shutDown(context.Background()))
	}
	s.logStart()
	s.aside.do(s.tellAddress)
	s.observe()
	s.starts.Go(s.leadAlone)
	s.watch.leads = func() bool { return r.State() == raft.Leader }
	s.starts.Go(func() { s.watch.run(s.gone) })
	s.starts.Go(s.trim)
	s.starts.Go(s.keepSealed)
	s.starts.Go(func() { s.space.run(s.gone, s.fault.tripped()) })
	return nil
}

// leadAlone makes the only voter of a cluster lead at once, rather than after an election time-out that waits for nobody. Only
// at start: raft obeys this message without looking at what it is.
func (s *Store) leadAlone() {
	conf := s.raft.GetConfiguration()
	if conf.Error() != nil {
		return
	}
	var voters []raft.Server
	for _, server := range conf.Configuration().Servers {
		if server.Suffrage == raft.Voter {
			voters = append(voters, server)
		}
	}
	if len(voters) != 1 || voters[0].ID != s.life().server() || s.raft.State() != raft.Follower {
		return
	}
	to := s.trans.LocalAddr()
	if s.mux != nil {
		to = raft.ServerAddress(s.mux.listener.Addr().String()) // what is advertised may not be reachable from here
	}
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
	if err := s.trans.TimeoutNow(voters[0].ID, to, req, new(raft.TimeoutNowResponse)); err != nil {
		s.cfg.Logger.Debug("leading at once failed; the election time-out will do it", slog.Any("cause", err))
	}
}

// giveBack releases what a failed Open took.
func (s *Store) giveBack() error {
	if s.raft != nil {
		return nil // shutDown ran
	}
	var err error
	switch {
	case s.trans != nil && s.mux != nil:
		if t, ok := s.trans.(raft.WithClose); ok {
			err = t.Close()
		}
	case s.cfg.Listener != nil:
		err = s.cfg.Listener.Close()
	}
	if s.fault != nil && s.fault.err() != nil {
		return err // nothing more is to be written
	}
	if s.states.current != nil {
		s.states.swap(nil)
		s.snaps.open.Wait()
	}
	return errors.Join(err, s.release())
}
