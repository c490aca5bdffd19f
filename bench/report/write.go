package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Form is how a report is written.
type Form func(*Report, io.Writer) error

// FormOf returns the form that the ending of a file's name means.
func FormOf(path string) (Form, error) {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json":
		return (*Report).JSON, nil
	case ".html", ".htm":
		return (*Report).HTML, nil
	case ".txt":
		return (*Report).Text, nil
	}
	return nil, fmt.Errorf("%q ends with none of .txt, .json and .html", path)
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return nil
}

// Save writes the report into a file, in the form that its ending means.
func (r *Report) Save(path string) error {
	form, err := FormOf(path)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("save the report: %w", err)
	}
	if err := errors.Join(form(r, f), f.Close()); err != nil {
		return fmt.Errorf("save the report as %s: %w", path, err)
	}
	return nil
}
