package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"machineid/authority/mail"
	"machineid/raftstore"
	"machineid/shared/dial"
)

// smtpPasswordEnv holds the mail server's password itself.
const smtpPasswordEnv = "MACHINEID_SMTP_PASSWORD"

// mailFlags are the settings of what is mailed: links by which orgs that pay get a new key.
type mailFlags struct {
	address, user, passwordFile, from, publicURL string

	sender mail.Sender // filled in by validate; nil mails nobody
}

func (f *mailFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.address, "smtp-address", "", "the `ADDRESS` of the mail server, host:port; it must offer STARTTLS, or TLS on port 465")
	fs.StringVar(&f.user, "smtp-user", "", "the `NAME` to log in with; without it there is no login")
	fs.StringVar(&f.passwordFile, "smtp-password-file", "", "the `FILE` of its password; or give it in "+smtpPasswordEnv)
	fs.StringVar(&f.from, "smtp-from", "", "the mail `ADDRESS` that mails come from")
	fs.StringVar(&f.publicURL, "public-url", "", "the `URL` at which people reach this installation: what links in mails begin with")
}

func (f *mailFlags) validate(env environment) error {
	var faults []error
	password, err := secretOf("smtp-password-file", f.passwordFile, env.get(smtpPasswordEnv), smtpPasswordEnv)
	faults = append(faults, err)
	if f.publicURL != "" {
		if _, err := dial.BaseURL(f.publicURL); err != nil {
			faults = append(faults, fmt.Errorf("--public-url: %q is no address such as https://machineid.example.com", f.publicURL))
		}
	}
	if f.address == "" {
		if f.from != "" || f.user != "" {
			faults = append(faults, errors.New("--smtp-address: is missing, and other settings of mails are there; give it, or take them away"))
		}
		return errors.Join(faults...)
	}
	if err := raftstore.CheckAddress(f.address); err != nil {
		faults = append(faults, fmt.Errorf("--smtp-address: %w", err))
	}
	if _, ok := mail.Plain(f.from); !ok {
		faults = append(faults, fmt.Errorf("--smtp-from: %q is no plain mail address; write for example machineid@example.com", f.from))
	}
	if f.publicURL == "" {
		faults = append(faults, errors.New("--public-url: is missing: links in mails begin with it"))
	}
	f.sender = mail.SMTP{Address: f.address, User: f.user, Password: mail.Secret(password), From: f.from}
	return errors.Join(faults...)
}
