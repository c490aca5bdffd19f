package report

import (
	"fmt"
	"os"
	"strings"
)

// Insert writes text into a document in place of what stands between its markers
//
//	<!-- name: begin --> and <!-- name: end -->
//
// so that a command's figures can be made anew. A document without both is an
// error, and stays as it was.
func Insert(file, name, text string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->"
	head, rest, has := strings.Cut(string(b), begin)
	_, tail, ends := strings.Cut(rest, end)
	if !has || !ends {
		return fmt.Errorf("%s lacks the lines %q and %q: put them where the figures belong", file, strings.TrimSpace(begin), end)
	}
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	text = head + begin + strings.TrimRight(text, "\n") + "\n" + end + tail
	if err := os.WriteFile(file, []byte(text), info.Mode().Perm()); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	return nil
}
