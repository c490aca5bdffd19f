// Package statepb holds the commands and records of the authority's state
// (state.proto). Both are kept on disk, so their numbers are never used again.
package statepb
