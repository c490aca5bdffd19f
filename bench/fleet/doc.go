// Package fleet runs programs for benchmarks as processes: machineid's nodes and
// edges as a cluster over loopback, and whatever they are compared with. It says
// what processor time and memory each took, and takes CPU profiles.
//
// Nothing outlives the program that started it: a process is killed when its
// parent ends, however that ended (Linux), and Close ends them in order.
package fleet
