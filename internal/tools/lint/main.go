// Command lint is go vet with more to say: the analyzers that find faults in code such as this, as one vettool, so that what one run learned
// of a package the next one takes from the build cache.
//
//	go vet -vettool=.bin/lint ./...
//
// The comment `//nolint:NAME // why` at a line ends what the analyzer NAME says of it. It is a fault itself if it gives no reason, names no
// analyzer of this list, or ends nothing.
package main

import (
	"fmt"

	"github.com/ashanbrown/forbidigo/v2/pkg/analyzer"
	"github.com/gostaticanalysis/nilerr"
	"github.com/kisielk/errcheck/errcheck"
	"github.com/nishanths/exhaustive"
	"github.com/polyfloyd/go-errorlint/errorlint"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/unitchecker"
)

// forbidden is what code of ours has another way for.
var forbidden = []string{
	`{p: ^fmt\.Print.*$, msg: "write to the io.Writer you were given"}`,
	`{p: ^log\.(Print|Fatal|Panic).*$, msg: "pass a *slog.Logger"}`,
	`{p: ^slog\.(Debug|Info|Warn|Error)$, msg: "pass a *slog.Logger; no global logger"}`,
	`{p: ^atomic\.(Add|Load|Store|Swap|CompareAndSwap).*$, msg: "use atomic.Int64 & co"}`,
}

func main() { unitchecker.Main(analyzers()...) }

func analyzers() []*analysis.Analyzer {
	set(exhaustive.Analyzer, "d", "true")
	set(errcheck.Analyzer, "assert", "true")
	forbidigo := analyzer.NewAnalyzer()
	set(forbidigo, "analyze_types", "true")
	for _, p := range forbidden {
		set(forbidigo, "p", p)
	}
	return withReasons(errcheck.Analyzer, exhaustive.Analyzer, nilerr.Analyzer, errorlint.NewAnalyzer(), forbidigo)
}

func set(a *analysis.Analyzer, name, value string) {
	if err := a.Flags.Set(name, value); err != nil {
		panic(fmt.Sprintf("%s: -%s %s: %v", a.Name, name, value, err))
	}
}
