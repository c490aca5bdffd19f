package raftstore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/raft"
)

// Life is one life of a node: its name, and the id of the store that it has. A store gets its id when its folder is made, and a member is
// a life (R14): a node whose folder was lost is another member with the same name, and what it has promised before binds nobody to it.
type Life struct {
	ID    string `json:"id"`
	Store string `json:"store"`
}

// String names a life for people: the beginning of a store's id tells it from the few others there are.
func (l Life) String() string {
	const shown = 8
	if l.Store == "" {
		return l.ID
	}
	return fmt.Sprintf("%s (store %.*s)", l.ID, shown, l.Store)
}

// lifeSeparator stands between name and store in raft's name for a member; addressSeparator before an address that is dialled.
const (
	lifeSeparator    = "/"
	addressSeparator = "@"
)

// server is raft's name for a member.
func (l Life) server() raft.ServerID { return raft.ServerID(l.ID + lifeSeparator + l.Store) }

// lifeOf takes raft's name for a member apart.
func lifeOf(id raft.ServerID) Life {
	name, store, _ := strings.Cut(string(id), lifeSeparator)
	return Life{ID: name, Store: store}
}

// dialled is the address under which raft's transport knows a member: it tells whom the connection is for.
func dialled(id raft.ServerID, addr raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + addressSeparator + addr
}

// meant takes a dialled address apart.
func meant(to raft.ServerAddress) (Life, string, error) {
	id, addr, ok := strings.Cut(string(to), addressSeparator)
	if !ok {
		return Life{}, "", fmt.Errorf("%q does not say whom it is the address of", to)
	}
	return lifeOf(raft.ServerID(id)), addr, nil
}

// CheckID refuses what cannot be a node's name: it stands in paths, files and raft's names.
func CheckID(id string) error {
	const longest = 64
	if id == "" || len(id) > longest || id == "." || id == ".." {
		return errors.New("it must have 1 to 64 characters, and cannot be a dot or two")
	}
	for _, c := range id {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return fmt.Errorf("%q is in it: letters, digits, dots, hyphens and underscores can be", c)
		}
	}
	return nil
}

// randomID returns 128 random bits for a name that nobody else has: of a cluster, or of a store.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	return hex.EncodeToString(b[:])
}
