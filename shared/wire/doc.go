// Package wire is the HTTP contract that both tiers speak: the routes, the rules for heads, bodies, queries, keys and device
// ids, the answers and the server that holds it all together. The edge and the authority serve with this one package, so
// they cannot judge the same bytes differently, which is what request smuggling lives on.
//
// What it guarantees: a handler sees a request only if its head kept every rule of CheckHead, its route exists, its method
// and the size of its body fit; every answer is a JSON object with a request id and Cache-Control: no-store; a panic costs one
// request, not the process. Everything on validate's path allocates nothing.
//
// DESIGN.md beside this file says which choices are ours, and why.
package wire
