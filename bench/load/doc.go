// Package load generates load and judges the answers: the engine and the scenarios behind `machineid bench`. It is a client: it knows
// the wire contract, and neither tier.
//
// It guarantees that what is slow shows. In an open loop requests are due at times fixed beforehand, and a latency is counted from then,
// so that a server that stalls is charged for everything that came due meanwhile (Tene: "coordinated omission"). What came due and was
// never sent is counted as an error with the time it had waited. DESIGN.md beside this file says how.
package load
