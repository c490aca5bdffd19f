package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// orgRun runs what is about one org, whose id is the first argument.
type orgRun func(context.Context, *cobra.Command, *operatorFlags, []string) error

// byOrg lets a command take its org by id or by name, as its first argument or by --org.
func byOrg(cmd *cobra.Command, takes cobra.PositionalArgs, run orgRun) orgRun {
	cmd.Flags().String("org", "", "the org, by `NAME` or id, in the place of ORG")
	// On the command line --org stands for ORG. One that a file or the environment gives is taken only where nothing else is missing and nothing was typed that
	// could be meant as an org: it must not make a device of one.
	given, typed := false, 0
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		given, typed = cmd.Flags().Changed("org"), len(args)
		err := takes(cmd, args)
		if with := takes(cmd, append([]string{"ORG"}, args...)); given {
			if err = with; err != nil && takes(cmd, args) == nil && typed > 0 {
				err = fmt.Errorf("--org is in the place of ORG, so that %q is too much", args[0])
			}
		} else if typed == 0 && with == nil {
			err = nil // the settings may name it: see below
		}
		return err
	}
	return func(ctx context.Context, cmd *cobra.Command, f *operatorFlags, args []string) error {
		name, err := cmd.Flags().GetString("org")
		if err != nil {
			return err
		}
		switch {
		case given, typed == 0 && name != "":
			args = append([]string{name}, args...)
		case typed == 0:
			return usageError{fmt.Errorf("ORG is missing: give it, or --org, MACHINEID_ORG or org in a file of settings; it is called so: %s", cmd.UseLine())}
		}
		// What a command says of its own arguments needs no cluster, and is said before the org is looked for.
		first := *f
		first.rehearses = true
		if usage, is := errors.AsType[usageError](run(ctx, cmd, &first, args)); is {
			return usage
		}
		id, err := orgID(ctx, f.client(), args[0])
		if err != nil {
			return err
		}
		return run(ctx, cmd, f, append([]string{id}, args[1:]...))
	}
}

// orgID is the id of the org that a command names. What has the form of an id is one, whatever orgs are called.
func orgID(ctx context.Context, c *operatorClient, name string) (string, error) {
	if id, err := uuid.Parse(name); err == nil && id.String() == name {
		return name, nil
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return "", usageError{fmt.Errorf("%s is no org's id or name", shown(name))}
	}
	var found []string
	err := eachOrg(ctx, c, func(raw json.RawMessage) error {
		var o orgView
		if err := json.Unmarshal(raw, &o); err != nil {
			return unreadable(err)
		}
		if o.Name != nil && *o.Name == name {
			found = append(found, o.OrgID)
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", fmt.Errorf("no org has the id or the name %s: 'machineid org list' lists those there are", shown(name))
	case len(found) > 1:
		return "", fmt.Errorf("%d orgs have the name %s: give the id of the one that is meant: %s", len(found), shown(name), strings.Join(found, ", "))
	}
	return found[0], nil
}

// eachOrg reads all orgs, page by page.
func eachOrg(ctx context.Context, c *operatorClient, take func(json.RawMessage) error) error {
	for cursor := ""; ; {
		q := url.Values{"limit": {"1000"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var page struct {
			Orgs       []json.RawMessage `json:"orgs"`
			NextCursor string            `json:"nextCursor"`
		}
		if err := c.call(ctx, http.MethodGet, "operator/orgs?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, raw := range page.Orgs {
			if err := take(raw); err != nil {
				return err
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			return nil
		}
	}
}
