// Package place puts a file that was made beside another into that one's place: at once, where symbolic links lead, with the mode and the owner
// that the old one had. Whoever has linked a token into a folder of secrets, or has let a group read it, finds that as it was.
package place

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// mostLinks is how many links are followed, as the kernel does.
const mostLinks = 40

// What of an old file's mode a new one may have.
const (
	All    fs.FileMode = 0o777
	Secret fs.FileMode = 0o770 // others may not read it, whatever they could before
)

// Of is where a file is, or would be made: at the end of the symbolic links that path is and leads through. What is there must be a plain file.
func Of(path string) (string, error) {
	for range mostLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return path, nil
		case err != nil:
			return "", err
		case info.Mode().IsRegular():
			return path, nil
		case info.Mode()&fs.ModeSymlink == 0:
			return "", fmt.Errorf("%s is no plain file", path)
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(dir, link)
		}
		path = link
	}
	return "", fmt.Errorf("%s: too many links", path)
}

// Take gives a file, whose content must be on the disk already, the place that Of has found, which must be in the same folder. When it returns nil that is
// on the disk too; a crash leaves the one or the other. The old file's owner is kept, and of its mode what most has too; if the group cannot be, only the owner may read.
func Take(made, at string, most fs.FileMode) error {
	if old, err := os.Stat(at); err == nil {
		mode := old.Mode().Perm() & most
		if !adopt(made, old) {
			mode &= 0o700
		}
		if err := os.Chmod(made, mode); err != nil {
			return err
		}
	}
	if err := os.Rename(made, at); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(at))
}

// CheckFile reports why a file could not be written at path, nil if it could, without changing what is there. What is no plain file (a pipe, a device) is not opened, which could
// wait, and counts as one that takes what comes.
func CheckFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a folder", path)
	case err == nil && !info.Mode().IsRegular():
		return nil
	case err == nil:
		return tryOpen(path, os.O_WRONLY)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	at, err := Of(path)
	if err != nil {
		return err
	}
	if err := tryOpen(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL); err != nil {
		return err
	}
	return os.Remove(at)
}

// CheckFolder reports why files could not be made in a folder, or the folder itself where it is not there yet, nil if they could. A full disk is none of its reasons.
func CheckFolder(path string) error {
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			if _, link := os.Lstat(at); link == nil {
				return fmt.Errorf("%s is a link that leads nowhere", at)
			}
			continue
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is no folder", at)
		}
		f, err := os.CreateTemp(at, ".machineid-*")
		switch {
		case isNoSpace(err):
			return nil
		case err != nil:
			return err
		}
		return errors.Join(f.Close(), os.Remove(f.Name()))
	}
}

func tryOpen(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
