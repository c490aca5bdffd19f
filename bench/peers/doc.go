// Command peers measures MachineID beside what its users might take instead, on
// the same machine and in the same run: first one, then the other, round by
// round, so that a noisy neighbour meets both. It prints figures and ratios and
// judges nothing.
//
//	go run . changes    replicated changes, beside etcd's puts
//	go run . proxied    the same through the binary: edge, its proxy, and three nodes
//	go run . validate   validates and revokes, beside nginx, Redis, etcd and OpenFGA
package main
