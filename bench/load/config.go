package load

import (
	"math/rand/v2"
	"time"
)

// Config is one run.
type Config struct {
	Scenario *Scenario
	Mode     string // of validate: hit, cold or unknown
	Targets  []*Target
	// Operators are authority nodes, tried in turn, and Token is the operator's token. Without a token orgs keep their plan's limit of devices.
	Operators []*Target
	Token     string
	// Makers are where devices are registered beforehand; none: at the targets.
	Makers []*Target
	// Enough ends the registering of devices, and the run has those that are there; 0: all are registered.
	Enough time.Duration
	// Disposable says that the cluster is thrown away: an org of which nobody knows whether it was made may stay, and another is made.
	Disposable bool

	Rate           Rate
	Closed         bool // a closed loop: Rate is not looked at
	Warmup         time.Duration
	Duration       time.Duration // without the warm-up
	Timeout        time.Duration // of one request
	Connections    int           // in all
	NewConnections bool          // one for each request

	Orgs, Devices int     // Devices in all
	Zipf          float64 // the exponent, above 1; 0: each device is as likely as any other
	Mix           Mix     // of mixed
	ChangeRate    float64 // of failover, changes a second
	Seed          uint64

	Version string
	// Progress is called while the run prepares and cleans up, Watch about once a second while it measures, each by one goroutine.
	Progress func(what string, done, total int)
	Watch    func(Second)
}

// chooser returns a function that chooses one of n devices.
func (c *Config) chooser(rng *rand.Rand, n int) func() int {
	if n <= 0 {
		return func() int { return 0 }
	}
	if c.Zipf > 1 {
		z := rand.NewZipf(rng, c.Zipf, 1, uint64(n-1))
		return func() int { return int(z.Uint64()) }
	}
	return func() int { return rng.IntN(n) }
}

// perTarget is how many connections each target has.
func (c *Config) perTarget(i int) int {
	n := c.Connections / len(c.Targets)
	if i < c.Connections%len(c.Targets) {
		n++
	}
	return max(n, 1)
}
