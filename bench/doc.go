// Package bench measures what the project promises of its speed: whole tiers,
// over real sockets, beside a yardstick in the same run.
package bench
