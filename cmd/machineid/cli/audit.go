package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"machineid/cmd/machineid/cli/config"
	"machineid/shared/timestamp"
)

// auditView is an entry of the audit.
type auditView struct {
	ID     string `json:"id"`
	At     string `json:"at"`
	Action string `json:"action"`
	Actor  struct {
		Type string  `json:"type"`
		ID   *string `json:"id"`
	} `json:"actor"`
	Address   *string `json:"address"`
	RequestID *string `json:"request_id"`
	OrgID     *string `json:"orgId"`
	Target    *string `json:"target"`
	// Targets are those of count that are named, TargetsLeftOut how many are not.
	Targets        []string `json:"targets"`
	Count          int      `json:"count"`
	TargetsLeftOut int      `json:"targetsLeftOut"`
	// LeftOut says that the entry stands for count changes that have none of their own.
	LeftOut       bool                       `json:"leftOut"`
	Before, After map[string]json.RawMessage // what was set, by its name

	raw json.RawMessage // as it was sent
}

// tailFlags are the flags of audit tail.
type tailFlags struct {
	org, since, after string
	lines             int
	follow            bool

	from func(*auditView) bool // reports whether an entry, and so each before it, is not wanted any more; nil: the newest are
}

// read judges what is given, and when it was given.
func (f *tailFlags) read(now time.Time) error {
	switch {
	case f.lines < 0 || f.lines > maxLines:
		return fmt.Errorf("--lines: %d is out of range; choose 0 to %d", f.lines, maxLines)
	case f.since != "" && f.after != "":
		return errors.New("--after: --since is given too; give one of them")
	case f.after != "":
		if !entryID.MatchString(f.after) {
			return fmt.Errorf("--after: %q is no entry; give what a line has behind entry, such as 812-0", f.after)
		}
		f.from = func(e *auditView) bool { return !later(e.ID, f.after) }
	case f.since != "":
		ms, err := timestamp.Parse(f.since)
		if ago, derr := time.ParseDuration(f.since); derr == nil && ago >= 0 {
			ms, err = now.Add(-ago).UnixMilli(), nil
		}
		if err != nil {
			return fmt.Errorf("--since: %q is neither a time nor a duration; give one like 2030-01-02T15:04:05Z, or 90m", f.since)
		}
		f.from = func(e *auditView) bool {
			at, err := timestamp.Parse(e.At)
			return err == nil && at < ms
		}
	}
	return nil
}

// entryID is the form of an entry's id: the index of the change, and which of its entries.
var entryID = regexp.MustCompile(`^(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})$`)

// sinceMost bounds what --since and --after show at once: the oldest comes first, so all of it has to be here.
const sinceMost = 100_000

// followPause is how often audit tail --follow asks for what is new.
const followPause = time.Second

func newAuditCommand(settings *config.Settings, env environment) *cobra.Command {
	audit := &cobra.Command{Use: "audit", Short: "Read who changed what", Args: cobra.NoArgs}
	var f tailFlags
	tail := &cobra.Command{Use: "tail", Short: "Show the newest changes, and with --follow those to come", Args: cobra.NoArgs}
	addOperatorFlags(tail, settings.Validate, env, func(ctx context.Context, cmd *cobra.Command, o *operatorFlags, _ []string) error {
		if err := f.read(time.Now()); err != nil {
			return usageError{err}
		}
		return auditTail(ctx, cmd, o, &f)
	})
	tail.Flags().StringVar(&f.org, "org", "", "show the changes of one org, by its `NAME` or id")
	tail.Flags().IntVarP(&f.lines, "lines", "n", 20, "how many changes to begin with, at most 1000")
	tail.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with what comes, until the command is stopped")
	tail.Flags().StringVar(&f.since, "since", "", "begin with what was done since then, a `TIME` like 2030-01-02T15:04:05Z or a duration like 90m; all of it unless -n is given")
	tail.Flags().StringVar(&f.after, "after", "", "begin with what came after an entry, by its `ID`, which each line has; all of it unless -n is given")
	audit.AddCommand(tail)
	return audit
}

const maxLines = 1000

func auditTail(ctx context.Context, cmd *cobra.Command, o *operatorFlags, f *tailFlags) error {
	client := o.client()
	path := "operator/audit"
	if f.org != "" {
		id, err := orgID(ctx, client, f.org)
		if err != nil {
			return err
		}
		client.org, path = id, "audit"
	}
	w := cmd.OutOrStdout()
	first := f.lines
	if f.follow {
		first = maxLines // what may still grow is among them
	}
	entries, more, err := auditNewest(ctx, client, path, max(first, 1))
	if err != nil {
		return err
	}
	shown := entries[:min(f.lines, len(entries))]
	if f.from != nil {
		if shown, err = auditFrom(ctx, cmd, client, path, f); err != nil {
			return err
		}
		if f.follow && len(entries) > 0 { // what came meanwhile is followed
			shown = slices.DeleteFunc(shown, func(e auditView) bool { return later(e.ID, entries[0].ID) })
		}
		if cmd.Flags().Changed("lines") {
			shown = shown[:min(f.lines, len(shown))]
		}
	} else if older := more || len(shown) < len(entries); older && !cmd.Flags().Changed("lines") {
		printf(cmd.ErrOrStderr(), "older changes are not shown: -n shows as many as you say, %d at most, --since TIME all since then\n", maxLines)
	}
	if err := printAudit(w, o.output, shown); err != nil || !f.follow {
		return err
	}
	return auditFollow(cmd, client, o, path, entries)
}

// auditFollow shows what comes after what was found, the newest first, and what of it grows, until it is stopped by hand.
func auditFollow(cmd *cobra.Command, client *operatorClient, o *operatorFlags, path string, found []auditView) error {
	last, sums := "", auditSums{looked: time.Now()}
	for {
		if len(found) > 0 {
			last = found[0].ID
		}
		sums.note(found, time.Now())
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(followPause):
		}
		news, grown, err := auditNews(cmd.Context(), client, path, last, &sums, o.timeout)
		if cmd.Context().Err() != nil {
			return nil //nolint:nilerr // stopped by hand
		}
		if err != nil {
			return err
		}
		if err := printAudit(cmd.OutOrStdout(), o.output, slices.Concat(news, grown)); err != nil {
			return err
		}
		found = news
	}
}

// auditNews lists what came after an entry, and what grew, within the time of a call each.
func auditNews(ctx context.Context, c *operatorClient, path, last string, sums *auditSums, within time.Duration) (news, grown []auditView, err error) {
	if news, err = auditSince(ctx, c, path, last, within); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	grown, err = sums.grown(ctx, c, path, time.Now())
	return news, grown, err
}

// auditNewest lists so many entries, the newest first, and whether there are older ones. A page ends early where entries are large.
func auditNewest(ctx context.Context, c *operatorClient, path string, lines int) (list []auditView, more bool, err error) {
	for cursor := ""; ; {
		page, next, err := auditPage(ctx, c, path, lines-len(list), cursor)
		if err != nil {
			return nil, false, err
		}
		if list = append(list, page...); next == "" || len(list) >= lines {
			return list, next != "", nil
		}
		cursor = next
	}
}

// auditSince lists what came after an entry, the newest first.
func auditSince(ctx context.Context, c *operatorClient, path, last string, within time.Duration) (news []auditView, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	news, _, err = auditUntil(ctx, c, path, func(e *auditView) bool { return last != "" && !later(e.ID, last) })
	return news, err
}

// auditFrom lists what --since or --after asks for, the newest first.
func auditFrom(ctx context.Context, cmd *cobra.Command, c *operatorClient, path string, f *tailFlags) ([]auditView, error) {
	list, found, err := auditUntil(ctx, c, path, f.from)
	switch {
	case err != nil:
		return nil, err
	case len(list) > sinceMost:
		return nil, fmt.Errorf("more than %d changes were made since then: give a later --since, or --org", sinceMost)
	case !found && f.after != "" && f.after != "0-0": // before that there was nothing
		printf(cmd.ErrOrStderr(), "what came right after %s may be missing: entries are kept for 90 days, and no older one is there\n", f.after)
	}
	return list, nil
}

// auditUntil lists the entries, the newest first, before the first one that is not wanted, and whether there was one. It ends when it has more than sinceMost.
func auditUntil(ctx context.Context, c *operatorClient, path string, unwanted func(*auditView) bool) (list []auditView, found bool, err error) {
	// Little is asked for at first: mostly little has come.
	for cursor, size := "", 20; len(list) <= sinceMost; size = min(4*size, maxLines) {
		page, next, err := auditPage(ctx, c, path, size, cursor)
		if err != nil {
			return nil, false, err
		}
		for _, e := range page {
			if unwanted(&e) {
				return list, true, nil
			}
			list = append(list, e)
		}
		if next == "" {
			break
		}
		cursor = next
	}
	return list, false, nil
}

// later compares the ids of entries: index, hyphen, number.
func later(a, b string) bool {
	place := func(id string) (index, n uint64) {
		i, rest, _ := strings.Cut(id, "-")
		index, _ = strconv.ParseUint(i, 10, 64)
		n, _ = strconv.ParseUint(rest, 10, 64)
		return index, n
	}
	ai, an := place(a)
	bi, bn := place(b)
	return ai > bi || ai == bi && an > bn
}

// auditPage is a page of entries, the newest first, and the cursor of the one after it, "" if there is none.
func auditPage(ctx context.Context, c *operatorClient, path string, limit int, cursor string) (list []auditView, next string, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	var answer struct {
		Entries    []json.RawMessage `json:"entries"`
		NextCursor string            `json:"nextCursor"`
	}
	if err := c.call(ctx, http.MethodGet, path+"?"+q.Encode(), nil, &answer); err != nil {
		return nil, "", err
	}
	list = make([]auditView, len(answer.Entries))
	for i, raw := range answer.Entries {
		if err := json.Unmarshal(raw, &list[i]); err != nil {
			return nil, "", unreadable(err)
		}
		list[i].raw = raw
	}
	return list, answer.NextCursor, nil
}

// printAudit writes entries, which come the newest first, in the order of time: a line each, so that they can be followed.
func printAudit(w io.Writer, output string, list []auditView) error {
	var errs []error
	for _, e := range slices.Backward(list) {
		if output == "json" {
			_, err := fmt.Fprintf(w, "%s\n", e.raw)
			errs = append(errs, err)
			continue
		}
		who := e.Actor.Type
		if e.Actor.ID != nil {
			who += " " + shown(*e.Actor.ID)
		}
		line := e.At + "  " + e.what() + "  by " + who
		if e.Address != nil {
			line += " at " + cell(*e.Address)
		}
		if e.OrgID != nil && (e.Target == nil || *e.OrgID != *e.Target) {
			line += "  org " + shown(*e.OrgID)
		}
		if e.RequestID != nil {
			line += "  request " + shown(*e.RequestID)
		}
		line += "  entry " + e.ID
		_, err := fmt.Fprintln(w, plain(line))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// what says what was done, of what, and how it was set before and after.
func (e *auditView) what() string {
	var b strings.Builder
	b.WriteString(e.Action)
	if e.Target != nil {
		b.WriteString(" " + shown(*e.Target))
	}
	switch {
	case e.LeftOut:
		fmt.Fprintf(&b, " (%d more of the same by this caller, left out)", e.Count)
	case e.Count != 1:
		fmt.Fprintf(&b, " (%d)", e.Count)
	}
	if len(e.Targets) > 1 || e.Target != nil && len(e.Targets) == 1 && e.Targets[0] != *e.Target {
		b.WriteString(":")
		for _, id := range e.Targets {
			b.WriteString(" " + shown(id))
		}
		if e.TargetsLeftOut > 0 {
			fmt.Fprintf(&b, " and %d more", e.TargetsLeftOut)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.After)) {
		fmt.Fprintf(&b, "  %s %s -> %s", name, e.Before[name], e.After[name])
	}
	return b.String()
}
