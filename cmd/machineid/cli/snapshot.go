package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"machineid/authority"
	"machineid/cmd/machineid/cli/config"
	"machineid/raftstore"
	"machineid/shared/place"
	"machineid/shared/timestamp"
	"machineid/shared/wire"
)

func newSnapshotCommand(settings *config.Settings, env environment) *cobra.Command {
	snapshot := &cobra.Command{Use: "snapshot", Short: "Save the state to a file, look at such a file, begin a cluster from it", Args: cobra.NoArgs}

	save := &cobra.Command{
		Use: "save FILE", Short: "Save the state of a running cluster, with all that was acknowledged before", Args: cobra.ExactArgs(1),
		Long: `Save the state of a running cluster, with all that was acknowledged before.

The first node of --operator-url that answers is asked. If it cannot know that it
has all, because no leader is known or it is far behind, it sends what it has, and
a warning says so.`,
	}
	var force bool
	f := &operatorFlags{}
	f.register(save.Flags())
	save.Flags().BoolVar(&force, "force", false, "replace FILE if it is there")
	settings.Validate(save, func() error { return f.validate(env) })
	save.RunE = func(cmd *cobra.Command, args []string) error {
		speakAs(cmd)
		if args[0] == "-" {
			return usageError{errors.New("a backup is checked before it gets its name, so it goes to a file and not to standard output; ./- is one of that name")}
		}
		return saveSnapshot(cmd, f, args[0], force)
	}

	var output string
	inspect := &cobra.Command{
		Use: "inspect FILE", Short: "Check a saved state and say what is in it", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return inspectSnapshot(cmd, args[0], output) },
	}
	inspect.Flags().StringVarP(&output, "output", "o", "table", "`FORM` of the output: table or json")
	settings.Validate(inspect, func() error { return checkOutput(output) })

	offline := &offlineFlags{}
	restore := &cobra.Command{
		Use: "restore FILE --data DIR --id ID --raft ADDRESS", Short: "Begin another cluster, of one node, from a saved state",
		Long: `Begin another cluster, of one node, from a saved state.

What was changed after the state was saved is undone, revokes too. All nodes of
the old cluster must have been stopped for good; edges need no restart. Start the
node afterwards without --bootstrap, and let others join it with empty folders. If
it is cut, run it again: the folder is made whole, or not at all.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return restoreSnapshot(cmd, args[0], offline) },
	}
	offline.register(restore.Flags())
	settings.Validate(restore, offline.validate)

	snapshot.AddCommand(save, inspect, restore)
	return snapshot
}

func checkOutput(output string) error {
	if output != "table" && output != "json" {
		return fmt.Errorf("--output: %q is no form of output; choose table or json", output)
	}
	return nil
}

// offlineFlags say which folder is made or changed while no node uses it, and whose it is.
type offlineFlags struct{ data, id, raft string }

func (f *offlineFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.data, "data", "", "the data folder `DIR` of the node (required)")
	fs.StringVar(&f.id, "id", "", "the node's `NAME` (required)")
	fs.StringVar(&f.raft, "raft", "", "the `ADDRESS` at which other nodes will reach its Raft (required)")
}

func (f *offlineFlags) validate() error {
	var faults []error
	if f.data == "" {
		faults = append(faults, errors.New("--data: is required; name the data folder"))
	}
	faults = append(faults, checkData(f.data))
	if f.id == "" {
		faults = append(faults, errors.New("--id: is required; give the node's name"))
	} else if err := raftstore.CheckID(f.id); err != nil {
		faults = append(faults, fmt.Errorf("--id: %q is no node's name: %w", f.id, err))
	}
	if f.raft == "" {
		faults = append(faults, errors.New("--raft: is required; give the address at which other nodes will reach this one's Raft (its --advertise-raft, or --raft)"))
	} else if err := raftstore.CheckAddress(f.raft); err != nil {
		faults = append(faults, fmt.Errorf("--raft: %w", err))
	}
	return errors.Join(faults...)
}

// saveSnapshot writes beside the file, checks, and gives it its name when it is whole.
func saveSnapshot(cmd *cobra.Command, f *operatorFlags, path string, force bool) error {
	if _, err := os.Stat(path); err == nil && !force {
		return usageError{fmt.Errorf("%s is there already: name another file, or add --force", path)}
	}
	at, err := place.Of(path)
	tmp := at + ".tmp"
	if err == nil {
		_ = os.Remove(tmp) // what an attempt has left
		err = place.CheckFile(tmp)
	}
	if err != nil {
		return usageError{fmt.Errorf("FILE: %w", unwritable(err))}
	}
	end := time.Now().Add(f.timeout)
	for {
		base, doubt, err := fetchAny(cmd, f, tmp, end)
		if err == nil {
			return nameSnapshot(cmd, f, base, tmp, at, path, doubt)
		}
		later, again := errors.AsType[laterError](err)
		if !again {
			return err
		}
		if time.Until(end) < later.pause {
			return unavailableError{later.error}
		}
		select {
		case <-cmd.Context().Done():
			return unavailableError{later.error}
		case <-time.After(later.pause):
		}
	}
}

// laterError says that nobody could serve now, and when it may be asked again.
type laterError struct {
	error

	pause time.Duration
}

// fetchAny asks one address after the other, each in its share of the time that is left until it begins to answer. A copy of which its node doubts that it is whole
// is kept only if no other node has a better one.
func fetchAny(cmd *cobra.Command, f *operatorFlags, tmp string, end time.Time) (from, doubt string, err error) {
	var last, stranger error
	pause, doubted := operatorPause, false
	for i, base := range f.urls {
		one := *f
		one.share = max(time.Until(end)/time.Duration(len(f.urls)-i), operatorShare)
		to := tmp
		if doubted {
			to = tmp + "2"
		}
		said, err := fetchSnapshot(cmd.Context(), cmd.ErrOrStderr(), &one, base, to)
		switch {
		case err == nil && said == "":
			if to != tmp {
				err = os.Rename(to, tmp)
			}
			return base, "", err
		case err == nil && doubted:
			_ = os.Remove(to)
			continue
		case err == nil:
			from, doubt, doubted = base, said, true
			continue
		}
		_ = os.Remove(to)
		refused, _ := errors.AsType[*refusedError](err)
		_, strange := errors.AsType[strangerError](err)
		var file *os.PathError
		switch {
		case errors.As(err, &file): // of this machine
			return "", "", err
		case strange, refused != nil && refused.status == http.StatusUnauthorized: // another cluster's, maybe
			stranger = errors.Join(stranger, fmt.Errorf("%s: %w", base, err))
			continue
		case refused != nil && refused.status == http.StatusTooManyRequests:
			pause = max(pause, refused.retryAfter)
		case refused != nil && refused.status < http.StatusInternalServerError:
			return "", "", fmt.Errorf("%s: %w", base, err)
		}
		last = errors.Join(last, fmt.Errorf("%s: %w", base, reason(err)))
	}
	switch {
	case doubted:
		return from, doubt, nil
	case stranger != nil:
		return "", "", errors.Join(stranger, last)
	}
	return "", "", laterError{last, pause}
}

// savedBackup is a backup that was saved, and why it may lack changes that were acknowledged before; nil: it does not.
type savedBackup struct {
	authority.Backup
	Doubt *string `json:"doubt"`
}

// nameSnapshot puts a file that is whole at its place, which path leads to.
func nameSnapshot(cmd *cobra.Command, f *operatorFlags, base, tmp, at, path, doubt string) error {
	file, err := os.Open(tmp)
	if err != nil {
		return err
	}
	b, err := authority.InspectBackup(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(fmt.Errorf("what came is damaged, try again: %w", err), os.Remove(tmp))
	}
	if err := place.Take(tmp, at, place.All); err != nil {
		return err
	}
	saved := savedBackup{Backup: b}
	if doubt != "" {
		saved.Doubt = &doubt
		printf(cmd.ErrOrStderr(), "warning: %s holds index %d, and may lack changes that were acknowledged before it was asked for: %s. "+
			"Save again when a leader is known, or name another node in --operator-url\n", path, b.Position.Index, doubt)
	}
	if doubt == "" {
		tellKept(cmd, f, base, b)
	}
	if f.output == "json" {
		return printJSON(cmd.OutOrStdout(), saved)
	}
	printf(cmd.OutOrStdout(), "saved %s: %d orgs, %d devices, at index %d, checked\n", path, b.Orgs, b.Devices, b.Position.Index)
	return nil
}

// tellKept has a backup count at the node that sent it: what was sent and thrown away is none.
func tellKept(cmd *cobra.Command, f *operatorFlags, base string, b authority.Backup) {
	ctx, cancel := context.WithTimeout(cmd.Context(), min(f.timeout, operatorCall))
	defer cancel()
	client := f.client()
	client.urls = []string{base}
	body := map[string]any{"keptIndex": b.Position.Index, "keptTerm": b.Position.Term}
	if err := client.call(ctx, http.MethodPost, "operator/cluster/snapshot", body, nil); err != nil {
		printf(cmd.ErrOrStderr(), "warning: the backup is whole, but %s could not be told, and will be said to have none of now: %v\n", base, err)
	}
}

// progressEvery is how often a transfer says how far it is, on a terminal.
const progressEvery = 200 * time.Millisecond

// fetchSnapshot writes a backup to the file tmp. It returns why the node that sent it doubts that it is whole, "" if it does not. --timeout is how long
// nothing may come, not how long all of it takes.
func fetchSnapshot(ctx context.Context, notes io.Writer, f *operatorFlags, base, tmp string) (doubt string, err error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	silent := func(most time.Duration) *time.Timer {
		return time.AfterFunc(most, func() { giveUp(fmt.Errorf("nothing has come for %s", most)) })
	}
	silence := silent(cmp.Or(f.share, f.timeout))
	defer func() { silence.Stop() }()
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause // what was broken off by it says no more
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+wire.Base+"operator/cluster/snapshot", http.NoBody)
	if err != nil {
		return "", fmt.Errorf("make the call: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+string(f.token))
	id := rand.Text()
	req.Header.Set("X-Request-Id", id)
	client := f.client().http
	client.Timeout = 0 // as long as it takes
	resp, err := client.Do(req)
	if err != nil {
		return "", cmp.Or(foreignSpeech(err), err)
	}
	defer func() { _ = resp.Body.Close() }()
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 || strings.HasPrefix(kind, "text/") || strings.HasPrefix(kind, "application/json") {
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16)) // what is not read says nothing
		if err := refusedBy(resp, raw, "operator/cluster/snapshot", id); err != nil {
			return "", err
		}
		return "", strange("answers with no backup")
	}
	if err := belongs(resp, id); err != nil {
		return "", err
	}
	silence.Stop()
	silence = silent(f.timeout)
	_ = os.Remove(tmp) // what an attempt has left, or somebody has put there for us to write through
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	p := &progress{total: resp.ContentLength, began: time.Now(), moves: func() { silence.Reset(f.timeout) }}
	if stat, serr := os.Stderr.Stat(); serr == nil && stat.Mode()&os.ModeCharDevice != 0 && behind(notes) == os.Stderr {
		p.to = behind(notes)
	}
	n, err := io.Copy(io.MultiWriter(file, p), resp.Body)
	if err == nil && n != resp.ContentLength {
		err = fmt.Errorf("%d bytes came of %d", n, resp.ContentLength)
	}
	if err == nil {
		err = file.Sync()
	}
	p.end()
	return resp.Header.Get(wire.DoubtHeader), errors.Join(err, file.Close())
}

// progress shows how far a transfer is.
type progress struct {
	to          io.Writer // nil: nowhere
	total, done int64
	began, said time.Time
	moves       func()
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	p.moves()
	if p.to != nil && time.Since(p.said) >= progressEvery {
		p.said = time.Now()
		const width = 30
		filled := int(width * p.done / max(p.total, 1))
		fmt.Fprintf(p.to, "\r[%-*s] %3d %%  %.1f of %.1f MB  %.1f MB/s", width, bar(filled), 100*p.done/max(p.total, 1),
			float64(p.done)/1e6, float64(p.total)/1e6, float64(p.done)/1e6/time.Since(p.began).Seconds())
	}
	return len(b), nil
}

func bar(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = '='
	}
	return string(b)
}

func (p *progress) end() {
	if p.to != nil && !p.said.IsZero() {
		fmt.Fprintln(p.to)
	}
}

func inspectSnapshot(cmd *cobra.Command, path, output string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	b, err := authority.InspectBackup(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if output == "json" {
		return printJSON(cmd.OutOrStdout(), b)
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	printf(t, "cluster\t%s\nindex\t%d (term %d)\ntime\t%s\nincarnation\t%s\norgs\t%d\ndevices\t%d\nkeys\t%d\nsize\t%d bytes in %d files, every checksum right\n",
		b.Cluster, b.Position.Index, b.Position.Term, timestamp.Format(b.Time.UnixMilli()), b.Incarnation, b.Orgs, b.Devices, b.Keys, b.Bytes, b.Files)
	for _, m := range b.Members {
		role := "voter"
		if m.NonVoter {
			role = "non-voter"
		}
		printf(t, "member\t%s at %s, %s\n", m.ID, m.Address, role)
	}
	return t.Flush()
}

func restoreSnapshot(cmd *cobra.Command, path string, f *offlineFlags) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	begun, err := authority.RestoreBackup(f.data, file, f.id, f.raft)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	printf(cmd.OutOrStdout(), "restored index %d into %s: cluster %s, which replaces %s. Changes after it are undone, revokes too.\n"+
		"Next: machineid authority --id %s --data %s --raft %s, then let other nodes join with empty folders.\n",
		begun.Index, f.data, begun.Cluster, begun.Replaces, f.id, f.data, f.raft)
	return nil
}
