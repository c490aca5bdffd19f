package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"machineid/authority/state"
	"machineid/raftstore"
	"machineid/shared/wire"
)

// Nodes are the cluster's nodes; *raftstore.Store is one. It must be safe for concurrent use.
type Nodes interface {
	Status() raftstore.NodeStatus
	Reasons() []string
	Members(ctx context.Context) ([]raftstore.Member, error)
	// Configured are the members that the cluster has, by which entry of the log, without asking them.
	Configured() (index uint64, members []raftstore.Member, err error)
	AddNonvoter(ctx context.Context, id, addr string) error
	Replace(ctx context.Context, id, addr string) error
	Readdress(ctx context.Context, id, addr string) error
	Promote(ctx context.Context, id string) error
	Demote(ctx context.Context, id string) error
	Remove(ctx context.Context, id string) error
	TransferLeadership(ctx context.Context, id string) error
	RaiseFormat(ctx context.Context, to int) (int, error)
	Backup(ctx context.Context) (*raftstore.Backup, error)
	// Phase is how far the asked node is on its way into a cluster.
	Phase() Phase
	// Init begins a cluster with the asked node, on behalf of whoever asks for it, and returns its name. Its errors are raftstore's.
	Init(ctx context.Context, by Asker, ignoreUnreachable bool) (cluster string, err error)
}

// operator is access by the operator's token.
type operator struct{}

func (operator) present(r *request) error {
	switch cluster := r.api.cfg.Cluster(); {
	case r.api.cfg.Nodes == nil:
		return wire.NotFound()
	case cluster == nil:
		return &unavailable{outcome: wire.OutcomeNotDone, cause: errNoCluster}
	case !operates(cluster, r.in.Head.Authorization):
		return wire.InvalidOperatorToken()
	}
	r.asOperator()
	return nil
}

func (operator) admit(context.Context, *request, func(*sight) (any, error)) (any, error) {
	return nil, nil
}

// member is one node in answers.
type member struct {
	ID    string `json:"id"`
	Store string `json:"store"`
	Raft  string `json:"raft"`
	// Advertised is where the node itself says that it is reached, null if it does not answer.
	Advertised   *string `json:"advertised"`
	HTTP         string  `json:"http"`
	Link         string  `json:"link"`
	Voter        bool    `json:"voter"`
	Leader       bool    `json:"leader"`
	Reachable    bool    `json:"reachable"`
	Error        *string `json:"error"`
	State        string  `json:"state"`
	Term         uint64  `json:"term"`
	Applied      uint64  `json:"applied"`
	LastIndex    uint64  `json:"lastIndex"`
	Version      string  `json:"version"`
	Format       int     `json:"format"`
	NewestFormat int     `json:"newestFormat"`
	DiskFull     bool    `json:"diskFull"`
	// DiskLeft and DiskReserve are in bytes, null if the node does not know.
	DiskLeft     *uint64 `json:"diskLeftBytes"`
	DiskReserve  *uint64 `json:"diskReserveBytes"`
	TimeOffsetMs int64   `json:"timeOffsetMs"`
	// Unfit is why it should not lead, null if nothing speaks against it.
	Unfit       *string `json:"unfit"`
	LastContact instant `json:"lastContact"`
}

func memberOf(m raftstore.Member, now time.Time) member {
	out := member{
		ID: m.ID, Store: m.Store, Raft: m.Address, Advertised: orNull(m.Status.Raft), Voter: m.Voter, Leader: m.Leader, Reachable: m.Err == nil, State: m.Status.State,
		HTTP: m.Status.About["http"], Link: m.Status.About["link"],
		Term: m.Status.Term, Applied: m.Status.Applied, LastIndex: m.Status.LastIndex, Version: m.Status.Version,
		Format: m.Status.Format, NewestFormat: m.Status.NewestFormat, DiskFull: m.Status.DiskFull, Unfit: orNull(m.Status.Unfit),
	}
	if m.Status.DiskReserve > 0 {
		out.DiskLeft, out.DiskReserve = &m.Status.DiskLeft, &m.Status.DiskReserve
	}
	if m.Err != nil {
		out.Error = orNull(m.Err.Error())
	} else {
		out.TimeOffsetMs = m.Status.TimeMs - now.UnixMilli()
	}
	if !m.Contact.IsZero() {
		out.LastContact = instant(m.Contact.UnixMilli())
	}
	return out
}

// debris is what deleted orgs have left on the node that answers.
type debris struct {
	Orgs    uint64 `json:"orgs"`
	Devices uint64 `json:"devices"`
}

func (a *API) debris() debris {
	if a.cfg.Debris == nil {
		return debris{}
	}
	d := a.cfg.Debris()
	return debris{Orgs: d.Orgs, Devices: d.Devices}
}

// showCluster answers as this node sees it, whoever leads, and also if nobody does.
func showCluster(r *request) (step, error) {
	return step{change: func(ctx context.Context) (any, error) {
		nodes := r.api.cfg.Nodes
		list, err := nodes.Members(ctx)
		if err != nil {
			return nil, &unavailable{outcome: wire.OutcomeNotDone, cause: err}
		}
		now := time.Now()
		members := make([]member, len(list))
		for i, m := range list {
			members[i] = memberOf(m, now)
		}
		own, reasons := nodes.Status(), nodes.Reasons()
		if reasons == nil {
			reasons = []string{}
		}
		return struct {
			wire.Envelope
			ClusterID string   `json:"clusterId"`
			Node      string   `json:"node"`
			Store     string   `json:"store"`
			Phase     Phase    `json:"phase"`
			Leader    *string  `json:"leader"`
			Term      uint64   `json:"term"`
			Format    int      `json:"format"`
			Members   []member `json:"members"`
			Reasons   []string `json:"notReady"`
			Debris    debris   `json:"debris"`
		}{r.in.Envelope("ok"), cmp.Or(r.api.cfg.Cluster().GetClusterId(), own.Cluster), own.ID, own.Store, nodes.Phase(), orNull(own.Leader), own.Term, own.Format, members, reasons, r.api.debris()}, nil
	}}, nil
}

// addMember adds a node that waits for it, and gives it its vote if that is asked for.
func addMember(r *request) (step, error) {
	id, err := r.required("id")
	if err != nil {
		return step{}, err
	}
	if raftstore.CheckID(id) != nil {
		return step{}, &wire.ParamError{Param: "id", Message: "id is no node's name: send 1 to 64 letters, digits, dots, hyphens and underscores"}
	}
	addr, err := r.raftAddress()
	if err != nil {
		return step{}, err
	}
	voter, _, err := r.body.Bool("voter")
	if err != nil {
		return step{}, err
	}
	replaceLost, _, err := r.body.Bool("replaceLost")
	if err != nil {
		return step{}, err
	}
	take := Nodes.AddNonvoter
	if replaceLost {
		take = Nodes.Replace
	}
	return r.onCluster(id, func(ctx context.Context, nodes Nodes) error {
		if err := take(nodes, ctx, id, addr); err != nil || !voter {
			return err
		}
		return nodes.Promote(ctx, id)
	}), nil
}

// raftAddress is the member `address` of the body: where a node's Raft is reached.
func (r *request) raftAddress() (string, error) {
	addr, err := r.required("address")
	if err != nil {
		return "", err
	}
	if err := raftstore.CheckAddress(addr); err != nil {
		return "", &wire.ParamError{Param: "address", Message: "address is no host:port that others can dial (no wildcard, a port from 1 to 65535): send where the node's --raft is reached"}
	}
	return addr, nil
}

// readdress makes another address the member's that the path names.
func readdress(r *request) (step, error) {
	addr, err := r.raftAddress()
	if err != nil {
		return step{}, err
	}
	return onMember(func(nodes Nodes, ctx context.Context, id string) error { return nodes.Readdress(ctx, id, addr) })(r)
}

// onMember is a call on the member that the path names.
func onMember(do func(Nodes, context.Context, string) error) func(*request) (step, error) {
	return func(r *request) (step, error) {
		path, _ := wire.SplitTarget(r.http.Request.Header.RequestURI())
		id := r.in.Route.Param(path)
		return r.onCluster(id, func(ctx context.Context, nodes Nodes) error { return do(nodes, ctx, id) }), nil
	}
}

func transfer(r *request) (step, error) {
	to, given, err := r.body.String("to")
	switch {
	case err != nil:
		return step{}, err
	case given && to == "":
		return step{}, &wire.ParamError{Param: "to", Message: "to is empty: send a node's name, or leave it out for any that is fit"}
	}
	return r.onCluster("", func(ctx context.Context, nodes Nodes) error {
		own := nodes.Status().ID
		if to == own {
			return nodes.TransferLeadership(ctx, to)
		}
		// Noted before: afterwards this node leads no more, and can note nothing.
		before, cancel := context.WithTimeout(ctx, judgeTime)
		defer cancel()
		r.noteWithin(before, "cluster.transfer_begun", own, state.Setting("leader", state.Text(own), state.Text(to)))
		err := nodes.TransferLeadership(ctx, to)
		if err != nil {
			r.note(ctx, "cluster.transfer_failed", own, state.Setting("error", nil, state.Text(err.Error())))
		}
		return err
	}), nil
}

// raiseFormat answers with the format that was reached.
func raiseFormat(r *request) (step, error) {
	to, given, err := r.body.Int("to")
	force, _, forceErr := r.body.Bool("force")
	if err = cmp.Or(err, forceErr); err != nil {
		return step{}, err
	}
	if given && (to < 1 || to > maxFormat) {
		return step{}, &wire.ParamError{Param: "to", Message: "to is no format: send a positive number, or leave it out for the newest that every node knows"}
	}
	reached := 0
	s := r.onCluster("", func(ctx context.Context, nodes Nodes) (err error) {
		was := nodes.Status().Format
		if !force {
			if err := r.edgesFollow(ctx, nodes, int(to)); err != nil {
				return err
			}
		}
		if reached, err = nodes.RaiseFormat(ctx, int(to)); err == nil && reached != was {
			r.note(ctx, "cluster.format_raised", r.api.cfg.Cluster().GetClusterId(), state.Setting("format", state.Number(int64(was)), state.Number(int64(reached))))
		}
		return err
	})
	change := s.change
	s.change = func(ctx context.Context) (any, error) {
		if _, err := change(ctx); err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			Format int `json:"format"`
		}{r.in.Envelope("ok"), reached}, nil
	}
	return s, nil
}

// edgesFollow refuses a raise to a format, 0 the newest that every node knows, at which some edges could not go on: they would deny everything.
func (r *request) edgesFollow(ctx context.Context, nodes Nodes, to int) error {
	if to == 0 {
		members, err := nodes.Members(ctx)
		if err != nil {
			return err
		}
		for i, m := range members { // one that does not answer knows 0: RaiseFormat tells of it
			if to = min(to, m.Status.NewestFormat); i == 0 {
				to = m.Status.NewestFormat
			}
		}
	}
	need := r.api.cfg.Formats.Edges(to)
	var older []string
	for _, s := range r.api.cfg.Hub.Sessions() {
		if s.Format < need {
			older = append(older, s.EdgeID+" (version "+cmp.Or(s.Version, "unknown")+", up to format "+strconv.Itoa(s.Format)+")")
		}
	}
	if len(older) == 0 {
		return nil
	}
	return fmt.Errorf("%w: edges that do not understand format %d would deny everything: install the newer program there, or send force ('machineid cluster raise-format --force'); there are %d: %s",
		raftstore.ErrRefused, to, len(older), some(older, 20))
}

// some names the first of a list, and how many more there are.
func some(list []string, most int) string {
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return strings.Join(list[:most], ", ") + " and " + strconv.Itoa(len(list)-most) + " more"
}

// maxFormat bounds what may be asked for; raftstore knows what there is.
const maxFormat = 1 << 20

// archiveType is the media type of an archive.
const archiveType = "application/octet-stream"

// snapshot answers with an archive of the state as this node has it, as a stream of known length: the one answer that is no JSON. It
// says if it may lack something that was acknowledged before it was asked for. It counts as a backup when its receiver says that it is kept.
func snapshot(r *request) (step, error) {
	index, kept, err := r.body.Int("keptIndex")
	term, too, termErr := r.body.Int("keptTerm")
	switch {
	case err != nil || termErr != nil:
		return step{}, cmp.Or(err, termErr)
	case (kept || too) && (index < 1 || term < 1):
		return step{}, &wire.ParamError{Param: "keptIndex", Message: "keptIndex or keptTerm is no position of a backup: send both as they stand in the archive, or neither"}
	case kept:
		return r.onCluster("", func(_ context.Context, nodes Nodes) error {
			if noter, ok := nodes.(interface {
				Kept(raftstore.Position) error
			}); ok {
				return noter.Kept(raftstore.Position{Index: uint64(index), Term: uint64(term)})
			}
			return nil
		}), nil
	}
	return step{change: func(ctx context.Context) (any, error) {
		b, err := r.api.cfg.Nodes.Backup(ctx)
		if err != nil {
			u := &unavailable{outcome: wire.OutcomeNotDone, cause: err}
			if errors.Is(err, raftstore.ErrOverloaded) {
				u.message = err.Error()
			}
			return nil, u
		}
		b.Unkept()
		h := &r.http.Response.Header
		if b.Doubt != nil {
			h.Set(wire.DoubtHeader, strings.Join(strings.Fields(b.Doubt.Error()), " ")) // on one line
		}
		h.SetContentType(archiveType)
		h.Set("Cache-Control", "no-store")
		h.SetBytesV("X-Request-Id", r.in.ID)
		r.http.SetBodyStream(b, int(b.Size)) // closes it
		r.note(ctx, "cluster.snapshot_taken", r.api.cfg.Nodes.Status().ID, state.Setting("bytes", nil, state.Number(b.Size)))
		return streamed{}, nil
	}}, nil
}

// streamed says that the answer is made already.
type streamed struct{}

// clusterSlack is kept of a request's time, so that its answer is not lost.
const clusterSlack = time.Second

// allMembers is what a call is about that begins a cluster. It is no member's id.
const allMembers = "*"

// onCluster is a change of the cluster, with its four outcomes. id is the member that it is about; "" is none.
func (r *request) onCluster(id string, do func(context.Context, Nodes) error) step {
	return step{change: func(ctx context.Context) (any, error) {
		ctx, cancel := context.WithDeadline(ctx, r.deadline.Add(-clusterSlack))
		defer cancel()
		if err := r.judgedAgain(ctx); err != nil {
			return nil, err
		}
		err := do(ctx, r.api.cfg.Nodes)
		if id != "" {
			r.noteMembers(ctx, id)
		}
		switch {
		case err == nil:
			return r.in.Envelope("ok"), nil
		case errors.Is(err, raftstore.ErrNotMember):
			return nil, wire.MemberNotFound(err.Error())
		case errors.Is(err, raftstore.ErrOtherStore):
			return nil, wire.OtherStore(err.Error())
		case errors.Is(err, raftstore.ErrInCluster):
			return nil, wire.ClusterExists(err.Error())
		case errors.Is(err, raftstore.ErrRefused):
			return nil, wire.Refused(err.Error())
		default:
			return nil, notProposed(err)
		}
	}}
}

// required is a member of the body that must be a string and not empty.
func (r *request) required(name string) (string, error) {
	s, present, err := r.body.String(name)
	if err != nil {
		return "", err
	}
	if !present || s == "" {
		return "", &wire.ParamError{Param: name, Message: name + " is missing: send it in the body"}
	}
	return s, nil
}
