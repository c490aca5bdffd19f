package oldrelease

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// versionProgram says its version, unless it lies, and its mark.
const versionProgram = `package main

import (
	"os"

	"machineid/shared/release"
)

func main() {
	if release.Mark == "lies" {
		release.Version = "0.0.7"
	}
	os.Stdout.WriteString("machineid v" + release.Version + "\n" + release.Mark + "\n")
}
`

// history makes a repository of a program that prints its version, one commit for each version and mark.
func history(t *testing.T, versions ...string) (dir string) {
	t.Helper()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull) // which may sign commits, or run hooks
	t.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
	dir = t.TempDir()
	write := func(file, text string) {
		path := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(t, dir, "init", "-q")
	write("go.mod", "module machineid\n\ngo 1.24\n")
	write("cmd/machineid/main.go", versionProgram)
	for _, v := range versions {
		version, mark, _ := strings.Cut(v, " ")
		write(versionFile, version+"\n")
		write("shared/release/release.go", fmt.Sprintf("package release\n\nvar Version, Mark = %q, %q\n", version, mark))
		must(t, dir, "add", ".")
		must(t, dir, "commit", "-q", "-m", v)
	}
	return dir
}

func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	as := []string{"-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always"}
	out, err := git(t.Context(), dir, append(as, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A hook of git, or a rebase that runs the tests, says by variables which repository is meant. It is not touched, and not taken for the one of a folder.
func TestAnotherRepositoryIsNotMeant(t *testing.T) {
	hooked := history(t, "0.1.0 hooked")
	before := must(t, hooked, "rev-parse", "HEAD")
	t.Setenv("GIT_DIR", filepath.Join(hooked, ".git"))
	t.Setenv("GIT_WORK_TREE", hooked)
	t.Setenv("GIT_INDEX_FILE", filepath.Join(hooked, ".git", "index"))
	dir := history(t, "0.1.0 it")
	if after := must(t, hooked, "rev-parse", "HEAD"); after != before {
		t.Fatalf("it was committed to: %s, was %s", after, before)
	}
	p, why, err := build(t.Context(), dir, t.TempDir(), t.TempDir(), "0.1.0")
	if err != nil || why != "" || p.Commit != must(t, dir, "rev-parse", "HEAD") || p.Commit == before {
		t.Errorf("%+v because %q: %v", p, why, err)
	}
}

// Where there is no home, or none that can be written to, nothing is kept, and nothing is taken that others may have put there.
func TestWithoutAHome(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	for name, c := range map[string]struct{ home, cache, want string }{
		"a home":                     {home, "", filepath.Join(home, ".cache", "machineid-tests")},
		"no home":                    {"", "", "scratch"},
		"one that cannot be written": {file, "", "scratch"},
		"a cache elsewhere":          {"", home, filepath.Join(home, "machineid-tests")},
	} {
		t.Setenv("HOME", c.home)
		t.Setenv("XDG_CACHE_HOME", c.cache)
		got := cacheOr("scratch")
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if list, err := os.ReadDir(got); got != "scratch" && (err != nil || len(list) > 0) {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

func TestBuild(t *testing.T) {
	dir := history(t, "0.0.9 before", "0.1.0 withdrawn", "0.0.9 again", "0.1.0 it", "0.2.0-dev after", "0.10.0 another", "0.11.0-dev now")
	begun := history(t, "0.11.0-dev now") // an archive in a repository of its own
	if err := os.RemoveAll(filepath.Join(begun, ".git")); err != nil {
		t.Fatal(err)
	}
	must(t, begun, "init", "-q")
	shallow, squashed, unpacked := filepath.Join(t.TempDir(), "clone"), history(t, "0.11.0-dev now"), history(t, "0.11.0-dev now")
	must(t, dir, "clone", "-q", "--depth", "1", "file://"+dir, shallow)
	if err := os.RemoveAll(filepath.Join(unpacked, ".git")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(unpacked))
	release := must(t, dir, "log", "--format=%H", "--grep", "0.1.0 it")
	rewritten := history(t, "0.0.9 before", "0.11.0-dev now")
	fails := map[string]bool{"a rewritten history": true} // with MACHINEID_TEST_NO_SKIP
	for name, tt := range map[string]struct{ dir, commit, why, says string }{
		"the newest that is it": {dir, release, "", "machineid v0.1.0\nit\n"},
		"in a folder of it":     {filepath.Join(dir, "cmd"), release, "", "machineid v0.1.0\nit\n"},
		"a shallow clone":       {shallow, "", "git fetch --unshallow", "machineid v0.11.0-dev\nnow\n"},
		"a squashed history":    {squashed, "", "begins behind", "machineid v0.11.0-dev\nnow\n"},
		"a rewritten history":   {rewritten, "", "no commit", "machineid v0.11.0-dev\nnow\n"},
		"nothing committed":     {begun, "", "cannot be read", "machineid v0.11.0-dev\nnow\n"},
		"no repository":         {unpacked, "", "no git repository", "machineid v0.11.0-dev\nnow\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p, why, err := build(t.Context(), tt.dir, filepath.Join(t.TempDir(), "cache"), t.TempDir(), "0.1.0")
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), p.Path).Output()
			if err != nil || string(out) != tt.says || p.Commit != tt.commit || (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
				t.Errorf("built of %q because %q, says %q (%v)", p.Commit, why, out, err)
			}
			if lacks := lacking(why); (lacks != nil) != fails[name] || lacks != nil && !strings.Contains(lacks.Error(), "clone the repository with its history") {
				t.Errorf("where nothing may be skipped: %v", lacks)
			}
		})
	}
	t.Run("a program that is another", func(t *testing.T) {
		if p, why, err := build(t.Context(), history(t, "0.1.0 lies"), t.TempDir(), t.TempDir(), "0.1.0"); err == nil {
			t.Errorf("it is taken: %+v, %q", p, why)
		}
	})
	t.Run("no git", func(t *testing.T) {
		goProgram, err := exec.LookPath("go")
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", filepath.Dir(goProgram))
		if _, err := exec.LookPath("git"); err == nil {
			bin := t.TempDir() // both are in one folder
			if err := os.Symlink(goProgram, filepath.Join(bin, "go")); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin)
		}
		p, why, err := build(t.Context(), dir, t.TempDir(), t.TempDir(), "0.1.0")
		if err != nil || p.Commit != "" || !strings.Contains(why, "no git here") {
			t.Errorf("%+v because %q: %v", p, why, err)
		}
	})
}

// What was built is used again, by several at once too, unless it is damaged or was not used for long.
func TestBuiltOnce(t *testing.T) {
	dir, cache := history(t, "0.1.0 it", "0.2.0-dev now"), filepath.Join(t.TempDir(), "cache")
	all := func() (first os.FileInfo) {
		t.Helper()
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				p, why, err := build(t.Context(), dir, cache, t.TempDir(), "0.1.0")
				if err != nil || why != "" {
					t.Errorf("%q %v", why, err)
				} else if out, err := exec.CommandContext(t.Context(), p.Path).Output(); err != nil || string(out) != "machineid v0.1.0\nit\n" {
					t.Errorf("says %q (%v)", out, err)
				}
			})
		}
		work.Wait()
		list, err := os.ReadDir(cache)
		if err != nil || len(list) != 1 {
			t.Fatalf("in the cache: %v (%v)", list, err)
		}
		info, err := list[0].Info()
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	built := all()
	if again := all(); !os.SameFile(built, again) {
		t.Error("it was built again")
	}
	path := filepath.Join(cache, built.Name())
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	all() // what is damaged is built anew
	long := time.Now().Add(-unusedFor - time.Hour)
	for _, name := range []string{"machineid-0.0.1", "build-7"} {
		at := filepath.Join(cache, name)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(at, long, long); err != nil {
			t.Fatal(err)
		}
	}
	all()
}
