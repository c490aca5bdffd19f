package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"machineid/authority/billing"
	"machineid/cmd/machineid/cli/config"
)

// Variables that hold Stripe's secrets themselves.
const (
	stripeKeyEnv     = "MACHINEID_STRIPE_SECRET_KEY"
	stripeWebhookEnv = "MACHINEID_STRIPE_WEBHOOK_SECRET"
)

// billingFlags are the settings of payments.
type billingFlags struct {
	keyFile, webhookFile     string
	pro, scale, most         []string
	success, cancel, returns string
	url                      string
	graceDays                uint32
	plans                    planFlags

	config billing.Config // filled in by validate
}

func (f *billingFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.keyFile, "stripe-secret-key-file", "", "the `FILE` of Stripe's secret key; or give the key in "+stripeKeyEnv)
	fs.StringVar(&f.webhookFile, "stripe-webhook-secret-file", "", "the `FILE` of the secret by which Stripe signs webhooks; or give it in "+stripeWebhookEnv)
	fs.StringSliceVar(&f.pro, "stripe-price-pro", nil, "Stripe's price `IDS` of the plan pro: the first is sold, the others are still known")
	fs.StringSliceVar(&f.scale, "stripe-price-scale", nil, "likewise of the plan scale: `IDS`")
	fs.StringSliceVar(&f.most, "stripe-price-max", nil, "likewise of the plan max: `IDS`")
	fs.StringVar(&f.success, "stripe-success-url", "", "the `URL` where a checkout ends that was paid")
	fs.StringVar(&f.cancel, "stripe-cancel-url", "", "the `URL` where a checkout ends that was left")
	fs.StringVar(&f.returns, "stripe-return-url", "", "the `URL` to which Stripe's portal leads back")
	fs.StringVar(&f.url, "stripe-url", "", "the `URL` of Stripe's API, where it is not Stripe: for tests")
}

// registerPlans is for commands that may begin a cluster.
func (f *billingFlags) registerPlans(fs *pflag.FlagSet) {
	f.plans.register(fs)
	fs.Uint32Var(&f.graceDays, "grace-days", 7, "how many days an org goes on to work after a payment failed, 0 to 90; read by a new cluster only")
}

func (f *billingFlags) validate(env environment) error {
	var faults []error
	key, err := secretOf("stripe-secret-key-file", f.keyFile, env.get(stripeKeyEnv), stripeKeyEnv)
	faults = append(faults, err)
	hook, err := secretOf("stripe-webhook-secret-file", f.webhookFile, env.get(stripeWebhookEnv), stripeWebhookEnv)
	faults = append(faults, err)
	f.config = billing.Config{
		SecretKey: billing.Secret(key), WebhookSecret: billing.Secret(hook), URL: f.url,
		Prices:     map[string][]string{"pro": f.pro, "scale": f.scale, "max": f.most},
		SuccessURL: f.success, CancelURL: f.cancel, ReturnURL: f.returns,
	}
	if f.graceDays > 90 {
		faults = append(faults, fmt.Errorf("--grace-days: %d is out of range; choose 0 to 90", f.graceDays))
	}
	if f.plans.given != nil { // registered
		faults = append(faults, f.plans.validate())
	}
	return errors.Join(append(faults, f.config.Validate())...)
}

// secretOf takes a secret from a file or from the environment.
func secretOf(flag, file, given, env string) (string, error) {
	given, err := cleanSecret(given)
	switch {
	case err != nil:
		return "", fmt.Errorf("--%s: %s %w", flag, env, err)
	case file == "":
		return given, nil
	case given != "":
		return "", fmt.Errorf("--%s: %s is set too; give it in one place", flag, env)
	}
	secret, err := readSecret(file)
	if err == nil && secret == "" {
		err = fmt.Errorf("%s is empty", file)
	}
	if err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	return secret, nil
}

func newConfigCommand(settings *config.Settings, env environment) *cobra.Command {
	parent := &cobra.Command{Use: "config", Short: "Look at the settings", Args: cobra.NoArgs}
	f := &billingFlags{}
	check := &cobra.Command{
		Use: "check", Short: "Check the settings of payments, and ask Stripe for each price", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return checkConfig(cmd, f) },
	}
	f.register(check.Flags())
	settings.Validate(check, func() error { return f.validate(env) })
	parent.AddCommand(check)
	return parent
}

// checkTime bounds all that config check asks.
const checkTime = 30 * time.Second

func checkConfig(cmd *cobra.Command, f *billingFlags) error {
	out := cmd.OutOrStdout()
	if f.config.SecretKey == "" {
		printf(out, "payments are not set up: there is no --stripe-secret-key-file; every org stays in the plan it was given\n")
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), checkTime)
	defer cancel()
	list, err := billing.New(f.config).Check(ctx)
	if err != nil {
		return unavailableError{fmt.Errorf("the prices could not be checked: %w", err)}
	}
	var faults []error
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	printf(w, "PLAN\tPRICE\tSTRIPE SAYS\n")
	for _, p := range list {
		said := p.Found
		if p.Fault != "" {
			said = p.Fault
			faults = append(faults, fmt.Errorf("--stripe-price-%s: %s: %s", p.Tier, p.ID, p.Fault))
		}
		printf(w, "%s\t%s\t%s\n", p.Tier, p.ID, said)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, missing := range []struct{ value, flag, then string }{
		{string(f.config.WebhookSecret), "stripe-webhook-secret-file", "webhooks are refused, and payments seen once a day"},
		{f.success, "stripe-success-url", "nobody can pay"},
		{f.cancel, "stripe-cancel-url", "nobody can pay"},
		{f.returns, "stripe-return-url", "nobody can manage what they pay"},
	} {
		if missing.value == "" {
			faults = append(faults, fmt.Errorf("--%s: is missing: %s", missing.flag, missing.then))
		}
	}
	if len(list) == 0 {
		faults = append(faults, errors.New("--stripe-price-pro, -scale, -max: none is set: nothing can be bought"))
	}
	return errors.Join(faults...)
}

// syncView is the answer of POST operator/billing/sync.
type syncView struct {
	Checked     int                  `json:"checked"`
	Differences []billing.Difference `json:"differences"`
	NextCursor  string               `json:"nextCursor,omitempty"`
}

func newBillingCommand(settings *config.Settings, env environment) *cobra.Command {
	parent := &cobra.Command{Use: "billing", Short: "Look after what orgs pay", Args: cobra.NoArgs}
	sync := &cobra.Command{Use: "sync", Short: "Compare every org that pays with Stripe, slowly, and set right what differs", Args: cobra.NoArgs}
	var pause time.Duration
	sync.Flags().DurationVar(&pause, "pause", 500*time.Millisecond, "how long to rest after each org: Stripe counts requests")
	addOperatorFlags(sync, settings.Validate, env, func(_ context.Context, cmd *cobra.Command, f *operatorFlags, _ []string) error {
		if pause < 0 {
			return usageError{fmt.Errorf("--pause: %v is no time to rest; give one such as 1s, or 0s", pause)}
		}
		return syncBilling(cmd.Context(), cmd, f, pause)
	})
	parent.AddCommand(sync)
	return parent
}

// syncBilling asks for one org after the other. --timeout counts for each call.
func syncBilling(ctx context.Context, cmd *cobra.Command, f *operatorFlags, pause time.Duration) error {
	all := syncView{Differences: []billing.Difference{}}
	client := f.client()
	for cursor, more := "", true; more; more = cursor != "" {
		body := map[string]any{"limit": 1}
		if cursor != "" {
			body["cursor"] = cursor
		}
		var page syncView
		call, cancel := context.WithTimeout(ctx, f.timeout)
		err := client.call(call, http.MethodPost, "operator/billing/sync", body, &page)
		cancel()
		if err != nil {
			return fmt.Errorf("after %d orgs: %w", all.Checked, err)
		}
		all.Checked, all.Differences, cursor = all.Checked+page.Checked, append(all.Differences, page.Differences...), page.NextCursor
		if cursor == "" {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return all.print(cmd, f.output)
}

func (v syncView) print(cmd *cobra.Command, output string) error {
	out := cmd.OutOrStdout()
	if output == "json" {
		if err := printJSON(out, v); err != nil {
			return err
		}
	} else {
		printf(out, "%d orgs compared with Stripe, %d differences\n", v.Checked, len(v.Differences))
		for _, d := range v.Differences {
			printf(out, "\n%s\n  had     %s\n  Stripe  %s\n", d.OrgID, d.Had, d.Has)
			for _, other := range d.Others {
				printf(out, "  also    %s\n", other)
			}
			if d.Error != "" {
				printf(out, "  fault   %s\n", d.Error)
			}
		}
	}
	for _, d := range v.Differences {
		if d.Error != "" {
			return errors.New("some orgs could not be set right")
		}
	}
	return nil
}
