package a

import (
	"errors"
	"os"
)

func work() error { return errors.New("broken") }

func found(v any) string {
	work()            // want `unchecked error`
	return v.(string) // want `unchecked error`
}

func routine(f *os.File) { f.Close() }

func excused() {
	work() //nolint:errcheck // it may fail
}

func stale() error {
	return work() //nolint:errcheck // it may fail // want `errcheck has nothing to say of this line`
}

func bare() {
	work() /* want `say why` */ //nolint:errcheck
}

func unknown() error {
	return work() //nolint:gosec // it may fail // want `"gosec" is no analyzer of lint`
}
