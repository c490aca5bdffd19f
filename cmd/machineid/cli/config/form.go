package config

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
)

var (
	// errEmpty refuses what a script or a template lost on its way: taken for "not given", it would be a default that nobody chose.
	errEmpty = errors.New("is empty")
	errForm  = errors.New("is written in another form")
)

// Numbers are decimal and have no zeros in front: pflag reads 010 as 8, and takes 0x10, 1_000, +5 and inf.
var (
	whole    = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	fraction = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

// Whole reads a number from 0 to most, in the form that flags of numbers have.
func Whole(text string, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > most || !whole.MatchString(text) {
		return 0, errForm
	}
	return n, nil
}

// checkForm refuses values of pflag's types that the type itself would take for something else than what was meant.
func checkForm(kind, value string) error {
	switch {
	case strings.HasPrefix(kind, "string"):
		if value == "" {
			return errEmpty
		}
	case strings.HasPrefix(kind, "int") || strings.HasPrefix(kind, "uint") || kind == "count":
		if !whole.MatchString(value) {
			return errForm
		}
	case strings.HasPrefix(kind, "float"):
		if !fraction.MatchString(value) {
			return errForm
		}
	}
	return nil
}
