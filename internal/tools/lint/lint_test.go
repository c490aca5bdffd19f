package main

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// TestLint: each analyzer says what stands behind "want" in its package of testdata, and nothing of any other line.
func TestLint(t *testing.T) {
	for _, a := range analyzers() {
		t.Run(a.Name, func(t *testing.T) { analysistest.Run(t, analysistest.TestData(), a, a.Name) })
	}
}
