// Package oldrelease builds machineid as an earlier release had it, from the repository's own history: tests let it run beside today's, and
// put it in today's place and back. What was built is kept in the user's cache folder, by commit and Go version, where there is one to write to.
package oldrelease

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// versionFile says in each commit which release it is (package release).
const versionFile = "shared/release/VERSION"

// unusedFor is how long a program that no test has used is kept.
const unusedFor = 30 * 24 * time.Hour

// Program is a machineid that was built.
type Program struct {
	// Path is where it is.
	Path string
	// Commit is what it was built from; empty: from this tree, because the history does not hold the release.
	Commit string
}

// Build returns the program of a release, as 0.1.0. Where the repository's history does not hold it, this tree's own program stands in, and the
// log says so, with what to type: a test then runs as ever, and proves less. With MACHINEID_TEST_NO_SKIP a history that is whole and lacks the
// release fails the test.
func Build(tb testing.TB, version string) Program {
	tb.Helper()
	scratch := tb.TempDir()
	p, why, err := build(tb.Context(), ".", cacheOr(scratch), scratch, version)
	if err != nil {
		tb.Fatalf("build release %s: %v", version, err)
	}
	if err := lacking(why); err != nil && os.Getenv(noSkip) != "" {
		tb.Fatalf("release %s: %v", version, err)
	}
	if why != "" {
		tb.Logf("NOT RELEASE %s: %s. This tree's own program stands in for it: what this test says of upgrades is worth nothing here", version, why)
	}
	return p
}

// noSkip has what proves nothing fail.
const noSkip = "MACHINEID_TEST_NO_SKIP"

// withoutRelease is why of a history that is there, with earlier versions, and lacks the release: somebody has rewritten it.
const withoutRelease = "no commit of this history has "

// lacking returns an error if why is that the history lacks the release, and no way to have less of it than there is: a clone that is shallow, an
// archive.
func lacking(why string) error {
	if !strings.HasPrefix(why, withoutRelease) {
		return nil
	}
	return fmt.Errorf("%s, or unset %s: then this tree's own program stands in for it, and upgrades are not tested", why, noSkip)
}

// cacheOr is where programs are kept between runs: the user's own folder. Without a home, or in one that cannot be written to, it is scratch, and
// what is built there serves one test; a folder that all users share might hold anybody's program.
func cacheOr(scratch string) string {
	user, err := os.UserCacheDir()
	if err != nil {
		return scratch
	}
	cache := filepath.Join(user, "machineid-tests")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return scratch
	}
	probe, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return scratch
	}
	_ = os.Remove(probe) // trim sees to what stays
	return cache
}

// build builds in the repository that holds the folder dir, and keeps it in cache. why says why this tree's own program stands in, "" if none
// does; that one is kept in scratch.
func build(ctx context.Context, dir, cache, scratch, version string) (p Program, why string, err error) {
	root, commit, why, err := find(ctx, dir, version)
	if err != nil {
		return Program{}, "", err
	}
	if why != "" {
		out, err := run(ctx, dir, "go", "env", "GOMOD")
		if err != nil {
			return Program{}, "", err
		}
		root = filepath.Dir(strings.TrimSpace(string(out)))
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(versionFile)))
		if err != nil {
			return Program{}, "", err
		}
		version, cache = strings.TrimSpace(string(text)), scratch
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return Program{}, "", err
	}
	trim(cache)
	p = Program{Path: filepath.Join(cache, name(version, commit)), Commit: commit}
	if commit != "" && says(ctx, p.Path, version) == nil {
		now := time.Now()
		return p, "", os.Chtimes(p.Path, now, now)
	}
	// Two test processes may build at once: each gives its own the name when it is whole, and whoever runs the other's goes on with it.
	work, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return Program{}, "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	source := root
	if commit != "" {
		source = filepath.Join(work, "source")
		if err := unpack(ctx, root, commit, source); err != nil {
			return Program{}, "", err
		}
	}
	built := filepath.Join(work, "machineid")
	if _, err := run(ctx, source, "go", "build", "-buildvcs=false", "-o", built, "./cmd/machineid"); err != nil {
		return Program{}, "", err
	}
	if err := says(ctx, built, version); err != nil {
		return Program{}, "", err
	}
	return p, why, os.Rename(built, p.Path)
}

// name is a program's in the cache.
func name(version, commit string) string {
	goVersion := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" /:\\", r) {
			return '-'
		}
		return r
	}, runtime.Version())
	return fmt.Sprintf("machineid-%s-%.20s-%s-%s-%s", version, commit, goVersion, runtime.GOOS, runtime.GOARCH)
}

// find looks for the newest commit that is the release. why says why there is none that could be found, and what to type.
func find(ctx context.Context, dir, version string) (root, commit, why string, err error) {
	if _, err := exec.LookPath("git"); err != nil {
		return "", "", "there is no git here (install it)", nil //nolint:nilerr // it is the reason
	}
	top, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return "", "", "this is no git repository (clone it, instead of unpacking an archive)", nil //nolint:nilerr // it is the reason
	}
	root = strings.TrimSpace(string(top))
	// Each commit that wrote the file, the newest first. Of branches that were merged too.
	list, err := git(ctx, root, "log", "--full-history", "--format=%H", "--", versionFile)
	if err != nil {
		return root, "", fmt.Sprintf("its history cannot be read (clone the repository with its history): %v", err), nil
	}
	commits := strings.Fields(string(list))
	for _, c := range commits {
		if text, err := git(ctx, root, "show", c+":"+versionFile); err == nil && string(text) == version+"\n" {
			return root, c, "", nil
		}
	}
	shallow, err := git(ctx, root, "rev-parse", "--is-shallow-repository")
	switch {
	case err != nil:
		return "", "", "", err
	case strings.TrimSpace(string(shallow)) == "true":
		return root, "", "this clone is shallow ('git fetch --unshallow' brings the history)", nil
	case len(commits) < 2:
		return root, "", "this history begins behind the release (clone the repository with its history)", nil
	}
	return root, "", fmt.Sprintf(withoutRelease+"%s say %s (clone the repository with its history)", versionFile, version), nil
}

// unpack writes a commit's files.
func unpack(ctx context.Context, root, commit, to string) error {
	packed, err := git(ctx, root, "archive", "--format=tar", commit)
	if err != nil {
		return err
	}
	for r := tar.NewReader(bytes.NewReader(packed)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", commit, err)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			continue
		}
		path := filepath.Join(to, filepath.FromSlash(h.Name))
		data, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", commit, err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			return err
		}
	}
}

// says fails unless the program at path is of the version.
func says(ctx context.Context, path, version string) error {
	out, err := run(ctx, ".", path, "version")
	if err != nil {
		return err
	}
	if first, _, _ := strings.Cut(string(out), "\n"); first != "machineid v"+version {
		return fmt.Errorf("%s says that it is %q, not %s", path, first, version)
	}
	return nil
}

// trim deletes programs that no test has used for long, and what builds that were killed have left.
func trim(cache string) {
	list, _ := os.ReadDir(cache) // what cannot be read stays
	for _, e := range list {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > unusedFor {
			_ = os.RemoveAll(filepath.Join(cache, e.Name()))
		}
	}
}

// git runs git in a folder, whosever that is: containers check out as another user.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	return run(ctx, dir, "git", append([]string{"-c", "safe.directory=*"}, args...)...)
}

// ofRepository reports whether a variable says which repository is meant, as git tells its hooks: here the folder says it.
func ofRepository(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return slices.Contains(local, name)
}

// local are those that matter of `git rev-parse --local-env-vars`.
var local = []string{
	"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS", "GIT_DIR", "GIT_GRAFT_FILE",
	"GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
}

// run runs a program in a folder. It is built without cgo, as what is shipped, and whatever the tests are built with.
func run(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), ofRepository), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}
