// Package release says which release this program is.
//
// VERSION beside this file is the truth: X.Y.Z in the commit that is the release, and X.Y.Z-dev, with the number of the next one, in all that
// follow. So the release that an older program was is found in the repository's own history, and tests build it from there.
package release

import (
	_ "embed"
	"strings"
)

//go:embed VERSION
var version string

// Version returns v0.1.0 in a release, or v0.2.0-dev on the way to one.
func Version() string {
	return "v" + strings.TrimSpace(version)
}
