// Command mutants says which faults in our code no test would notice. It makes one small fault at a time (a mutant), runs the tests that
// judge that package, and lists the mutants that live: those with which every test still passes.
//
//	make mutants PKG="shared/clock edge" FOR=1h
//
// All mutants of a package are compiled into one binary of its tests, each behind a question of its number (mutant schemata; Untch, Offutt and
// Harrold, 1993), and switched on by the environment. Every test is first run by itself without a fault, which says how long it takes and which mutants it asks
// about: a mutant is tried by those alone, the quick ones first. So most take under a second. What cannot be switched, such as a constant that is the length of an
// array, is compiled alone. Either way the file stands in the place of ours by go test -overlay, so the tree is never touched. What became of each is written to a
// log, and who runs the command again goes on from there: a mutant is tried again only if its package or a package that judges it has changed.
//
// Whoever lives is either a hole, which gets a test, or cannot be told from the code, or does not matter: then it stands in survivors.txt
// with the reason. The command fails if one lives that is not listed, if one is listed that was killed, and if one is listed that the code
// does not have any more. So the list is as true as the code.
//
// A mutant under which a test does not end, or takes more memory than it may, counts as killed. Statements that only log are left alone,
// as are locks (the race detector finds those), generated files and what the compiler refuses. Tests of allocations do not judge.
package main
