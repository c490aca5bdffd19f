package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// faultError is one thing wrong with a configuration.
type faultError struct {
	origin  string // where it was written: "flag --lease", "env MACHINEID_LEASE", "machineid.conf:12"
	problem string
	remedy  string // what to do; may be empty

	cause error
}

func (f *faultError) Error() string {
	text := f.origin + ": " + f.problem
	if f.remedy != "" {
		text += "; " + f.remedy
	}
	return text
}

// Unwrap gives the validation's own error, if one was the cause.
func (f *faultError) Unwrap() error { return f.cause }

// Error is everything that is wrong with the configuration of one command.
type Error struct {
	Command string // its path, "machineid edge"

	faults []error
}

// Error lists the faults, one a line.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %d fault", e.Command, len(e.faults))
	if len(e.faults) != 1 {
		text.WriteByte('s')
	}
	text.WriteString(" in its configuration:")
	for _, fault := range e.faults {
		text.WriteString("\n  " + strings.ReplaceAll(fault.Error(), "\n", "\n    "))
	}
	return text.String()
}

// Unwrap gives the faults; errors.Is and errors.As find those of the command's own validation.
func (e *Error) Unwrap() []error { return e.faults }

// ExitCode is what a process that was configured like this ends with: 2, usage or configuration.
func (e *Error) ExitCode() int { return 2 }

// explain says in a person's words why a value of a pflag type was refused (or, without an error, that it was left out).
func explain(kind, value string, err error) (problem, remedy string) {
	quoted := strconv.Quote(value)
	if len(value) > 64 {
		quoted = strconv.Quote(value[:64]) + "..."
	}
	if errors.Is(err, errEmpty) {
		return "the value is empty", "write one, or leave the setting out"
	}
	if errors.Is(err, strconv.ErrRange) {
		return quoted + " is too large or too small", "write a number nearer to zero"
	}
	switch kind {
	case "duration":
		return quoted + " is not a duration", "write for example 250ms, 3s or 1m30s"
	case "bool":
		return quoted + " is neither true nor false", "write true or false"
	case "int", "int32", "int64", "uint", "uint16", "uint32", "uint64", "count":
		return quoted + " is not a whole number", "write for example 1000"
	case "float32", "float64":
		return quoted + " is not a number", "write for example 0.01"
	case "stringSlice":
		return quoted + " is not a list", "write the items with commas between them"
	}
	if err == nil {
		return "", "write it after the flag"
	}
	return err.Error(), ""
}
