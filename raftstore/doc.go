// Package raftstore is a replicated Pebble: commands go in, a Raft group (hashicorp/raft) orders them, and a deterministic
// [Machine] turns each into changes of one key-value state that every node holds.
//
// What it guarantees:
//
//   - A command whose [Store.Propose] returned without error is in the synced log of a quorum and in the state of this node.
//     It survives every crash after that moment.
//   - A command whose Propose failed with an error for which [Unknown] is false never took effect and never will. All others
//     may take effect later.
//   - The state and its applied position change in one atomic step: a node resumes exactly where its state ends, and no command
//     is applied twice.
//   - A [View] is one consistent state with its position. [Store.Read] gives a view that holds every change acknowledged before
//     the call, by any node.
//   - A node whose disk failed a write, hangs, or is damaged, never answers again: [Config.Fatal] ends the process.
//   - A node whose disk is nearly full refuses ordinary commands early (ErrNoSpace) and takes essential ones for as long as it
//     can write.
//   - [Store.Confirm] proves that no newer leader had been elected when it was called, by asking the voters then.
//   - A change of the members is refused if the voters that result would hold no working quorum.
//
// The design, and why it is so, is in DESIGN.md beside this file; R1, R2, ... in comments and tests are its invariants.
package raftstore
