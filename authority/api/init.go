package api

import (
	"context"

	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// Phase is how far a node is on its way into a cluster.
type Phase string

// Phases of a node.
const (
	Waiting   Phase = "waiting"   // it is in no cluster
	Beginning Phase = "beginning" // it is asked to begin one, and asks the others whether they know one
	InCluster Phase = "member"    // it knows its cluster, and is a member of it as far as it knows
)

// starter is operator, or, as long as a node has nothing of a cluster, access by the token that the node was started with.
type starter struct{ operator }

func (s starter) present(r *request) error {
	switch {
	case r.api.cfg.Cluster() != nil || r.api.cfg.Nodes == nil:
		return s.operator.present(r)
	case len(r.api.cfg.StartToken) == 0:
		return wire.Refused("this node is in no cluster and was started without an operator's token: start it with --operator-token-file, and with the same token as the others")
	case !operates(&statepb.Cluster{OperatorTokenHash: r.api.cfg.StartToken}, r.in.Head.Authorization):
		e := wire.InvalidOperatorToken()
		e.Message = "this node is in no cluster yet, and what was sent is not the operator's token that it was started with: give the one that its --operator-token-file or MACHINEID_OPERATOR_TOKEN holds, which is the same at every node"
		return e
	}
	r.asOperator()
	return nil
}

// initCluster begins a cluster with the asked node, and answers with its name.
func initCluster(r *request) (step, error) {
	ignore, _, err := r.body.Bool("ignoreUnreachable")
	if err != nil {
		return step{}, err
	}
	cluster := ""
	s := r.onCluster(allMembers, func(ctx context.Context, nodes Nodes) (err error) {
		cluster, err = nodes.Init(ctx, r.asker(), ignore)
		return err
	})
	change := s.change
	s.change = func(ctx context.Context) (any, error) {
		if _, err := change(ctx); err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			ClusterID string `json:"clusterId"`
		}{r.in.Envelope("ok"), cluster}, nil
	}
	return s, nil
}
